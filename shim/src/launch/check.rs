//! Checks of the descriptors that the init sends, which is untrusted, and the modes of a terminal.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use pidone_config::{Error, Result};
use pidone_host::pidfd;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};

use super::channel::violation;
use super::clone::Child;

/// Checks that a descriptor from the init is the pidfd of a child of this process, and returns the
/// child: no other process may be signalled instead.
pub(super) fn as_child(pidfd: OwnedFd) -> Result<Child> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), look)
        .map_err(|_| violation("forked process that is no child"))?;
    match pidfd::process_id(pidfd.as_fd())? {
        Some(pid) => Ok(Child { pid, pidfd }),
        None => Err(violation("forked process without an id")),
    }
}

/// Checks that a descriptor from the init is the notification descriptor of a seccomp filter.
pub(super) fn checked_listener(listener: OwnedFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
    let link = std::fs::read_link(&path).map_err(|error| Error::path("read", &path, error))?;
    if link == Path::new("anon_inode:seccomp notify") {
        Ok(listener)
    } else {
        Err(violation("listener that is none"))
    }
}

/// Checks that a descriptor from the init is the master side of a terminal.
pub(super) fn checked_terminal(master: OwnedFd) -> Result<OwnedFd> {
    let stat =
        rustix::fs::fstat(&master).map_err(|errno| Error::system("stat", "console", errno))?;
    let number = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let character =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if character && number == (5, 2) {
        Ok(master)
    } else {
        Err(violation("console that is no terminal"))
    }
}

/// Sets the modes of a terminal so that a line feed of the program stays one: `termios(3)`.
pub(super) fn keep_newlines(master: &OwnedFd) -> Result<()> {
    let fail = |verb| move |errno| Error::system(verb, "console", errno);
    let mut modes = tcgetattr(master).map_err(fail("tcgetattr"))?;
    modes.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(master, OptionalActions::Now, &modes).map_err(fail("tcsetattr"))
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn pidfd(pid: u32) -> OwnedFd {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }

    #[test]
    fn a_descriptor_that_is_no_pidfd_of_a_child_is_refused() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(as_child(pidfd(child.id())).unwrap().pid.unsigned_abs(), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(as_child(pidfd(std::process::id())).is_err());
        let file = OwnedFd::from(std::fs::File::open("/proc/self/stat").unwrap());
        assert!(as_child(file).is_err());
    }
}
