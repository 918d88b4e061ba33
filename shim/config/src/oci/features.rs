//! What this runtime has of the specification: `features.md` and `features-linux.md`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{VERSION, linux, mount, words};
use crate::config::mount::flags;
use crate::oci::linux::seccomp;

/// The features document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest version of `config.json` that is read.
    pub oci_version_min: &'static str,
    /// The newest version.
    pub oci_version_max: &'static str,
    /// The steps at which hooks run.
    pub hooks: Vec<&'static str>,
    /// The mount options that are not left to the file system.
    pub mount_options: Vec<&'static str>,
    /// What is Linux's own.
    pub linux: Linux,
    /// The version of this program.
    pub annotations: BTreeMap<&'static str, &'static str>,
}

/// What is Linux's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// The namespaces.
    pub namespaces: Vec<&'static str>,
    /// The capabilities, in the order of their numbers.
    pub capabilities: Vec<String>,
    /// Control groups.
    pub cgroup: Cgroup,
    /// Rules about system calls.
    pub seccomp: Seccomp,
    /// AppArmor profiles.
    pub apparmor: Enabled,
    /// SELinux labels.
    pub selinux: Enabled,
    /// Intel's Resource Director Technology.
    pub intel_rdt: Enabled,
    /// NUMA policies.
    pub memory_policy: MemoryPolicy,
    /// Mounts beyond options.
    pub mount_extensions: MountExtensions,
    /// Interfaces that move.
    pub net_devices: Enabled,
}

/// Whether there is something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Whether this program can do it, whatever the host can.
    pub enabled: bool,
}

/// Control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroup {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
    /// Those of systemd.
    pub systemd: bool,
    /// Those of a user's systemd.
    pub systemd_user: bool,
    /// The controller for RDMA.
    pub rdma: bool,
}

/// Rules about system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Whether this program makes filters.
    pub enabled: bool,
    /// The actions.
    pub actions: Vec<&'static str>,
    /// The comparisons.
    pub operators: Vec<&'static str>,
    /// The architectures.
    pub archs: Vec<&'static str>,
    /// The flags that are known.
    pub known_flags: Vec<&'static str>,
    /// The flags that are given to the kernel: all of them.
    pub supported_flags: Vec<&'static str>,
}

/// NUMA policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// The policies.
    pub modes: Vec<&'static str>,
    /// Their flags.
    pub flags: Vec<&'static str>,
}

/// Mounts beyond options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MountExtensions {
    /// Mounts with ids of their own.
    pub idmap: Enabled,
}

/// What this runtime has of the specification, whatever the host has.
#[must_use]
pub fn features() -> Features {
    let options = flags::TABLE.iter().chain(flags::RECURSIVE).map(|(word, ..)| *word);
    let mut mount_options: Vec<&str> = options.chain(mount::EXTENSIONS).collect();
    // A new mount cannot be one.
    mount_options.sort_unstable();
    let capabilities = caps::all();
    let mut capabilities: Vec<_> = capabilities.iter().collect();
    capabilities.sort_unstable_by_key(|capability| capability.bitmask());
    let (on, off) = (Enabled { enabled: true }, Enabled { enabled: false });
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: VERSION,
        hooks: vec![
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ],
        mount_options,
        linux: Linux {
            namespaces: words(&linux::NAMESPACES),
            capabilities: capabilities.into_iter().map(ToString::to_string).collect(),
            cgroup: Cgroup { v1: true, v2: true, systemd: false, systemd_user: false, rdma: true },
            seccomp: Seccomp {
                enabled: true,
                actions: words(&seccomp::ACTIONS),
                operators: words(&seccomp::OPERATORS),
                archs: seccomp::architectures().collect(),
                known_flags: words(&seccomp::FLAGS),
                supported_flags: words(&seccomp::FLAGS),
            },
            apparmor: on,
            selinux: on,
            intel_rdt: off,
            memory_policy: MemoryPolicy {
                modes: words(&linux::MEMORY_MODES),
                flags: words(&linux::MEMORY_FLAGS),
            },
            mount_extensions: MountExtensions { idmap: on },
            net_devices: on,
        },
        annotations: [("org.pidone.version", env!("CARGO_PKG_VERSION"))].into(),
    }
}
