//! The configuration of a container, in libcontainer's terms.
//!
//! The types follow `container.json`; every field has libcontainer's name and meaning. Fields that
//! libcontainer did not have are marked as additions.
//!
//! A configuration is read from a file ([`Config::from_file`]) or made from a template
//! ([`Config::template`]), changed by options ([`CreateOptions`]), and then checked
//! ([`Config::validate`], [`Config::check_host`]). Reading accepts more spellings than writing
//! produces: libcontainer can read every file that is written here and that uses no addition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod build;
mod cgroup;
mod create;
mod device;
mod embedded;
mod fault;
mod group;
mod hook;
mod id_map;
mod intel_rdt;
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

pub use cgroup::{CORE_FILES, Cgroup, Freezer, HugetlbLimit, InterfacePriority, RdmaLimit};
pub use create::{CreateOptions, NamespaceChoice};
pub use device::{Device, DeviceRule, NotARule};
pub(crate) use fault::Names;
pub use hook::{Hook, Hooks};
pub use id_map::IdMap;
pub use intel_rdt::IntelRdt;
pub use json::MAX_SIZE;
pub use mount::{Command, Link, Mount, MountIdMap, MountOptions};
pub use namespace::{Namespace, NamespaceType, TimeOffset};
pub use network::{Network, Route};
pub use process::{CapabilitySets, CpuAffinity, MemoryPolicy, Scheduler};
pub use rlimit::Rlimit;
pub use seccomp::{Seccomp, SeccompArg, SeccompSyscall};
pub use security::Security;

