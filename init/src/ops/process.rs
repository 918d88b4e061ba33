//! Identity and limits of the process that executes the program.

use pidone_proto::{Call, Report, Slot, Text, Words};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::fchdir;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set,
    set_keep_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};

use crate::failure::{Context, Failure, Result};
use crate::kernel::{self, attributes};
use crate::state::Init;

/// Sets a resource limit.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> Result {
    attributes::setrlimit(resource, soft, hard).during(Call::Rlimit)
}

/// Drops all capabilities but `keep` from the bounding set. This needs `CAP_SETPCAP`, and so comes
/// before the change of ids.
pub(crate) fn limit_bounding_set(keep: u64) -> Result {
    for capability in capabilities_of(!keep) {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more capabilities.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).during(Call::BoundingSet),
        }
    }
    Ok(())
}

/// Sets the supplementary groups.
pub(crate) fn set_groups(ids: Words<'_>) -> Result {
    attributes::setgroups(ids.as_bytes()).during(Call::Groups)
}

/// Sets user and group. Keeps the permitted capabilities, which are set later.
pub(crate) fn set_ids(uid: u32, gid: u32) -> Result {
    if uid != 0 {
        set_keep_capabilities(true).during(Call::SetUid)?;
    }
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid).during(Call::SetGid)?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid).during(Call::SetUid)
}

/// Sets all capability sets. The ambient set comes last: its members must be permitted and
/// inheritable.
pub(crate) fn set_capabilities(
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
) -> Result {
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(effective),
        permitted: set(permitted),
        inheritable: set(inheritable),
    };
    // The host may have raised some to survive the exec of the init in a new user namespace.
    clear_ambient_capability_set().during(Call::Ambient)?;
    rustix::thread::set_capabilities(None, sets).during(Call::CapSet)?;
    for capability in capabilities_of(ambient) {
        configure_capability_in_ambient_set(capability, true).during(Call::Ambient)?;
    }
    Ok(())
}

/// Returns the capabilities of a mask, one at a time.
fn capabilities_of(mask: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| 1 << number)
        .filter(move |bit| mask & bit != 0)
        .map(CapabilitySet::from_bits_retain)
}

/// Sets `PR_SET_NO_NEW_PRIVS`.
pub(crate) fn set_no_new_privileges() -> Result {
    set_no_new_privs(true).during(Call::NoNewPrivileges)
}

/// Installs a seccomp filter, and sends its listener to the host if it has one.
///
/// The listener is close-on-exec, so only the host keeps it.
pub(crate) fn install_filter(init: &mut Init, flags: u32, filter: &[u8]) -> Result {
    match attributes::seccomp(flags, filter).during(Call::Seccomp)? {
        Some(listener) => init.channel.send(&Report::Listener, Some(listener.as_fd())),
        None => Ok(()),
    }
}

/// Sets the execution domain.
pub(crate) fn set_personality(persona: u32) -> Result {
    attributes::personality(persona).during(Call::Personality)
}

/// Joins a session keyring.
pub(crate) fn join_keyring(name: Text<'_>) -> Result {
    attributes::join_session_keyring(name.as_c_str()).during(Call::Keyring)
}

/// Moves this process into a cgroup by its `cgroup.procs`, which the host has opened.
pub(crate) fn join_cgroup(init: &mut Init, procs: Slot) -> Result {
    let procs = init.slots.take(procs)?;
    // 0 is the process that writes it.
    rustix::io::write(&procs, b"0").during(Call::Write).map(drop)
}

/// Sets the file mode creation mask.
pub(crate) fn set_umask(mask: u32) {
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// Changes the working directory.
///
/// It is resolved inside the root and never through a magic link: a working directory such as
/// `/proc/self/fd/7` must not lead to a descriptor of the host.
pub(crate) fn change_directory(init: &mut Init, path: Text<'_>) -> Result {
    let path = path.as_c_str();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = init.open(path, flags, true).during(Call::Open)?;
    fchdir(&directory).during(Call::ChangeDirectory)
}

/// Requests a signal when the parent ends, and checks that it has not ended before.
///
/// This comes after the change of ids, which clears it. The parent has no pid in this namespace if
/// it is in another one, but the socket is closed when it ends.
pub(crate) fn set_parent_death(init: &mut Init, signal: u32) -> Result {
    kernel::process::set_parent_death(signal).during(Call::ParentDeath)?;
    let socket = init.channel.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&no_wait)).during(Call::ParentDeath)?;
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(Failure::new(Call::ParentGone, Errno::SRCH));
    }
    Ok(())
}
