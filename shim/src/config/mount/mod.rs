//! What is mounted in the container, and the links beside it.

pub mod flags;
mod options;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::options::MountOptions;
use super::IdMap;
use super::fault::{Check, Fault, each};
use super::json::{list, objects};
use super::path;

/// The kinds of mounts that a container may have: file systems, and `bind`.
///
/// `cgroup` is the container's own groups, read-only, whatever the version of the hierarchy.
const DEVICES: [&str; 11] = [
    "bind",
    "cgroup",
    "cgroup2",
    "devpts",
    "hugetlbfs",
    "mqueue",
    "overlay",
    "proc",
    "ramfs",
    "sysfs",
    "tmpfs",
];

/// The files of proc that a mount may cover: lxcfs shows a container its own share there.
const COVERABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The longest data of mount(2): a page with its NUL.
const DATA_MAX: usize = 4095;

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Raw")]
pub struct Mount {
    /// The source: an absolute host path for a bind, else a name that `/proc/mounts` shows.
    pub source: String,
    /// The place in the container, from its root.
    pub destination: String,
    /// The type of file system, or `bind`, or `cgroup`.
    pub device: String,
    /// `MS_*` flags of mount(2). In files also a list of names, or a string with commas: see
    /// [`MountOptions`].
    pub flags: u64,
    /// Options of the file system, with commas between.
    pub data: String,
    /// SELinux relabelling of the source: `z` shared, `Z` private.
    pub relabel: String,
    /// Commands run on the host's side before the mount.
    #[serde(with = "objects")]
    pub premount_cmds: Vec<Command>,
    /// Commands run on the host's side after the mount.
    #[serde(with = "objects")]
    pub postmount_cmds: Vec<Command>,
    /// Addition: `MS_*` flags that the source of a bind may have and that are cleared.
    #[serde(skip_serializing_if = "is_zero")]
    pub cleared: u64,
    /// Addition: the propagation, `MS_PRIVATE` and the like, with `MS_REC` where it also holds for
    /// the mounts below, apart from [`Mount::flags`], whose `MS_REC` is that of the bind.
    #[serde(skip_serializing_if = "is_zero")]
    pub propagation: u64,
    /// Addition: `MOUNT_ATTR_*` flags that are set on the mount and on those below it.
    #[serde(skip_serializing_if = "is_zero")]
    pub recursive_set: u64,
    /// Addition: `MOUNT_ATTR_*` flags that are cleared there.
    #[serde(skip_serializing_if = "is_zero")]
    pub recursive_clear: u64,
    /// Addition: whether a tmpfs begins with a copy of what it covers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copy_up: bool,
    /// Addition: the ids that files of the source have in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_map: Option<MountIdMap>,
}

/// The ids of an id-mapped mount: `mount_setattr(2)`, `MOUNT_ATTR_IDMAP`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MountIdMap {
    /// The user ids: those of the files as `container_id`, and those that they appear as, seen
    /// from the host, as `host_id`. Without maps the container's own hold.
    #[serde(with = "objects")]
    pub uid_mappings: Vec<IdMap>,
    /// The group ids.
    #[serde(with = "objects")]
    pub gid_mappings: Vec<IdMap>,
    /// Whether the mounts below the source are mapped too.
    pub recursive: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A mount as it stands in a file, with options that belong to two fields.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    source: String,
    destination: String,
    device: String,
    flags: MountOptions,
    data: String,
    relabel: String,
    #[serde(with = "objects")]
    premount_cmds: Vec<Command>,
    #[serde(with = "objects")]
    postmount_cmds: Vec<Command>,
    cleared: u64,
    propagation: u64,
    recursive_set: u64,
    recursive_clear: u64,
    copy_up: bool,
    id_map: Option<MountIdMap>,
}

impl From<Raw> for Mount {
    fn from(mut raw: Raw) -> Self {
        if !raw.data.is_empty() {
            raw.flags.data.push(raw.data);
        }
        // `["rbind"]` alone says what it is.
        if raw.device.is_empty() && raw.flags.set & flags::BIND != 0 {
            "bind".clone_into(&mut raw.device);
        }
        Self {
            source: raw.source,
            destination: raw.destination,
            device: raw.device,
            flags: raw.flags.set,
            data: raw.flags.data.join(","),
            relabel: raw.relabel,
            premount_cmds: raw.premount_cmds,
            postmount_cmds: raw.postmount_cmds,
            cleared: raw.cleared,
            propagation: raw.propagation,
            recursive_set: raw.recursive_set,
            recursive_clear: raw.recursive_clear,
            copy_up: raw.copy_up,
            id_map: raw.id_map,
        }
    }
}

