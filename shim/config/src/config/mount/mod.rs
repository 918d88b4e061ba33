//! Mounts and symbolic links of a container.

pub mod flags;
mod options;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::options::MountOptions;
use super::IdMap;
use super::fault::{Check, Fault, each};
use super::json::{list, objects};
use super::path;

/// The values of `device` that `container.json` accepts: file systems, and `bind`.
///
/// `cgroup` mounts the cgroups that the container may see, on both versions of cgroups: its own, or
/// without a cgroup namespace on cgroup v2 all that the host shows.
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

/// The files of proc that a mount may cover: those in which lxcfs shows a container its own
/// resources.
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

/// The size limit of the data of `mount(2)`: a page without the NUL.
const DATA_MAX: usize = 4095;

/// A mount.
///
/// ```
/// use pidone_config::config::Mount;
/// use pidone_config::config::mount::flags;
///
/// // A bind mount of a directory of the host, read-only.
/// let data = Mount {
///     source: "/srv/data".into(),
///     destination: "/data".into(),
///     device: "bind".into(),
///     flags: flags::BIND | flags::REC | flags::RDONLY,
///     ..Mount::default()
/// };
/// assert!(data.is_bind());
///
/// // A file system in memory.
/// let scratch = Mount {
///     source: "tmpfs".into(),
///     destination: "/tmp".into(),
///     device: "tmpfs".into(),
///     flags: flags::NOSUID | flags::NODEV,
///     data: "mode=1777,size=64m".into(),
///     ..Mount::default()
/// };
/// assert!(!scratch.is_bind());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Raw")]
pub struct Mount {
    /// The source. For a bind, an absolute path on the host; otherwise a name that `/proc/mounts`
    /// shows.
    pub source: String,
    /// The path in the container.
    pub destination: String,
    /// The type of the file system, or `bind`, or `cgroup`.
    pub device: String,
    /// `MS_*` flags of `mount(2)`. Files may use a list of names or a comma-separated string: see
    /// [`MountOptions`].
    pub flags: u64,
    /// The options of the file system, separated by commas.
    pub data: String,
    /// The SELinux relabelling of the source: `z` for shared, `Z` for private.
    pub relabel: String,
    /// Commands to run on the host before the mount.
    #[serde(with = "objects")]
    pub premount_cmds: Vec<Command>,
    /// Commands to run on the host after the mount.
    #[serde(with = "objects")]
    pub postmount_cmds: Vec<Command>,
    /// Addition: `MS_*` flags to clear that the source of a bind may have.
    #[serde(skip_serializing_if = "is_zero")]
    pub cleared: u64,
    /// Addition: the propagation, such as `MS_PRIVATE`, with `MS_REC` if it also applies to the
    /// mounts below. It is not part of [`Mount::flags`], where `MS_REC` belongs to the bind.
    #[serde(skip_serializing_if = "is_zero")]
    pub propagation: u64,
    /// Addition: `MOUNT_ATTR_*` flags to set on the mount and on all mounts below.
    #[serde(skip_serializing_if = "is_zero")]
    pub recursive_set: u64,
    /// Addition: `MOUNT_ATTR_*` flags to clear there.
    #[serde(skip_serializing_if = "is_zero")]
    pub recursive_clear: u64,
    /// Addition: whether a tmpfs starts with a copy of the directory that it covers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copy_up: bool,
    /// Addition: the id map of the mount, which gives the source's files other ids in the
    /// container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_map: Option<MountIdMap>,
}

/// The id map of a mount: `MOUNT_ATTR_IDMAP` of `mount_setattr(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MountIdMap {
    /// The user ids. `container_id` is the id of the files, `host_id` the id that they appear to
    /// have, as seen from the host. If empty, the container's maps are used.
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

