//! What this process may do to the host.

use std::sync::OnceLock;

use pidone_config::Error;
use pidone_config::error::{Step, Verb};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{CapabilitySet, capabilities};

/// The inode of the first user namespace: `PROC_USER_INIT_INO` of the kernel.
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process is in a user namespace other than the first.
pub fn in_user_namespace() -> bool {
    static INSIDE: OnceLock<bool> = OnceLock::new();
    *INSIDE.get_or_init(|| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/self/ns/user")
            .is_ok_and(|namespace| namespace.ino() != FIRST_USER_NAMESPACE)
    })
}

/// Whether this process may copy mounts of its namespace.
pub fn can_copy_mounts() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let may_administer =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        if !may_administer || !in_user_namespace() {
            return may_administer;
        }
        // In a user namespace it depends on whether the mount namespace is its own.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, c"/proc", flags).is_ok()
    })
}

/// Whether this process may map any user ids of its namespace into a new one; root in a user
/// namespace may too, and root without the capability may not.
pub fn may_map_users() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETUID))
}

/// Whether this process may map any group ids of its namespace into a new one.
pub fn may_map_groups() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETGID))
}

/// Whether processes in a new user namespace of this process may set their groups, however their
/// groups are mapped.
pub fn may_set_groups() -> bool {
    // A namespace inherits the prohibition: user_namespaces(7).
    may_map_groups()
        && std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// Whether processes of this one's own user namespace may set their groups.
pub fn keeps_groups_settable() -> bool {
    !in_user_namespace()
        || std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// Names the setting where the host refuses user namespaces.
pub fn explain(error: Error) -> Error {
    let refused = matches!(error.errno(), Some(Errno::PERM | Errno::ACCESS | Errno::NOSPC));
    if *error.step() != Step::Host(Verb::Clone) || !refused {
        return error;
    }
    let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).ok();
    let hint = if setting("kernel/unprivileged_userns_clone").is_some_and(|v| v.trim() == "0") {
        "kernel.unprivileged_userns_clone is 0"
    } else if setting("user/max_user_namespaces").is_some_and(|v| v.trim() == "0") {
        "user.max_user_namespaces is 0"
    } else if setting("kernel/apparmor_restrict_unprivileged_userns")
        .is_some_and(|v| v.trim() == "1")
    {
        "kernel.apparmor_restrict_unprivileged_userns is 1"
    } else {
        return error;
    };
    error.with_hint(hint)
}
