//! File descriptors of the caller, from 3 on, that are passed to a process.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use pidone_config::{Code, Error, Process, Result};
use pidone_host::proc;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The first descriptor that is passed.
const FIRST: u32 = 3;

/// Passes the sockets of socket activation to a process, and `preserved` more descriptors.
///
/// As in crun, numbers below the last one may be closed, and stay closed in the process: podman
/// passes single descriptors by their numbers.
///
/// # Errors
/// [`Code::ConfigInvalid`] with the number of a descriptor that is not open: the last one, or a
/// socket.
pub(super) fn pass_to(process: &mut Process, preserved: u32) -> Result<()> {
    let listening = listening();
    let count = listening.checked_add(preserved).and_then(|count| count.checked_add(FIRST));
    let end = count.ok_or_else(|| refuse(preserved, Errno::BADF))?;
    if end == FIRST {
        return Ok(());
    }
    let this_process = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|errno| Error::system("pidfd_open", "self", errno))?;
    // The last one first: a wrong count can be large.
    let last = i32::try_from(end - 1).ok().filter(|last| is_inherited(*last));
    last.ok_or_else(|| refuse(end - 1, Errno::BADF))?;
    for number in FIRST..end {
        let raw = i32::try_from(number).map_err(|_| refuse(number, Errno::BADF))?;
        if !is_inherited(raw) {
            if number < FIRST + listening {
                return Err(refuse(number, Errno::BADF));
            }
            process.closed_numbers.insert(number);
            continue;
        }
        let file: OwnedFd = pidfd_getfd(&this_process, raw, PidfdGetfdFlags::empty())
            .map_err(|errno| refuse(number, errno))?;
        process.extra_files.push(file);
    }
    if listening > 0 {
        let names = ["LISTEN_FDS=", "LISTEN_PID="];
        let is_one = |variable: &OsString| {
            names.iter().any(|name| variable.as_bytes().starts_with(name.as_bytes()))
        };
        process.env.retain(|variable| !is_one(variable));
        process.env.extend([format!("LISTEN_FDS={listening}").into(), "LISTEN_PID=1".into()]);
    }
    Ok(())
}

fn refuse(number: u32, errno: Errno) -> Error {
    Error::system("preserve descriptor", number.to_string(), errno).with_code(Code::ConfigInvalid)
}

/// Returns how many sockets were passed to this process by socket activation: sd_listen_fds(3).
fn listening() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let is_for_this_process = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| is_for_this_process).unwrap_or(0)
}

/// Returns whether a descriptor is open and was inherited from the caller.
///
/// Descriptors that this process opened are close-on-exec. A wrong count must not pass the log or a
/// state file to the container.
fn is_inherited(number: i32) -> bool {
    let Ok(Some(flags)) = proc::descriptor_value(number, "flags") else { return false };
    let flags = i32::from_str_radix(&flags, 8).ok();
    flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
}
