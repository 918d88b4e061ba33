//! What the time of a start goes to, in words that the floor has too.

use serde::{Deserialize, Serialize};

/// A part of a start that is made of system calls which the floor makes as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// The container's cgroup is made.
    Cgroup,
    /// From the clone to the child's first instruction; a child that is an init is executed there.
    Clone,
    /// The root file system becomes the root.
    Root,
    /// File systems are mounted.
    Mounts,
    /// Device nodes and links are made.
    Devices,
    /// Paths are masked or made read-only.
    Protection,
    /// The loopback interface comes up.
    Network,
    /// Descriptors, limits, ids and capabilities.
    Process,
    /// The filter is loaded, and the program executed.
    Exec,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them, in the order of their declaration.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Cgroup,
        Self::Clone,
        Self::Root,
        Self::Mounts,
        Self::Devices,
        Self::Protection,
        Self::Network,
        Self::Process,
        Self::Exec,
    ];

    /// Its name in a profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Clone => "clone to the child's first instruction",
            Self::Root => "root",
            Self::Mounts => "mounts",
            Self::Devices => "device nodes",
            Self::Protection => "masked and read-only paths",
            Self::Network => "loopback",
            Self::Process => "descriptors, limits, capabilities",
            Self::Exec => "filter and exec of the program",
        }
    }

    /// That of a step of the host, if the floor has it.
    pub(crate) fn from_step(name: &str) -> Option<Self> {
        match name {
            "locate cgroups" | "make cgroups" | "open cgroups" | "move to cgroups" => {
                Some(Self::Cgroup)
            }
            "clone" => Some(Self::Clone),
            _ => None,
        }
    }

    /// That of an operation of the init, by its name in a plan.
    pub(crate) fn from_operation(name: &str) -> Self {
        match name {
            "setns" | "unshare" | "fork" | "propagation" | "mount attributes" | "root"
            | "pivot_root" | "move root" | "chroot" | "read-only root" => Self::Root,
            "mount" | "bind" | "attach" | "mkdir" | "remount" | "copy up" => Self::Mounts,
            "mknod" | "symlink" => Self::Devices,
            // What is closed has covered paths.
            "mask" | "read-only path" | "close" => Self::Protection,
            "loopback" => Self::Network,
            "no_new_privs" | "seccomp" | "exec" => Self::Exec,
            _ => Self::Process,
        }
    }
}
