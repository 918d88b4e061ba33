//! Descriptors of the caller that are passed to a process, from 3 up.

use std::os::fd::OwnedFd;

use pidone_config::{Code, Error, Process, Result};
use pidone_host::proc;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The first that is passed on.
const FIRST: u32 = 3;

/// Gives a process the sockets of socket activation, if there are any, and so many more.
pub(super) fn pass(process: &mut Process, preserved: u32) -> Result<()> {
    let listening = listening();
    let count = listening.checked_add(preserved).and_then(|count| count.checked_add(FIRST));
    let end = count.ok_or_else(|| refuse(preserved, Errno::BADF))?;
    if end == FIRST {
        return Ok(());
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|errno| Error::system("pidfd_open", "self", errno))?;
    for number in FIRST..end {
        let raw = i32::try_from(number).map_err(|_| refuse(number, Errno::BADF))?;
        if !is_inherited(raw) {
            return Err(refuse(number, Errno::BADF));
        }
        let file: OwnedFd = pidfd_getfd(&own, raw, PidfdGetfdFlags::empty())
            .map_err(|errno| refuse(number, errno))?;
        process.extra_files.push(file);
    }
    if listening > 0 {
        let names = ["LISTEN_FDS=", "LISTEN_PID="];
        process.env.retain(|variable| !names.iter().any(|name| variable.starts_with(name)));
        process.env.extend([format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
    }
    Ok(())
}

fn refuse(number: u32, errno: Errno) -> Error {
    Error::system("preserve descriptor", number.to_string(), errno).with_code(Code::ConfigInvalid)
}

/// How many sockets were passed to this process to listen on: `sd_listen_fds(3)`.
fn listening() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let own = number("LISTEN_PID") == Some(std::process::id());
    number("LISTEN_FDS").filter(|_| own).unwrap_or(0)
}

/// Whether a descriptor is open and comes from the caller: those of this process say that they do
/// not outlive an exec, and a wrong count must not make the log or a state the container's.
fn is_inherited(number: i32) -> bool {
    let Ok(Some(flags)) = proc::descriptor_value(number, "flags") else { return false };
    let flags = i32::from_str_radix(&flags, 8).ok();
    flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
}
