//! Which cgroup hierarchies the host has, and where the calling process is in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Component, Path, PathBuf};

use pidone_config::{Code, Error, Result, config};

use super::{Cgroups, Mode};
use crate::proc::{self, unescape};

/// The controllers of cgroup v1 that a container joins, and systemd's hierarchy without a
/// controller, which tells systemd to which unit a process belongs.
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

/// The mounted cgroup hierarchies and the calling process's place in them.
///
/// Reading them costs time in proportion to the number of mounts; a program that starts many
/// containers keeps one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    mounts: Vec<Mount>,
    /// The calling process's own cgroup by controller, `""` for cgroup v2.
    own: BTreeMap<String, PathBuf>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Its controllers; `""` for cgroup v2.
    controllers: Vec<String>,
    /// Which directory of the hierarchy is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

impl Host {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// They cannot be read.
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

    /// The host, for the price of one system call if it has cgroup v2 alone at its usual place.
    ///
    /// The calling process's own place stays unknown: fit for absolute paths only.
    fn unified() -> Option<Self> {
        let point = "/sys/fs/cgroup";
        let version = rustix::fs::statfs(point).ok()?.f_type;
        (version == libc::CGROUP2_SUPER_MAGIC).then(|| Self {
            mounts: vec![Mount {
                controllers: vec![String::new()],
                root: "/".into(),
                point: point.into(),
            }],
            own: BTreeMap::new(),
        })
    }

    /// Which versions are mounted.
    #[must_use]
    pub fn mode(&self) -> Mode {
        Mode::from_controllers(self.mounts.iter().flat_map(|mount| &mount.controllers))
    }

    /// Computes where the cgroup is in every hierarchy. Nothing is made.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for a name or parent that does not follow the grammar, and for values
    /// that this host's cgroups cannot express; an own cgroup that the mounts do not show.
    pub fn locate(&self, config: &config::Cgroup) -> Result<Cgroups> {
        let (absolute, path) = path(config)?;
        let mut paths = BTreeMap::new();
        for mount in &self.mounts {
            let base = if absolute { mount.point.clone() } else { self.own_directory(mount)? };
            for controller in &mount.controllers {
                paths.entry(controller.clone()).or_insert_with(|| base.join(&path));
            }
        }
        let cgroups = Cgroups { mode: self.mode(), paths, made_parents: Vec::new() };
        cgroups.check(config)?;
        Ok(cgroups)
    }

    /// The directory that relative paths begin at: the calling process's own cgroup, or on pure v2
    /// the one above.
    fn own_directory(&self, mount: &Mount) -> Result<PathBuf> {
        let controller = mount.controllers.first().map_or("", String::as_str);
        let mut own = self.own.get(controller).map_or(Path::new("/"), PathBuf::as_path);
        // A cgroup with processes cannot give its children controllers, and this process is in it:
        // beside it then, as runc does.
        if self.mode() == Mode::V2 {
            own = own.parent().unwrap_or(own);
        }
        // In a container without a cgroup namespace the mount shows a part of the hierarchy only,
        // while /proc/self/cgroup counts from the root of the whole.
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

/// Locates a cgroup on this host, reading as little as possible.
pub(super) fn locate(config: &config::Cgroup) -> Result<Cgroups> {
    let unified = if config.parent.starts_with('/') { Host::unified() } else { None };
    match unified {
        Some(host) => host.locate(config),
        None => Host::read()?.locate(config),
    }
}

/// `parent/name` and whether it starts at the mount point.
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

/// Finds the cgroup mounts in the text of `mountinfo`, see proc_pid_mountinfo(5).
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

/// Parses `hierarchy-id:controllers:path` lines, see cgroups(7).
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
    fn starts_at_the_mount_points_for_an_absolute_parent() {
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
    fn starts_at_the_own_cgroup_for_a_relative_parent() {
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
    fn refuses_an_own_cgroup_that_is_not_in_sight() {
        for own in ["4:memory:/other\n", "4:memory:/docker/ab/../../x\n", "4:memory:/../x\n"] {
            let error = host(HYBRID, own).locate(&config("", "box")).unwrap_err();
            assert!(error.to_string().contains("outside of `/docker/ab`"), "{error}");
        }
    }

    #[test]
    fn tells_the_modes_apart() {
        let lines: Vec<&str> = HYBRID.lines().collect();
        assert_eq!(host(lines[2], "").mode(), Mode::V1);
        assert_eq!(host(lines[7], "").mode(), Mode::V2);
        assert_eq!(host(lines[0], "").mode(), Mode::None);
        // systemd's legacy hierarchy without controllers does not make a v2 host hybrid.
        let both = [lines[5], lines[7]].join("\n");
        assert_eq!(host(&both, "").mode(), Mode::V2);
    }

    #[test]
    fn refuses_names_outside_of_the_grammar() {
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
    fn survives_garbage() {
        let garbage: &[u8] = b"\n - \n1 2 3\n1 2 3:4 / /x\n1 2 3:4 / /x rw - cgroup\n\
            1 2 3:4 / /x rw - cgroup c\n1 2 3:4 / /\xff\\04 rw - cgroup2\n\xff\xfe";
        let mounts = parse_mounts(garbage).unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].point.as_os_str().as_bytes(), b"/\xff\\04");
        assert!(parse_own(&b"\n:\n::\n1:cpu\nx"[..]).unwrap().len() <= 1);
    }
}
