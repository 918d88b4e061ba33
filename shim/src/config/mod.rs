//! What is asked for: the configuration of a container, in libcontainer's terms.
//!
//! The types are those of `container.json`; every field has the seed's key and meaning. What the
//! seed did not have is marked as an addition.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The configuration of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Move the root over `/` and chroot instead of `pivot_root(2)`, for a root on the initial
    /// ramfs.
    pub no_pivot_root: bool,
    /// The signal that the container gets when the thread that started it ends; 0 for none.
    pub parent_death_signal: i32,
    /// A directory inside the root for the old root. `pivot_root(".", ".")` needs none; kept for
    /// the seed's files.
    pub pivot_dir: String,
    /// The absolute path of the root file system.
    pub rootfs: PathBuf,
    /// Addition: the root is a new, empty tmpfs, and `rootfs` is not given.
    pub tmpfs_root: bool,
    /// Make the root read-only once it is set up.
    pub readonlyfs: bool,
    /// Make the mounts of the host private instead of slave before anything else.
    pub privatefs: bool,
    /// The mounts, in their order.
    pub mounts: Vec<Mount>,
    /// Addition: symbolic links made in the root after the mounts.
    pub links: Vec<Link>,
    /// The device nodes made in the container.
    pub devices: Vec<Device>,
    /// The SELinux label of files and mounts.
    pub mount_label: String,
    /// The host name.
    pub hostname: String,
    /// The namespaces of the container; an absent one is shared with the caller.
    pub namespaces: Vec<Namespace>,
    /// The capabilities kept in the bounding, permitted and effective sets, without `CAP_`.
    pub capabilities: Vec<String>,
    /// The network interfaces.
    pub networks: Vec<Network>,
    /// The routes.
    pub routes: Vec<Route>,
    /// The control group; none means that the container stays in the caller's.
    pub cgroups: Option<Cgroup>,
    /// The AppArmor profile of the container's processes.
    pub apparmor_profile: String,
    /// The SELinux label of the container's processes.
    pub process_label: String,
    /// Resource limits of every process of the container.
    pub rlimits: Vec<Rlimit>,
    /// Supplementary groups, by name or number.
    pub additional_groups: Vec<String>,
    /// The user ids of a new user namespace.
    pub uid_mappings: Vec<IdMap>,
    /// The group ids of a new user namespace.
    pub gid_mappings: Vec<IdMap>,
    /// Paths that are hidden.
    pub mask_paths: Vec<String>,
    /// Paths that are made read-only.
    pub readonly_paths: Vec<String>,
    /// Sysctls, in dotted form.
    #[serde(alias = "sysctl")]
    pub system_properties: BTreeMap<String, String>,
    /// System calls that are refused.
    pub seccomp: Option<Seccomp>,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// The source: a host path for a bind, else a name.
    pub source: String,
    /// The place in the container.
    pub destination: String,
    /// The type of file system, or `bind`, or `cgroup`.
    pub device: String,
    /// `MS_*` flags.
    pub flags: u64,
    /// Options of the file system.
    pub data: String,
    /// SELinux relabelling of the source: `z` shared, `Z` private.
    pub relabel: String,
    /// Commands run on the host's side before the mount.
    pub premount_cmds: Vec<Command>,
    /// Commands run on the host's side after the mount.
    pub postmount_cmds: Vec<Command>,
}

/// A command around a mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program, looked up in `$PATH`.
    pub path: String,
    /// The arguments, without the program.
    pub args: Vec<String>,
    /// The environment, exactly.
    pub env: Vec<String>,
    /// The working directory.
    pub dir: String,
}

/// A symbolic link in the root.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What the link points to.
    pub target: String,
    /// The place of the link in the container.
    pub path: String,
}

/// A device node, or a rule about devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    /// The type: `c`, `b`, `p` or, in rules, `a`. In files also as the number of the letter.
    #[serde(rename = "type")]
    pub kind: char,
    /// The place of the node in the container; empty in a rule.
    pub path: String,
    /// The major number; -1 for all.
    pub major: i64,
    /// The minor number; -1 for all.
    pub minor: i64,
    /// What the device cgroup allows: letters of `rwm`.
    pub permissions: String,
    /// The permission bits of the node.
    pub file_mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A namespace: new, or joined by its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// A namespace file to join; empty for a new namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// The kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NamespaceType {
    /// User and group ids, capabilities.
    #[serde(rename = "NEWUSER")]
    User,
    /// Mounts.
    #[serde(rename = "NEWNS")]
    Mount,
    /// Process ids.
    #[serde(rename = "NEWPID")]
    Pid,
    /// Network.
    #[serde(rename = "NEWNET")]
    Network,
    /// System V IPC and POSIX message queues.
    #[serde(rename = "NEWIPC")]
    Ipc,
    /// Host and domain name.
    #[serde(rename = "NEWUTS")]
    Uts,
    /// The root of the cgroup tree. Addition.
    #[serde(rename = "NEWCGROUP")]
    Cgroup,
}

