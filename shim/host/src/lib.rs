//! Interfaces of the Linux kernel that a container runtime uses on the host, one in each module.
//!
//! No module knows what a container is. Limits, addresses, rules and profiles are types of
//! [`pidone_config`].
//!
//! - [`cgroup`]: control groups, version 1, hybrid and version 2.
//! - [`resctrl`]: shares of caches and of the bandwidth of memory.
//! - [`net`]: network interfaces, addresses and routes, over rtnetlink.
//! - [`seccomp`]: the compiler from a profile to a BPF filter.
//! - [`user`]: `/etc/passwd` and `/etc/group` below an untrusted root.
//! - [`lsm`]: SELinux labels and AppArmor profiles.
//! - [`pidfd`] and [`exit`]: signals to processes, and how they ended.
//! - [`privilege`]: the user and the rights of the calling process.
//! - [`descriptor`]: the null device, and whether a descriptor is readable.
//! - [`unix`]: Unix sockets at paths of any length, and messages with descriptors.
//! - [`proc`]: parsers and readers of the files of `proc(5)`.
//! - [`mounts`]: the mounts that the calling process sees.
//! - [`span`]: the recorder of timed steps.
//! - [`systemd`]: the service manager, over D-Bus.

pub mod cgroup;
pub mod deadline;
pub mod descriptor;
pub mod exit;
pub mod lsm;
pub mod mounts;
pub mod namespace;
pub mod net;
pub mod pidfd;
pub mod privilege;
pub mod proc;
pub mod resctrl;
pub mod seccomp;
pub mod span;
pub mod systemd;
pub mod unix;
pub mod user;
