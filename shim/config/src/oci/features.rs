//! The features of this runtime: `features.md` and `features-linux.md` of the specification.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{VERSION, annotation, linux, mount, words};
use crate::config::mount::flags;
use crate::oci::linux::seccomp;

/// The features document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest supported version of the specification.
    pub oci_version_min: &'static str,
    /// The newest supported version.
    pub oci_version_max: &'static str,
    /// The kinds of hooks.
    pub hooks: Vec<&'static str>,
    /// The mount options that are not passed to the file system.
    pub mount_options: Vec<&'static str>,
    /// The Linux features.
    pub linux: Linux,
    /// The version of this program.
    pub annotations: BTreeMap<&'static str, &'static str>,
    /// The annotations in `config.json` that change what this program does. A name that ends with a
    /// full stop is a prefix.
    pub potentially_unsafe_config_annotations: Vec<&'static str>,
}

/// The Linux features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// The types of namespaces.
    pub namespaces: Vec<&'static str>,
    /// The capabilities, in the order of their numbers.
    pub capabilities: Vec<String>,
    /// Cgroup features.
    pub cgroup: Cgroup,
    /// Seccomp features.
    pub seccomp: Seccomp,
    /// AppArmor profiles.
    pub apparmor: Enabled,
    /// SELinux labels.
    pub selinux: Enabled,
    /// Intel Resource Director Technology.
    pub intel_rdt: IntelRdt,
    /// NUMA memory policies.
    pub memory_policy: MemoryPolicy,
    /// Extensions of mounts.
    pub mount_extensions: MountExtensions,
    /// Network interfaces that are moved into the container.
    pub net_devices: Enabled,
}

/// Whether a feature is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Whether this program supports the feature, regardless of the host.
    pub enabled: bool,
}

/// Intel Resource Director Technology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IntelRdt {
    /// Whether this program supports `intelRdt`, regardless of the host.
    pub enabled: bool,
    /// Whether it supports `intelRdt.schemata`.
    pub schemata: bool,
    /// Whether it supports `intelRdt.enableMonitoring`.
    pub monitoring: bool,
}

/// Cgroup features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cgroup {
    /// cgroup v1.
    pub v1: bool,
    /// cgroup v2.
    pub v2: bool,
    /// The systemd cgroup driver.
    pub systemd: bool,
    /// The systemd cgroup driver of a user's service manager.
    pub systemd_user: bool,
    /// The RDMA controller.
    pub rdma: bool,
}

/// Seccomp features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// Whether this program compiles filters.
    pub enabled: bool,
    /// The actions.
    pub actions: Vec<&'static str>,
    /// The comparison operators.
    pub operators: Vec<&'static str>,
    /// The architectures.
    pub archs: Vec<&'static str>,
    /// The flags that are known.
    pub known_flags: Vec<&'static str>,
    /// The flags that are passed to the kernel: all known flags.
    pub supported_flags: Vec<&'static str>,
}

/// NUMA memory policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// The modes.
    pub modes: Vec<&'static str>,
    /// The flags of modes.
    pub flags: Vec<&'static str>,
}

/// Extensions of mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MountExtensions {
    /// Id-mapped mounts.
    pub idmap: Enabled,
}

/// Returns the features of this program, regardless of the host.
#[must_use]
pub fn features() -> Features {
    let options = flags::TABLE.iter().chain(flags::RECURSIVE).map(|(word, ..)| *word);
    let mut mount_options: Vec<&str> = options.chain(mount::EXTENSIONS).collect();
    mount_options.sort_unstable();
    let capabilities = caps::all();
    let mut capabilities: Vec<_> = capabilities.iter().collect();
    capabilities.sort_unstable_by_key(|capability| capability.bitmask());
    let on = Enabled { enabled: true };
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
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
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
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy {
                modes: words(&linux::MEMORY_MODES),
                flags: words(&linux::MEMORY_FLAGS),
            },
            mount_extensions: MountExtensions { idmap: on },
            net_devices: on,
        },
        annotations: [("org.pidone.version", env!("CARGO_PKG_VERSION"))].into(),
        potentially_unsafe_config_annotations: annotation::UNSAFE.into(),
    }
}