impl Mount {
    /// The place in the container as a clean absolute path; `..` never leads above its root.
    ///
    /// Links in the container's files are not looked at here: whoever mounts must resolve the path
    /// below the container's root.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        path::in_root(&self.destination)
    }

    /// Whether a part of the host's tree is bound.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.device == "bind"
    }

    pub(super) fn check(&self) -> Check {
        if !DEVICES.contains(&self.device.as_str()) {
            return Err(Fault::text("device", &self.device, "unknown mount device"));
        }
        path::check("source", &self.source)?;
        if self.is_bind() && !self.source.starts_with('/') {
            return Err(Fault::text("source", &self.source, "must be an absolute path"));
        }
        path::check("destination", &self.destination)?;
        self.check_target()?;
        self.check_flags()?;
        if self.data.contains('\0') {
            return Err(Fault::text("data", &self.data, "contains a NUL"));
        }
        if self.data.len() > DATA_MAX {
            return Err(Fault::text("data", &self.data, "longer than 4095 bytes"));
        }
        if !matches!(self.relabel.as_str(), "" | "z" | "Z") {
            return Err(Fault::text("relabel", &self.relabel, "must be z or Z"));
        }
        each("premount_cmds", &self.premount_cmds, Command::check)?;
        each("postmount_cmds", &self.postmount_cmds, Command::check)
    }

    fn check_flags(&self) -> Check {
        let flags = self.flags;
        if flags & !flags::ALL != 0 {
            return Err(Fault::new("flags", flags, "unknown mount flag"));
        }
        if flags & flags::REMOUNT != 0 {
            return Err(Fault::new("flags", flags, "a new mount cannot be a remount"));
        }
        if (flags & flags::PROPAGATION).count_ones() > 1 {
            return Err(Fault::new("flags", flags, "more than one kind of propagation"));
        }
        if flags & flags::BIND != 0 && !self.is_bind() {
            return Err(Fault::new("flags", flags, "only a mount of device bind can be a bind"));
        }
        Ok(())
    }

    /// Keeps proc and sysfs what they claim to be: labels and sysctls are written through them, so
    /// whatever covers a part of them could divert the writes (CVE-2019-16884, CVE-2019-19921).
    fn check_target(&self) -> Check {
        let target = self.target();
        let refuse = |reason| Err(Fault::text("destination", &self.destination, reason));
        if target == Path::new("/") {
            return refuse("must not be the root itself");
        }
        for (root, device) in [("/proc", "proc"), ("/sys", "sysfs")] {
            if target == Path::new(root) {
                // The host's own tree is the only one to be had where the kernel refuses a new
                // mount: in a user namespace that shares the host's processes or network.
                let host = self.is_bind() && path::in_root(&self.source) == target;
                return if self.device == device || host {
                    Ok(())
                } else {
                    refuse("only proc may be mounted on /proc, only sysfs on /sys")
                };
            }
        }
        if target.starts_with("/proc") {
            let coverable = COVERABLE.iter().any(|path| target == Path::new(path));
            return if coverable { Ok(()) } else { refuse("must not be inside /proc") };
        }
        if target.starts_with("/sys") && !target.starts_with("/sys/fs/cgroup") {
            return refuse("must not be inside /sys, but for /sys/fs/cgroup");
        }
        Ok(())
    }
}

/// A command around a mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program, looked up in `$PATH`.
    pub path: String,
    /// The arguments, without the program.
    #[serde(with = "list")]
    pub args: Vec<String>,
    /// The environment, exactly: `NAME=value`.
    #[serde(with = "list")]
    pub env: Vec<String>,
    /// The working directory; empty for the caller's.
    pub dir: String,
}

impl Command {
    fn check(&self) -> Check {
        path::check("path", &self.path)?;
        if self.path.is_empty() {
            return Err(Fault::text("path", "", "missing"));
        }
        each("args", &self.args, |text| no_nul(text))?;
        each("env", &self.env, |text| {
            no_nul(text)?;
            match text.split_once('=') {
                Some((name, _)) if !name.is_empty() => Ok(()),
                _ => Err(Fault::text("", text, "must be NAME=value")),
            }
        })?;
        path::check("dir", &self.dir)
    }
}

fn no_nul(text: &str) -> Check {
    if text.contains('\0') { Err(Fault::text("", text, "contains a NUL")) } else { Ok(()) }
}

/// A symbolic link in the root.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What the link points to.
    pub target: String,
    /// The place of the link in the container.
    pub path: String,
}

impl Link {
    pub(super) fn check(&self) -> Check {
        path::check("target", &self.target)?;
        if self.target.is_empty() {
            return Err(Fault::text("target", "", "missing"));
        }
        path::check("path", &self.path)?;
        let place = path::in_root(&self.path);
        if place == Path::new("/") || place.starts_with("/proc") || place.starts_with("/sys") {
            let reason = "must not be the root, or inside /proc or /sys";
            return Err(Fault::text("path", &self.path, reason));
        }
        Ok(())
    }
}
