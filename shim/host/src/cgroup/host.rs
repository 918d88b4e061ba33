//! The cgroup hierarchies of the host, and the cgroups of the calling process in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Component, Path, PathBuf};

use pidone_config::{Code, Error, Result, config};

use super::{Cgroups, Mode, scope};
use crate::proc::{self, unescape};

/// The controllers of cgroup v1 that a container uses, and systemd's hierarchy without a
/// controller, by which systemd knows the unit of a process.
const JOINED: [&str; 15] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "name=systemd",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The mounted cgroup hierarchies, and the cgroups of the calling process in them.
///
/// Reading them takes time in proportion to the number of mounts, so a program that starts many
/// containers should keep the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    mounts: Vec<Mount>,
    /// The cgroup of the calling process by controller, `""` for cgroup v2.
    own: BTreeMap<String, PathBuf>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// The controllers, `""` for cgroup v2.
    controllers: Vec<String>,
    /// The directory of the hierarchy that is mounted.
    root: PathBuf,
    /// The mount point.
    point: PathBuf,
}

/// Where cgroups are mounted.
const USUAL_POINT: &str = "/sys/fs/cgroup";

/// Whether the host has cgroup v2, and nothing else, at the usual mount point.
#[must_use]
pub fn has_only_v2() -> bool {
    rustix::fs::statfs(USUAL_POINT).is_ok_and(|found| found.f_type == libc::CGROUP2_SUPER_MAGIC)
}

impl Host {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// One of the files cannot be read.
    pub fn read() -> Result<Self> {
        let open = |path| -> Result<BufReader<File>> {
            let file = File::open(path).map_err(|error| Error::path("open", path, error))?;
            Ok(BufReader::new(file))
        };
        let fail = |path: &'static str| move |error: io::Error| Error::path("read", path, error);
        let mounts = "/proc/self/mountinfo";
        let own = "/proc/self/cgroup";
        Ok(Self {
            mounts: parse_mounts(open(mounts)?).map_err(fail(mounts))?,
            own: parse_own(open(own)?).map_err(fail(own))?,
        })
    }

    /// Returns the host with one system call, if it has only cgroup v2 at the usual mount point.
    ///
    /// The cgroup of the calling process stays unknown, so only absolute paths can be located.
    fn unified() -> Option<Self> {
        has_only_v2().then(|| Self {
            mounts: vec![Mount {
                controllers: vec![String::new()],
                root: "/".into(),
                point: USUAL_POINT.into(),
            }],
            own: BTreeMap::new(),
        })
    }

    /// Returns the versions that are mounted.
    #[must_use]
    pub fn mode(&self) -> Mode {
        Mode::from_controllers(self.mounts.iter().flat_map(|mount| &mount.controllers))
    }

    /// Computes the directory of the cgroup in every hierarchy. Creates nothing.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for an invalid name or parent, and for values that this host's cgroups
    /// cannot express; `Code::SystemError` for a relative parent if the cgroup of the calling
    /// process is outside of the mounts.
    pub fn locate(&self, config: &config::Cgroup) -> Result<Cgroups> {
        if config.systemd {
            let is_v2 = |mount: &&Mount| mount.controllers.iter().any(String::is_empty);
            let point = self.mounts.iter().find(is_v2).map_or(Path::new(""), |mount| &mount.point);
            let cgroups = scope::locate(config, self.mode(), point)?;
            cgroups.check(config)?;
            return Ok(cgroups);
        }
        let (absolute, path) = path(config)?;
        let mut paths = BTreeMap::new();
        for mount in &self.mounts {
            let base = if absolute { mount.point.clone() } else { self.own_directory(mount)? };
            for controller in &mount.controllers {
                paths.entry(controller.clone()).or_insert_with(|| base.join(&path));
            }
        }
        let cgroups = Cgroups { mode: self.mode(), paths, ..Cgroups::default() };
        cgroups.check(config)?;
        Ok(cgroups)
    }

