//! What the guest reports.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Everything that the guest sees; see the fields of the same names in its source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "named as in proc(5) and the manual pages of the system calls")]
pub struct Report {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub descriptors: Vec<Descriptor>,
    pub uid: [u32; 3],
    pub gid: [u32; 3],
    pub groups: Vec<u32>,
    pub hostname: String,
    pub domainname: String,
    pub label: Option<String>,
    pub uid_map: Option<Vec<String>>,
    pub gid_map: Option<Vec<String>>,
    pub capabilities: Capabilities,
    pub seccomp: Option<u64>,
    pub securebits: Option<u64>,
    pub no_new_privs: Option<u64>,
    pub pid: i32,
    pub ppid: i32,
    pub pgid: i32,
    pub sid: i32,
    pub umask: u32,
    pub dumpable: u64,
    pub parent_death_signal: i32,
    pub oom_score_adj: Option<String>,
    /// Soft and hard, by the number of the resource.
    pub rlimits: Vec<Option<[u64; 2]>>,
    pub cwd: Option<String>,
    pub exe: Option<String>,
    pub blocked: u64,
    pub ignored: u64,
    pub terminal: Option<Terminal>,
    /// The lines of mountinfo; `None` without proc.
    pub mounts: Option<Vec<String>>,
    pub cgroups: Option<Vec<String>>,
    pub interfaces: Option<Vec<String>>,
    /// The inodes by the names of the files.
    pub namespaces: BTreeMap<String, u64>,
    pub root: Option<Root>,
    pub devices: Vec<DeviceNode>,
}

/// The five capability sets, as masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "named as in capabilities(7)")]
pub struct Capabilities {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
}

/// An open descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "named as in stat(2)")]
pub struct Descriptor {
    pub number: u32,
    pub target: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub dev: u64,
    pub ino: u64,
    pub major: u32,
    pub minor: u32,
}

/// The terminal at standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Terminal {
    /// The height.
    pub rows: u16,
    /// The width.
    pub columns: u16,
    /// The session that it controls; -1 if it is none of the guest's.
    pub session: i32,
}

/// Which directory `/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "named as in stat(2)")]
pub struct Root {
    pub dev: u64,
    pub ino: u64,
}

/// Something below `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "named as in stat(2)")]
pub struct DeviceNode {
    pub path: String,
    /// As the first letter of ls(1).
    #[serde(rename = "type")]
    pub kind: String,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Where a link leads.
    pub target: Option<String>,
}

/// A line of mountinfo: proc(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `unbindable`.
    pub propagation: Vec<String>,
    /// The type.
    pub fstype: String,
    /// The source.
    pub source: String,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Reads a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let (front, back) = line.split_once(" - ")?;
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        Some(Self {
            root: (*front.get(3)?).to_owned(),
            point: (*front.get(4)?).to_owned(),
            options: list(front.get(5)?),
            propagation: front.get(6..)?.iter().map(|&field| field.to_owned()).collect(),
            fstype: (*back.first()?).to_owned(),
            source: (*back.get(1)?).to_owned(),
            super_options: list(back.get(2)?),
        })
    }

    /// Whether the mount has an option.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|own| own == option)
    }

    /// Whether the file system has an option.
    #[must_use]
    pub fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|own| own == option)
    }
}

impl Report {
    /// All mounts, in the kernel's order.
    #[must_use]
    pub fn mounts(&self) -> Vec<Mount> {
        let lines = self.mounts.iter().flatten();
        lines.filter_map(|line| Mount::parse(line)).collect()
    }

    /// The topmost mount at a place.
    #[must_use]
    pub fn mount(&self, point: &str) -> Option<Mount> {
        self.mounts().into_iter().rfind(|mount| mount.point == point)
    }

    /// What is at a place below `/dev`.
    #[must_use]
    pub fn device(&self, path: &str) -> Option<&DeviceNode> {
        self.devices.iter().find(|node| node.path == path)
    }

    /// An environment variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What `fork` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Forked {
    /// How many children there are.
    pub forked: u32,
    /// Why there are not more; 0 if they are as many as asked for.
    pub errno: i32,
}

/// What `read` prints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Read {
    /// Why it failed; 0 if it did not.
    pub errno: i32,
    /// What was read.
    pub text: String,
}
