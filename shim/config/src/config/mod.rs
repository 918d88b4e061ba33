//! What is asked for: the configuration of a container, in libcontainer's terms.
//!
//! The types are those of `container.json`; every field has the seed's key and meaning. What the
//! seed did not have is marked as an addition.
//!
//! A configuration is read ([`Config::from_file`]) or made ([`Config::template`]), changed by
//! options ([`CreateOptions`]), and then checked ([`Config::validate`], [`Config::check_host`]).
//! Reading accepts more spellings than it writes: what is written, the seed can read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod cgroup;
mod create;
mod device;
mod embedded;
mod fault;
mod group;
mod hook;
mod id_map;
pub(crate) mod json;
mod namespace;
mod network;
pub(crate) mod path;
pub mod process;
mod rlimit;
mod seccomp;
mod security;
mod validate;

pub mod capability;
pub mod default;
pub mod mount;
pub mod size;
pub mod sysctl;

pub use cgroup::{Cgroup, Freezer, HugetlbLimit, InterfacePriority, RdmaLimit};
pub use create::{CreateOptions, NamespaceChoice};
pub use device::{Device, DeviceRule, NotARule};
pub(crate) use fault::Names;
pub use hook::{Hook, Hooks};
pub use id_map::IdMap;
pub use json::MAX_SIZE;
pub use mount::{Command, Link, Mount, MountIdMap, MountOptions};
pub use namespace::{Namespace, NamespaceType, TimeOffset};
pub use network::{Network, Route};
pub use process::{CapabilitySets, CpuAffinity, MemoryPolicy, Scheduler};
pub use rlimit::Rlimit;
pub use seccomp::{Seccomp, SeccompArg, SeccompSyscall};
pub use security::Security;

/// The configuration of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Move the root over `/` and chroot instead of `pivot_root(2)`, for a root on the initial
    /// ramfs.
    pub no_pivot_root: bool,
    /// The signal that the container gets when the thread that started it ends; 0 for none.
    pub parent_death_signal: i32,
    /// The directory inside the root that libcontainer moved the old root to.
    ///
    /// Accepted and not needed: `pivot_root(".", ".")` puts the old root over the new one, from
    /// where it is unmounted, and so works in a read-only root as well. That was the reason to set
    /// this field. The value must be a path; it has no effect.
    pub pivot_dir: String,
    /// The absolute path of the root file system.
    pub rootfs: PathBuf,
    /// Addition: the root is a new, empty tmpfs, and `rootfs` is not given.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tmpfs_root: bool,
    /// Make the root read-only once it is set up.
    pub readonlyfs: bool,
    /// Make the mounts of the host private instead of slave before anything else.
    pub privatefs: bool,
    /// The mounts, in their order.
    #[serde(with = "json::objects")]
    pub mounts: Vec<Mount>,
    /// Addition: symbolic links made in the root after the mounts.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// The device nodes made in the container.
    #[serde(with = "json::objects")]
    pub devices: Vec<Device>,
    /// The SELinux label of files and mounts.
    pub mount_label: String,
    /// The host name.
    pub hostname: String,
    /// The namespaces of the container; an absent one is shared with the caller.
    #[serde(with = "json::objects")]
    pub namespaces: Vec<Namespace>,
    /// The capabilities kept in the bounding, permitted and effective sets, without `CAP_`. In
    /// files in any spelling of [`capability::name`].
    #[serde(deserialize_with = "capability::names", serialize_with = "json::list::serialize")]
    pub capabilities: Vec<String>,
    /// The network interfaces.
    #[serde(with = "json::objects")]
    pub networks: Vec<Network>,
    /// The routes.
    #[serde(with = "json::objects")]
    pub routes: Vec<Route>,
    /// The control group; none means that the container stays in the caller's.
    #[serde(deserialize_with = "json::object")]
    pub cgroups: Option<Cgroup>,
    /// The AppArmor profile of the container's processes.
    pub apparmor_profile: String,
    /// The SELinux label of the container's processes.
    pub process_label: String,
    /// Resource limits of every process of the container.
    #[serde(with = "json::objects")]
    pub rlimits: Vec<Rlimit>,
    /// Supplementary groups, by name or number.
    #[serde(with = "group")]
    pub additional_groups: Vec<String>,
    /// The user ids of a new user namespace.
    #[serde(with = "json::objects")]
    pub uid_mappings: Vec<IdMap>,
    /// The group ids of a new user namespace.
    #[serde(with = "json::objects")]
    pub gid_mappings: Vec<IdMap>,
    /// Paths that are hidden.
    #[serde(with = "json::list")]
    pub mask_paths: Vec<String>,
    /// Paths that are made read-only.
    #[serde(with = "json::list")]
    pub readonly_paths: Vec<String>,
    /// Sysctls by their names, as in [`sysctl::path`].
    #[serde(alias = "sysctl", with = "json::map")]
    pub system_properties: BTreeMap<String, String>,
    /// System calls that are refused.
    #[serde(deserialize_with = "json::object")]
    pub seccomp: Option<Seccomp>,
    /// Addition: system calls under rules, in the OCI runtime specification's terms.
    #[serde(deserialize_with = "json::object", skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<crate::oci::linux::seccomp::Seccomp>,
    /// Addition: the NIS domain name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// Addition: `MS_*` flags for the propagation of the root once it is entered; 0 leaves it.
    #[serde(skip_serializing_if = "is_zero")]
    pub root_propagation: u64,
    /// Addition: the clocks of a new time namespace, `monotonic` and `boottime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Addition: `personality(2)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// Addition: the NUMA policy of the container's memory.
    #[serde(deserialize_with = "json::object", skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Addition: whether processes get a session keyring of their own: `session-keyring(7)`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_keyring: bool,
    /// Addition: whether the init stays process 1, reaps what ends, passes signals on, and starts the
    /// processes itself, the first one and all that come later; else it becomes the first program.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub supervise: bool,
    /// Addition: interfaces of the host that are moved into the container, by their names, with
    /// the names that they get.
    #[serde(with = "json::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, String>,
    /// Addition: programs that run at steps of the container's life.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Addition: the directory of the bundle, for hooks and for who asks for the state.
    #[serde(skip_serializing_if = "is_empty_path")]
    pub bundle: PathBuf,
    /// Addition: what the container's maker wants to be remembered.
    #[serde(with = "json::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_empty_path(path: &Path) -> bool {
    path.as_os_str().is_empty()
}
