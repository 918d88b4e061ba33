//! The parts of a start, which the floor and pidone have in common.

use serde::{Deserialize, Serialize};

/// A part of a start whose system calls the floor makes as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Creating the container's cgroup.
    Cgroup,
    /// From the clone to the child's first instruction, including the exec of an init.
    Clone,
    /// Changing the root.
    Root,
    /// Mounting file systems.
    Mounts,
    /// Making device nodes and links.
    Devices,
    /// Masking paths and making them read-only.
    Protection,
    /// Bringing up the loopback interface.
    Network,
    /// Setting descriptors, limits, ids and capabilities.
    Process,
    /// Loading the seccomp filter and executing the program.
    Exec,
}

impl Part {
    /// The number of parts.
    pub const COUNT: usize = 9;

    /// All parts, in the order of their declaration.
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

    /// Returns the name of the part in a profile.
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

    /// Returns the part to which a step of the host belongs, if the floor has it.
    pub(crate) fn from_step(name: &str) -> Option<Self> {
        match name {
            "locate cgroups" | "make cgroups" | "open cgroups" | "move to cgroups" => {
                Some(Self::Cgroup)
            }
            "clone" => Some(Self::Clone),
            _ => None,
        }
    }

    /// Returns the part to which an operation of the init belongs, by its name in a plan.
    pub(crate) fn from_operation(name: &str) -> Self {
        match name {
            "setns" | "unshare" | "fork" | "propagation" | "mount attributes" | "root"
            | "pivot_root" | "move root" | "chroot" | "read-only root" => Self::Root,
            "mount" | "bind" | "attach" | "mkdir" | "remount" | "copy up" => Self::Mounts,
            "mknod" | "symlink" => Self::Devices,
            // The closed mounts have covered paths.
            "mask" | "read-only path" | "close" => Self::Protection,
            "loopback" => Self::Network,
            "no_new_privs" | "seccomp" | "exec" => Self::Exec,
            _ => Self::Process,
        }
    }
}