    /// Returns the directory at which relative paths start: the cgroup of the calling process, or
    /// its parent if the host has only cgroup v2.
    fn own_directory(&self, mount: &Mount) -> Result<PathBuf> {
        let controller = mount.controllers.first().map_or("", String::as_str);
        let mut own = self.own.get(controller).map_or(Path::new("/"), PathBuf::as_path);
        // A cgroup with processes, such as this one, cannot enable controllers for its children. So
        // the container's becomes a sibling, as with runc.
        if self.mode() == Mode::V2 {
            own = own.parent().unwrap_or(own);
        }
        // In a container without a cgroup namespace the mount shows only a part of the hierarchy,
        // but paths in /proc/self/cgroup start at the root of the whole.
        match own.strip_prefix(&mount.root) {
            Ok(below) if !below.components().any(|part| part == Component::ParentDir) => {
                Ok(mount.point.join(below))
            }
            _ => Err(Error::reason(
                Code::SystemError,
                "locate cgroup",
                own.to_string_lossy(),
                format!(
                    "the caller's own cgroup is outside of `{}`, which is what `{}` shows",
                    mount.root.display(),
                    mount.point.display()
                ),
            )
            .with_hint("give an absolute parent")),
        }
    }
}

/// Locates a cgroup on this host with as few reads as possible.
pub(super) fn locate(config: &config::Cgroup) -> Result<Cgroups> {
    let is_absolute = config.systemd || config.parent.starts_with('/');
    let unified = if is_absolute { Host::unified() } else { None };
    match unified {
        Some(host) => host.locate(config),
        None => Host::read()?.locate(config),
    }
}

/// Returns whether the path `parent/name` starts at the mount point, and the path.
fn path(config: &config::Cgroup) -> Result<(bool, PathBuf)> {
    let (absolute, parent) = match config.parent.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (false, config.parent.as_str()),
    };
    let mut path = PathBuf::new();
    if !parent.is_empty() {
        for part in parent.split('/') {
            check_part("cgroups.parent", &config.parent, part)?;
            path.push(part);
        }
    }
    check_part("cgroups.name", &config.name, &config.name)?;
    path.push(&config.name);
    Ok((absolute, path))
}

fn check_part(field: &'static str, value: &str, part: &str) -> Result<()> {
    let reason = match part {
        "" => "has an empty component",
        "." | ".." => "has a component `.` or `..`",
        _ if part.contains('/') => "is more than one component",
        _ if part.contains(char::is_control) => "has a control character",
        _ if part.len() > 255 => "has a component longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(Error::config(field, value, reason))
}

/// Returns the cgroup mounts in the text of `mountinfo`.
fn parse_mounts(mut text: impl BufRead) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? != 0 {
        mounts.extend(parse_mount(line.strip_suffix(b"\n").unwrap_or(&line)));
        line.clear();
    }
    Ok(mounts)
}

/// Parses a line of `mountinfo`, `None` if it is not a hierarchy that a container joins.
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let line = proc::parse_mount_line(line)?;
    let controllers = match line.file_system {
        b"cgroup2" => vec![String::new()],
        b"cgroup" => {
            let options = std::str::from_utf8(line.super_options).ok()?;
            let joined = options.split(',').filter(|option| JOINED.contains(option));
            joined.map(str::to_owned).collect()
        }
        _ => return None,
    };
    (!controllers.is_empty()).then(|| Mount {
        controllers,
        root: unescape(line.root),
        point: unescape(line.point),
    })
}