/// A mount as it is written in a file, where the options hold values of two fields.
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
        // `["rbind"]` alone is enough to declare a bind.
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
    /// Returns the path in the container, absolute and clean; `..` never leads above the root.
    ///
    /// Symbolic links in the container are not resolved. The code that mounts must resolve the path
    /// below the container's root.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        path::in_root(&self.destination)
    }

    /// Returns whether the mount is a bind of a part of the host's tree.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.device == "bind"
    }

    /// Refuses a file system that `container.json` does not know, because it is most likely a
    /// spelling mistake. The kernel may have more file systems.
    pub(super) fn check_known(&self) -> Check {
        if self.device.is_empty() || DEVICES.contains(&self.device.as_str()) {
            return Ok(());
        }
        Err(Fault::text("device", &self.device, "unknown mount device"))
    }

    pub(super) fn check(&self) -> Check {
        check_device(&self.device)?;
        path::check("source", &self.source)?;
        if self.is_bind() && !self.source.starts_with('/') {
            return Err(Fault::text("source", &self.source, "must be an absolute path"));
        }
        if self.is_bind() {
            path::check_names("source", &self.source)?;
        }
        path::check_names("destination", &self.destination)?;
        self.check_flags()?;
        if self.flags & flags::REMOUNT != 0 {
            return self.check_remount();
        }
        self.check_target()?;
        if self.data.contains('\0') {
            return Err(Fault::text("data", &self.data, "contains a NUL"));
        }
        if self.data.len() > DATA_MAX {
            return Err(Fault::text("data", &self.data, "longer than 4095 bytes"));
        }
        if !matches!(self.relabel.as_str(), "" | "z" | "Z") {
            return Err(Fault::text("relabel", &self.relabel, "must be z or Z"));
        }
        self.check_additions()?;
        each("premount_cmds", &self.premount_cmds, Command::check)?;
        each("postmount_cmds", &self.postmount_cmds, Command::check)
    }

    /// Checks a remount, which can only change attributes of the existing mount.
    fn check_remount(&self) -> Check {
        let more = !self.data.is_empty() || self.copy_up || self.id_map.is_some();
        if more || (self.flags | self.propagation) & flags::PROPAGATION != 0 {
            let reason = "a remount changes nothing but attributes of the mount";
            return Err(Fault::text("data", &self.data, reason));
        }
        self.check_additions()
    }

    fn check_additions(&self) -> Check {
        if self.cleared & !flags::ALL != 0 {
            return Err(Fault::new("cleared", self.cleared, "unknown mount flag"));
        }
        check_propagation("propagation", self.propagation)?;
        for (field, attributes) in
            [("recursive_set", self.recursive_set), ("recursive_clear", self.recursive_clear)]
        {
            if attributes & !flags::attribute::ALL != 0 {
                return Err(Fault::new(field, attributes, "unknown mount attribute"));
            }
        }
        if self.copy_up && self.device != "tmpfs" {
            return Err(Fault::new("copy_up", true, "only a tmpfs can begin with a copy"));
        }
        let Some(id_map) = &self.id_map else { return Ok(()) };
        if !self.is_bind() {
            return Err(Fault::new("id_map", "", "only a bind can have ids of its own"));
        }
        if id_map.uid_mappings.is_empty() != id_map.gid_mappings.is_empty() {
            return Err(Fault::new("id_map", "", "needs the ids of both users and groups"));
        }
        super::id_map::check_ranges("uid_mappings", &id_map.uid_mappings)
            .and_then(|()| super::id_map::check_ranges("gid_mappings", &id_map.gid_mappings))
            .map_err(|fault| fault.under("id_map"))
    }

    fn check_flags(&self) -> Check {
        let flags = self.flags;
        if flags & !flags::ALL != 0 {
            return Err(Fault::new("flags", flags, "unknown mount flag"));
        }
        if (flags & flags::PROPAGATION).count_ones() > 1 {
            return Err(Fault::new("flags", flags, "more than one kind of propagation"));
        }
        if flags & flags::BIND != 0 && !self.is_bind() {
            return Err(Fault::new("flags", flags, "only a mount of device bind can be a bind"));
        }
        Ok(())
    }

    /// Refuses mounts that would make proc something else.
    ///
    /// Labels and sysctls are written through proc, so a mount that covers a part of it could
    /// divert the writes (CVE-2019-16884, CVE-2019-19921). Nothing is written through sysfs.
    fn check_target(&self) -> Check {
        let target = self.target();
        let refuse = |reason| Err(Fault::text("destination", &self.destination, reason));
        if target == Path::new("/") {
            return refuse("must not be the root itself");
        }
        if target == Path::new("/proc") {
            // Where the kernel refuses a new proc, in a user namespace that shares the host's
            // processes, the host's proc is the only one available.
            let host = self.is_bind() && path::in_root(&self.source) == target;
            return if self.device == "proc" || host {
                Ok(())
            } else {
                refuse("only proc may be mounted on /proc")
            };
        }
        let coverable = || COVERABLE.iter().any(|path| target == Path::new(path));
        if target.starts_with("/proc") && !coverable() {
            return refuse("must not be inside /proc");
        }
        Ok(())
    }
}

/// Refuses text that cannot be the name of a file system.
fn check_device(device: &str) -> Check {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let reason = match device {
        "" => "missing",
        _ if device.len() > 255 => "longer than 255 bytes",
        _ if !device.bytes().all(letter) => "is no name of a file system",
        _ => return Ok(()),
    };
    Err(Fault::text("device", device, reason))
}

/// Refuses flags other than a single propagation type, with or without `MS_REC`, and 0.
pub(super) fn check_propagation(field: &str, propagation: u64) -> Check {
    if propagation & !(flags::PROPAGATION | flags::REC) != 0 {
        return Err(Fault::new(field, propagation, "is no propagation"));
    }
    if propagation != 0 && (propagation & flags::PROPAGATION).count_ones() != 1 {
        return Err(Fault::new(field, propagation, "is not one kind of propagation"));
    }
    Ok(())
}

/// A command to run before or after a mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program, which is searched for in `$PATH`.
    pub path: String,
    /// The arguments, without the program.
    #[serde(with = "list")]
    pub args: Vec<String>,
    /// The whole environment: `NAME=value`; if absent, that of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The working directory; the caller's if empty.
    pub dir: String,
}

impl Command {
    fn check(&self) -> Check {
        path::check("path", &self.path)?;
        if self.path.is_empty() {
            return Err(Fault::text("path", "", "missing"));
        }
        each("args", &self.args, |text| no_nul(text))?;
        each("env", self.env.as_deref().unwrap_or_default(), |text| {
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
    /// The target of the link.
    pub target: String,
    /// The path of the link in the container.
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
