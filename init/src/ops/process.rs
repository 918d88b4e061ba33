//! Identity and limits of the process that is about to be executed.

use pidone_proto::{Call, Report, Slot, Text, Words};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::process::{fchdir, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};

use crate::failure::{Context, Failure, Result};
use crate::interpret::Init;
use crate::sys;

/// Limits a resource.
pub(crate) fn rlimit(resource: u32, soft: u64, hard: u64) -> Result {
    sys::setrlimit(resource, soft, hard).during(Call::Rlimit)
}

/// Drops from the bounding set what is not kept. Before the ids change: it needs `CAP_SETPCAP`.
pub(crate) fn bounding(keep: u64) -> Result {
    for capability in each(!keep) {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows none from here on.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).during(Call::BoundingSet),
        }
    }
    Ok(())
}

/// Sets the supplementary groups.
pub(crate) fn groups(ids: Words<'_>) -> Result {
    sys::setgroups(ids.as_bytes()).during(Call::Groups)
}

/// Changes to a user and a group. The permitted set survives until it is set.
pub(crate) fn ids(uid: u32, gid: u32) -> Result {
    if uid != 0 {
        set_keep_capabilities(true).during(Call::SetUid)?;
    }
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid).during(Call::SetGid)?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid).during(Call::SetUid)
}

/// Sets all capability sets; ambient ones must be permitted and inheritable by then.
pub(crate) fn capabilities(
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
    // What was raised to survive the exec of the init in a new user namespace goes first.
    clear_ambient_capability_set().during(Call::Ambient)?;
    set_capabilities(None, sets).during(Call::CapSet)?;
    for capability in each(ambient) {
        configure_capability_in_ambient_set(capability, true).during(Call::Ambient)?;
    }
    Ok(())
}

/// The capabilities of a mask, one at a time.
fn each(mask: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| 1 << number)
        .filter(move |bit| mask & bit != 0)
        .map(CapabilitySet::from_bits_retain)
}

/// Gives up gaining privileges by exec.
pub(crate) fn no_new_privileges() -> Result {
    set_no_new_privs(true).during(Call::NoNewPrivileges)
}

/// Installs a seccomp filter, and hands its listener to the host if it has one.
///
/// The kernel closes the listener at exec, and every other descriptor of it is the host's.
pub(crate) fn seccomp(init: &mut Init, flags: u32, filter: &[u8]) -> Result {
    const NEW_LISTENER: u32 = 8;
    let answer = sys::seccomp(flags, filter).during(Call::Seccomp)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(());
    }
    let listener = sys::listener(answer);
    init.channel.send(&Report::Listener, Some(listener.as_fd()))
}

/// Moves this process into a cgroup, by a file that the host has opened.
pub(crate) fn join_cgroup(init: &mut Init, procs: Slot) -> Result {
    let procs = init.slots.take(procs)?;
    // Whoever writes it.
    rustix::io::write(&procs, b"0").during(Call::Write).map(drop)
}

/// Sets the file mode creation mask.
pub(crate) fn umask(mask: u32) {
    rustix::process::umask(Mode::from_raw_mode(mask));
}

/// Changes the working directory.
///
/// As a descriptor resolved inside the root, never through a magic link: a working directory like
/// `/proc/self/fd/7` must not lead to a descriptor of the host.
pub(crate) fn change_directory(init: &mut Init, path: Text<'_>) -> Result {
    let path = path.as_c_str();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = init.open(path, flags, true).during(Call::Open)?;
    fchdir(&directory).during(Call::ChangeDirectory)
}

/// Asks for a signal when the parent ends, and makes sure that it has not ended before.
///
/// Behind the change of ids, which clears it. A parent in another pid namespace has no id here,
/// but the socket to it closes with it.
pub(crate) fn parent_death(init: &mut Init, signal: u32) -> Result {
    let number = i32::try_from(signal).unwrap_or(0);
    let signal =
        Signal::from_named_raw(number).ok_or(Failure::new(Call::ParentDeath, Errno::INVAL))?;
    set_parent_process_death_signal(Some(signal)).during(Call::ParentDeath)?;
    let socket = init.channel.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).during(Call::ParentDeath)?;
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
        return Err(Failure::new(Call::ParentGone, Errno::SRCH));
    }
    Ok(())
}