/// The configuration of a container.
///
/// Most callers start from one of these and change what differs:
///
/// - [`Config::template`]: for a root file system in a directory.
/// - [`Config::embedded`]: for programs of the host, without a root file system.
/// - [`Config::from_file`] and [`Config::from_json`]: from a `container.json`.
/// - [`Bundle::config`](crate::oci::Bundle::config): from an OCI bundle.
///
/// ```
/// use pidone_config::Config;
/// use pidone_config::config::{Mount, NamespaceType, mount};
///
/// let mut config = Config::template("/srv/box".into());
/// config.hostname = "box".into();
/// config.readonlyfs = true;
/// config.mounts.push(Mount {
///     source: "/srv/data".into(),
///     destination: "/data".into(),
///     device: "bind".into(),
///     flags: mount::flags::BIND | mount::flags::RDONLY,
///     ..Mount::default()
/// });
/// // Shares the network of the host.
/// config.remove_namespace(NamespaceType::Network);
/// config.networks.clear();
/// config.validate()?;
/// # Ok::<(), pidone_config::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the root is moved over `/` and entered with `chroot(2)` instead of `pivot_root(2)`:
    /// for a host whose root is the initial ramfs.
    ///
    /// The mounts of the host then stay below, out of reach. Its procs and sysfs are covered first:
    /// while one is bare, user namespaces in the container may mount a proc that has no masks.
    pub no_pivot_root: bool,
    /// The signal that the container gets when the thread that started it ends; 0 for none.
    pub parent_death_signal: i32,
    /// The directory inside the root that libcontainer moved the old root to.
    ///
    /// Accepted and not needed: `pivot_root(".", ".")` puts the old root over the new one, from
    /// where it is unmounted. It works in a read-only root too, which was the reason to set this
    /// field. The value must be a path and has no effect.
    pub pivot_dir: String,
    /// The absolute path of the root file system.
    pub rootfs: PathBuf,
    /// Addition: whether the root is a new, empty tmpfs. `rootfs` is then empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tmpfs_root: bool,
    /// Addition: whether changes of the root go to a private layer in memory, which ends with the
    /// container: `rootfs` stays as it is, and the next container does not see them. The memory is
    /// that of the container, and mounts below `rootfs` are not part of the root. Needs the
    /// privilege to mount on the host.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub volatile_root: bool,
    /// Whether the root is made read-only once it is set up.
    pub readonlyfs: bool,
    /// Whether the host's mounts are first made private, instead of slave, in the container's mount
    /// namespace.
    pub privatefs: bool,
    /// The mounts, in order.
    #[serde(with = "json::objects")]
    pub mounts: Vec<Mount>,
    /// Addition: symbolic links to make in the root after the mounts.
    #[serde(with = "json::objects", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// The device nodes to make in the container.
    #[serde(with = "json::objects")]
    pub devices: Vec<Device>,
    /// The SELinux label of files and mounts.
    pub mount_label: String,
    /// The host name.
    pub hostname: String,
    /// The namespaces of the container. It shares those that are not listed with the caller.
    #[serde(with = "json::objects")]
    pub namespaces: Vec<Namespace>,
    /// The capabilities of the bounding, permitted and effective sets, without `CAP_`. Files may
    /// use any spelling that [`capability::name`] accepts.
    #[serde(deserialize_with = "capability::names", serialize_with = "json::list::serialize")]
    pub capabilities: Vec<String>,
    /// The network interfaces.
    #[serde(with = "json::objects")]
    pub networks: Vec<Network>,
    /// The routes.
    #[serde(with = "json::objects")]
    pub routes: Vec<Route>,
    /// The cgroup; if absent, the container stays in the caller's.
    #[serde(deserialize_with = "json::object")]
    pub cgroups: Option<Cgroup>,
    /// The AppArmor profile of the container's processes.
    pub apparmor_profile: String,
    /// The SELinux label of the container's processes.
    pub process_label: String,
    /// The resource limits of every process of the container.
    #[serde(with = "json::objects")]
    pub rlimits: Vec<Rlimit>,
    /// The supplementary groups, by name or number.
    #[serde(with = "group")]
    pub additional_groups: Vec<String>,
    /// Addition: whether processes keep the supplementary groups of their caller, for access to
    /// files of the host. `additional_groups` and [`Ids::groups`](crate::Ids) have no effect then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_groups: bool,
    /// The user id map of a new user namespace.
    #[serde(with = "json::objects")]
    pub uid_mappings: Vec<IdMap>,
    /// The group id map of a new user namespace.
    #[serde(with = "json::objects")]
    pub gid_mappings: Vec<IdMap>,
    /// The paths to hide.
    #[serde(with = "json::list")]
    pub mask_paths: Vec<String>,
    /// The paths to make read-only.
    #[serde(with = "json::list")]
    pub readonly_paths: Vec<String>,
    /// The sysctls by name: see [`sysctl::path`]. Files may call the field `sysctl`.
    #[serde(alias = "sysctl", with = "json::map")]
    pub system_properties: BTreeMap<String, String>,
    /// The system calls to refuse.
    #[serde(deserialize_with = "json::object")]
    pub seccomp: Option<Seccomp>,
    /// Addition: a seccomp profile in the terms of the OCI runtime specification.
    #[serde(deserialize_with = "json::object", skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<crate::oci::linux::seccomp::Seccomp>,
    /// Addition: whether names in `seccomp_profile` that are no system call are refused. Otherwise
    /// they have no effect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refuse_unknown_syscalls: bool,
    /// Addition: the NIS domain name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// Addition: the propagation of the root once it is entered, as `MS_*` flags; 0 leaves it.
    #[serde(skip_serializing_if = "is_zero")]
    pub root_propagation: u64,
    /// Addition: the offsets of the clocks of a new time namespace: `monotonic` and `boottime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Addition: the execution domain, as `personality(2)` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// Addition: the NUMA memory policy of the container's processes.
    #[serde(deserialize_with = "json::object", skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Addition: the group of the resctrl file system: shares of caches and of the bandwidth of
    /// memory.
    #[serde(deserialize_with = "json::object", skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Addition: whether processes get a new session keyring: `session-keyring(7)`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_keyring: bool,
    /// Addition: whether the init remains process 1. It then reaps processes, forwards signals, and
    /// starts the first and all further processes. Otherwise the init becomes the first program.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub supervise: bool,
    /// Addition: network interfaces of the host to move into the container, by name, each with its
    /// name in the container.
    #[serde(with = "json::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, String>,
    /// Addition: programs to run at steps of the container's life.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Addition: the directory of the OCI bundle, for hooks and for the reported state.
    #[serde(skip_serializing_if = "is_empty_path")]
    pub bundle: PathBuf,
    /// Addition: annotations, which are kept and reported but not interpreted.
    #[serde(with = "json::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_empty_path(path: &Path) -> bool {
    path.as_os_str().is_empty()
}