/// A range of ids in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMap {
    /// The first id inside.
    pub container_id: u32,
    /// The first id outside.
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// The kernel's `RLIMIT_*` number.
    #[serde(rename = "type")]
    pub kind: u32,
    /// The ceiling of the soft limit.
    pub hard: u64,
    /// The limit that is enforced.
    pub soft: u64,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// `loopback` or `veth`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name inside, of at most 15 bytes.
    pub name: String,
    /// The bridge on the host.
    pub bridge: String,
    /// The MAC address.
    pub mac_address: String,
    /// The IPv4 address with its prefix length.
    pub address: String,
    /// The IPv4 default gateway.
    pub gateway: String,
    /// The IPv6 address with its prefix length.
    pub ipv6_address: String,
    /// The IPv6 default gateway.
    pub ipv6_gateway: String,
    /// The MTU of both ends; 0 leaves the kernel's.
    pub mtu: u32,
    /// The length of the transmit queue; 0 leaves the kernel's.
    pub txqueuelen: u32,
    /// The name of the end on the host.
    pub host_interface_name: String,
    /// Whether the bridge sends frames back out of the port that they came from.
    pub hairpin_mode: bool,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Where to: an address with its prefix length.
    pub destination: String,
    /// The preferred source address.
    pub source: String,
    /// Through which host.
    pub gateway: String,
    /// Through which interface.
    pub interface_name: String,
}

/// The control group and its limits.
///
/// A number of 0 and an empty string leave the kernel's value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// The last component of the path.
    pub name: String,
    /// The rest of the path: absolute from the mount point, relative from the caller's cgroup.
    pub parent: String,
    /// Whether every device is allowed, but for `denied_devices`.
    pub allow_all_devices: bool,
    /// The devices allowed when `allow_all_devices` is false.
    pub allowed_devices: Vec<Device>,
    /// The devices denied when `allow_all_devices` is true.
    pub denied_devices: Vec<Device>,
    /// The memory limit in bytes; -1 for none.
    pub memory: i64,
    /// The soft memory limit in bytes.
    pub memory_reservation: i64,
    /// The limit of memory and swap together, in bytes; -1 for none.
    pub memory_swap: i64,
    /// The kernel memory limit in bytes.
    pub kernel_memory: i64,
    /// How eagerly the kernel swaps, 0 to 100; -1 leaves it.
    #[serde(default = "untouched")]
    pub memory_swappiness: i64,
    /// Whether the OOM killer is off.
    pub oom_kill_disable: bool,
    /// The share of the processor, 2 to 262144.
    pub cpu_shares: i64,
    /// Microseconds of processor time in each period; -1 for no limit.
    pub cpu_quota: i64,
    /// The period in microseconds.
    pub cpu_period: i64,
    /// Microseconds of real-time scheduling in each period.
    pub cpu_rt_runtime: i64,
    /// The real-time period in microseconds.
    pub cpu_rt_period: i64,
    /// The processors, as a list like `0-2,7`.
    pub cpuset_cpus: String,
    /// The memory nodes, as a list.
    pub cpuset_mems: String,
    /// Lines of `major:minor bytes-per-second`.
    pub blkio_throttle_read_bps_device: String,
    /// Lines of `major:minor bytes-per-second`.
    pub blkio_throttle_write_bps_device: String,
    /// Lines of `major:minor operations-per-second`.
    pub blkio_throttle_read_iops_device: String,
    /// Lines of `major:minor operations-per-second`.
    pub blkio_throttle_write_iops_device: String,
    /// The weight of block I/O, 10 to 1000.
    pub blkio_weight: i64,
    /// Lines of `major:minor weight`.
    pub blkio_weight_device: String,
    /// Limits of huge pages.
    pub hugetlb_limit: Vec<HugetlbLimit>,
    /// Network priorities by interface.
    pub net_prio_ifpriomap: Vec<InterfacePriority>,
    /// The class of the container's packets, as a number or `0x` number.
    pub net_cls_classid: String,
    /// Addition: the largest number of processes; -1 for no limit.
    pub pids_limit: i64,
    /// The wanted state of the freezer.
    pub freezer: Freezer,
    /// The systemd slice.
    pub slice: String,
}

fn untouched() -> i64 {
    -1
}

/// The state of a freezer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Freezer {
    /// Left as it is.
    #[default]
    #[serde(rename = "")]
    Undefined,
    /// All processes stand still.
    #[serde(rename = "FROZEN")]
    Frozen,
    /// All processes run.
    #[serde(rename = "THAWED")]
    Thawed,
}

/// A limit of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HugetlbLimit {
    /// The size of the pages, as in `2MB`.
    pub page_size: String,
    /// The limit in bytes.
    pub limit: u64,
}

/// The priority of packets leaving through an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfacePriority {
    /// The interface.
    pub interface: String,
    /// The priority.
    pub priority: i64,
}

/// Refused system calls; what is not listed is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seccomp {
    /// The rules.
    pub syscalls: Vec<SeccompSyscall>,
}

/// One rule on a system call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompSyscall {
    /// The number of the system call.
    pub value: u32,
    /// -3 kill, -2 trap, -1 allow; from 0 up the errno returned.
    pub action: i32,
    /// Conditions on the arguments: all must hold.
    #[serde(default)]
    pub args: Vec<SeccompArg>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with.
    pub value: u32,
    /// 0 equal, 1 not equal, 2 greater, 3 less, 4 all bits of `value` set.
    pub op: u32,
}
