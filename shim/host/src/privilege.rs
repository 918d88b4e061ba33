//! Which user and which rights the calling process has, and what follows for its containers.
//!
//! Each question has one function here:
//! - [`Caller::is_privileged`]: can it make any container, without a user namespace?
//! - [`is_host_root`]: is it root of the host, with or without capabilities?
//! - [`in_user_namespace`]: is root, if it is that, root of a part of the host's ids only?
//! - [`may_make_nodes`], [`can_copy_mounts`], [`may_map_users`], [`may_map_groups`],
//!   [`may_set_groups`] and [`keeps_groups_settable`]: does the kernel allow it this one operation?

use std::sync::OnceLock;

use pidone_config::config::IdMap;
use pidone_config::error::{Step, Verb};
use pidone_config::{Error, Result};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

use crate::proc;

/// The inode of the initial user namespace: `PROC_USER_INIT_INO` of the kernel.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// The user and the rights of the calling process.
#[derive(Debug)]
pub struct Caller {
    /// The effective user id.
    pub uid: u32,
    gid: u32,
    privileged: bool,
}

impl Caller {
    /// Reads the ids and capabilities of the calling process.
    #[must_use]
    pub fn current() -> Self {
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            privileged: has(CapabilitySet::SYS_ADMIN) && is_host_root(),
        }
    }

    /// Whether the caller is root of the host with `CAP_SYS_ADMIN`. Any other caller needs a user
    /// namespace for its containers, in which it has no access to the host's devices, groups and
    /// cgroups.
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// Returns the user and the group ids to map into a new user namespace, where the caller is
    /// root.
    ///
    /// Root of a user namespace maps all ids of that namespace to themselves; any other caller maps
    /// its own id only.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if the maps of the caller's namespace cannot be read.
    pub fn id_maps(&self) -> Result<(Vec<IdMap>, Vec<IdMap>)> {
        if self.uid != 0 || !in_user_namespace() {
            let only = |id| vec![IdMap { container_id: 0, host_id: id, size: 1 }];
            return Ok((only(self.uid), only(self.gid)));
        }
        let users = proc::own_id_maps("uid_map")?;
        Ok((to_themselves(users), to_themselves(proc::own_id_maps("gid_map")?)))
    }
}

/// Maps the ids that exist inside of a namespace to themselves.
fn to_themselves(maps: Vec<IdMap>) -> Vec<IdMap> {
    maps.into_iter().map(|map| IdMap { host_id: map.container_id, ..map }).collect()
}

/// Whether this process has an effective capability.
fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Whether this process is root of the initial user namespace, perhaps without its capabilities.
pub fn is_host_root() -> bool {
    geteuid().is_root() && !in_user_namespace()
}

/// Whether this process is in a user namespace other than the initial one.
pub fn in_user_namespace() -> bool {
    static INSIDE: OnceLock<bool> = OnceLock::new();
    *INSIDE.get_or_init(|| {
        proc::own_namespace_inode("user").is_ok_and(|inode| inode != INITIAL_USER_NAMESPACE)
    })
}

/// Whether this process has `CAP_SYS_ADMIN` in its user namespace, and so in all descendants of it.
pub fn may_administer() -> bool {
    has(CapabilitySet::SYS_ADMIN)
}

/// Whether this process may make device nodes that work, on a file system that it mounts.
pub fn may_make_nodes() -> bool {
    Caller::current().is_privileged() && has(CapabilitySet::MKNOD)
}

/// Whether this process may copy mounts of its mount namespace.
pub fn can_copy_mounts() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let may_administer = may_administer();
        if !may_administer || !in_user_namespace() {
            return may_administer;
        }
        // In a user namespace the mount namespace must belong to it, which only a try reveals.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, c"/proc", flags).is_ok()
    })
}

/// Returns the capability by which root of a container enters any directory, as a mask: 0 if it has
/// none. Root of a container's user namespace has all capabilities, any other root those of this
/// process.
pub fn search_capability(own_user_namespace: bool) -> u64 {
    [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE]
        .into_iter()
        .find(|one| own_user_namespace || capability_is_in_bounding_set(*one).unwrap_or(false))
        .map_or(0, |one| one.bits())
}

/// Whether this process may map any user ids of its namespace into a new one. Root of a user
/// namespace may, and root without `CAP_SETUID` may not.
pub fn may_map_users() -> bool {
    has(CapabilitySet::SETUID)
}

/// Whether this process may map any group ids of its namespace into a new one.
pub fn may_map_groups() -> bool {
    has(CapabilitySet::SETGID)
}

/// Whether processes in a new user namespace of this process may call `setgroups(2)`, however
/// their groups are mapped.
pub fn may_set_groups() -> bool {
    // A namespace inherits the prohibition: user_namespaces(7).
    may_map_groups() && proc::allows_setgroups()
}

/// Whether processes in this process's own user namespace may call `setgroups(2)`.
pub fn keeps_groups_settable() -> bool {
    !in_user_namespace() || proc::allows_setgroups()
}

/// Adds the setting of the host that refuses user namespaces to the error of a `clone3(2)`. Other
/// errors are returned unchanged.
pub fn explain(error: Error) -> Error {
    let refused = matches!(error.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::NOSPC));
    if *error.step() != Step::Host(Verb::Clone) || !refused {
        return error;
    }
    let is = |name: &str, value: &str| proc::sysctl(name).is_some_and(|found| found == value);
    let hint = if is("kernel/unprivileged_userns_clone", "0") {
        "kernel.unprivileged_userns_clone is 0"
    } else if is("user/max_user_namespaces", "0") {
        "user.max_user_namespaces is 0"
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "kernel.apparmor_restrict_unprivileged_userns is 1"
    } else {
        return error;
    };
    error.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_namespace_are_mapped_to_themselves() {
        let map = |container_id, host_id, size| IdMap { container_id, host_id, size };
        let maps = vec![map(0, 1000, 1), map(1, 100_000, 65536)];
        assert_eq!(to_themselves(maps), [map(0, 0, 1), map(1, 1, 65536)]);
    }
}