/// Returns the cgroup of each controller in the text of `/proc/self/cgroup`.
fn parse_own(mut text: impl BufRead) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut own = BTreeMap::new();
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? != 0 {
        let bare = line.strip_suffix(b"\n").unwrap_or(&line);
        if let Some((controllers, path)) = proc::parse_cgroup_line(bare) {
            for controller in String::from_utf8_lossy(controllers).split(',') {
                own.insert(controller.to_owned(), path.to_owned());
            }
        }
        line.clear();
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    use pidone_config::Code;

    const HYBRID: &str = "\
23 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,xattr,memory
36 31 0:33 / /sys/fs/cgroup/memory\\040too rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
42 31 0:39 / /sys/fs/cgroup/openrc rw - cgroup cgroup rw,name=openrc
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
    const OWN: &str = "\
9:name=systemd:/user.slice
4:memory:/docker/ab/in:side
1:cpu,cpuacct:/
0::/user.slice/x
";

    fn host(mounts: &str, own: &str) -> Host {
        Host {
            mounts: parse_mounts(mounts.as_bytes()).unwrap(),
            own: parse_own(own.as_bytes()).unwrap(),
        }
    }

    fn config(parent: &str, name: &str) -> config::Cgroup {
        config::Cgroup {
            parent: parent.into(),
            name: name.into(),
            memory_swappiness: -1,
            ..config::Cgroup::default()
        }
    }

    fn located(host: &Host, parent: &str) -> Vec<String> {
        let cgroups = host.locate(&config(parent, "box")).unwrap();
        cgroups.paths().iter().map(|(key, path)| format!("{key} {}", path.display())).collect()
    }

    #[test]
    fn an_absolute_parent_starts_at_the_mount_points() {
        let host = host(HYBRID, OWN);
        assert_eq!(host.mode(), Mode::Hybrid);
        assert_eq!(
            located(&host, "/nsinit"),
            [
                " /sys/fs/cgroup/unified/nsinit/box",
                "cpu /sys/fs/cgroup/cpu,cpuacct/nsinit/box",
                "cpuacct /sys/fs/cgroup/cpu,cpuacct/nsinit/box",
                "memory /sys/fs/cgroup/memory/nsinit/box",
                "name=systemd /sys/fs/cgroup/systemd/nsinit/box",
            ]
        );
        assert_eq!(located(&host, "/")[0], " /sys/fs/cgroup/unified/box");
    }

    #[test]
    fn a_relative_parent_starts_at_the_callers_cgroup() {
        assert_eq!(
            located(&host(HYBRID, OWN), "a/b"),
            [
                " /sys/fs/cgroup/unified/user.slice/x/a/b/box",
                "cpu /sys/fs/cgroup/cpu,cpuacct/a/b/box",
                "cpuacct /sys/fs/cgroup/cpu,cpuacct/a/b/box",
                "memory /sys/fs/cgroup/memory/in:side/a/b/box",
                "name=systemd /sys/fs/cgroup/systemd/user.slice/a/b/box",
            ]
        );
    }

    #[test]
    fn a_callers_cgroup_outside_of_the_mount_is_refused() {
        for own in ["4:memory:/other\n", "4:memory:/docker/ab/../../x\n", "4:memory:/../x\n"] {
            let error = host(HYBRID, own).locate(&config("", "box")).unwrap_err();
            assert!(error.to_string().contains("outside of `/docker/ab`"), "{error}");
        }
    }

    #[test]
    fn the_mode_follows_from_the_mounts() {
        let lines: Vec<&str> = HYBRID.lines().collect();
        assert_eq!(host(lines[2], "").mode(), Mode::V1);
        assert_eq!(host(lines[7], "").mode(), Mode::V2);
        assert_eq!(host(lines[0], "").mode(), Mode::None);
        // systemd's v1 hierarchy without controllers does not make a v2 host hybrid.
        let both = [lines[5], lines[7]].join("\n");
        assert_eq!(host(&both, "").mode(), Mode::V2);
    }

    #[test]
    fn invalid_names_and_parents_are_refused() {
        for (parent, name) in [
            ("/", ""),
            ("/", ".."),
            ("/", "."),
            ("/", "a/b"),
            ("/", "a\nb"),
            ("/", "a\0b"),
            ("/a//b", "c"),
            ("/a/", "c"),
            ("//", "c"),
            ("../x", "c"),
            ("/a/../b", "c"),
            ("a/./b", "c"),
        ] {
            let error = host(HYBRID, OWN).locate(&config(parent, name)).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{parent:?} {name:?}");
            assert!(error.to_string().starts_with("configuration `cgroups."), "{error}");
        }
        assert!(host(HYBRID, OWN).locate(&config("/", &"x".repeat(256))).is_err());
        assert!(host(HYBRID, OWN).locate(&config("/", &"x".repeat(255))).is_ok());
    }

    #[test]
    fn garbage_lines_are_ignored() {
        let garbage: &[u8] = b"\n - \n1 2 3\n1 2 3:4 / /x\n1 2 3:4 / /x rw - cgroup\n\
            1 2 3:4 / /x rw - cgroup c\n1 2 3:4 / /\xff\\04 rw - cgroup2\n\xff\xfe";
        let mounts = parse_mounts(garbage).unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].point.as_os_str().as_bytes(), b"/\xff\\04");
        assert!(parse_own(&b"\n:\n::\n1:cpu\nx"[..]).unwrap().len() <= 1);
    }
}
