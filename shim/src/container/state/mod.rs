//! What is known of a container on disk: `state.json`, and the identity of a process.

pub(crate) mod journal;
pub(crate) mod lock;
pub(crate) mod sockets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use pidone_config::config::NamespaceType;
use pidone_config::{Code, Config, Error, Result};
use pidone_host::descriptor::any_readable;
use pidone_host::proc;
use pidone_plan::dropped::DroppedPrivileges;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, renameat, statat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// The state of a container, as in libcontainer's `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct State {
    /// The id of the container.
    pub id: String,
    /// The first process, in the host's pid namespace; 0 if none was started.
    pub init_process_pid: i32,
    /// When it started, in ticks of the clock since boot: field 22 of `/proc/PID/stat`.
    pub init_process_start: u64,
    /// The boot that these ticks count from. Addition.
    #[serde(default)]
    pub boot_id: String,
    /// The container's cgroup on each hierarchy.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// The namespaces, as files below `/proc`.
    pub namespace_paths: BTreeMap<NamespaceType, PathBuf>,
    /// When the container was made, in nanoseconds since 1970. Addition.
    #[serde(default)]
    pub created: u64,
    /// Interfaces on the host that belong to the container. Addition.
    #[serde(default)]
    pub host_links: Vec<String>,
    /// What its init has given up for all that it starts, if it stays. Addition.
    #[serde(default)]
    pub dropped: DroppedPrivileges,
    /// The configuration.
    pub config: Config,
}

/// A process that cannot be mistaken for another: its id may be given again, but not with the
/// same start in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    pub(crate) start: u64,
    pub(crate) boot: String,
}

impl Identity {
    /// Whether it is that of a state's first process.
    pub(crate) fn matches(&self, state: &State) -> bool {
        self.pid == state.init_process_pid
            && self.start == state.init_process_start
            && self.boot == state.boot_id
    }

    /// The identity of a process that is known to exist.
    pub(crate) fn from_pid(pid: i32) -> Result<Self> {
        Ok(Self { pid, start: proc::start_time(pid)?, boot: proc::boot_id()?.to_owned() })
    }

    /// A pidfd of the process; `None` if it ended, whoever has its number now.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        if self.boot != proc::boot_id()? {
            return Ok(None);
        }
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(Error::system("pidfd_open", self.pid.to_string(), errno)),
        };
        // Read behind the open: from here on the number cannot change its owner unnoticed.
        match proc::start_time(self.pid) {
            Ok(start) if start == self.start => Ok((!ended(pidfd.as_fd())).then_some(pidfd)),
            _ => Ok(None),
        }
    }
}

/// Whether the process of a pidfd has ended, reaped or not.
fn ended(pidfd: BorrowedFd<'_>) -> bool {
    any_readable([pidfd]) == Ok(true)
}

/// One version of the file: each is a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    inode: u64,
    written: (i64, u64),
}

impl Version {
    fn from_stat(stat: &Stat) -> Self {
        Self { inode: stat.st_ino, written: (stat.st_mtime, stat.st_mtime_nsec) }
    }
}

/// The name of the file.
const STATE: &str = "state.json";
/// What it is written to before it takes that name.
const NEW: &str = ".state.json.new";
/// What is room enough for most, in bytes.
const USUAL: usize = 16 * 1024;
/// A state is refused beyond this size, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

impl State {
    /// Writes the first state into a directory. Stage of one is as good as none to who reads it.
    pub(crate) fn write_first(&self, directory: BorrowedFd<'_>) -> Result<Version> {
        self.write_to(directory, STATE, OFlags::EXCL)
    }

    /// Writes the state into a directory: whole, or not at all.
    pub(crate) fn write(&self, directory: BorrowedFd<'_>) -> Result<Version> {
        // One that a crash left behind is overwritten: who writes has the lock.
        let version = self.write_to(directory, NEW, OFlags::TRUNC)?;
        renameat(directory, NEW, directory, STATE)
            .map_err(|errno| Error::path("rename", STATE, errno))?;
        Ok(version)
    }

    fn write_to(&self, directory: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<Version> {
        let fail = |verb| move |errno: Errno| Error::path(verb, STATE, errno);
        let bytes =
            serde_json::to_vec(self).map_err(|_| Error::path("encode", STATE, Errno::INVAL))?;
        let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file =
            openat(directory, name, flags, Mode::from_raw_mode(0o600)).map_err(fail("create"))?;
        let mut file = File::from(file);
        file.write_all(&bytes).map_err(|error| Error::path("write", STATE, error))?;
        fstat(&file).map(|stat| Version::from_stat(&stat)).map_err(fail("stat"))
    }

    /// Reads the state from a directory; `None` if there is none.
    ///
    /// # Errors
    /// [`Code::SystemError`] if it is no state: empty, cut off, or something else.
    pub(crate) fn read(directory: BorrowedFd<'_>) -> Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match openat(directory, STATE, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::path("open", STATE, errno)),
        };
        let mut bytes = Vec::with_capacity(USUAL);
        file.take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::path("read", STATE, error))?;
        let state = serde_json::from_slice(&bytes).map_err(|error| {
            Error::reason(Code::SystemError, "read", STATE, format!("not a state: {error}"))
        })?;
        Ok(Some(state))
    }

    /// Which version of the file is in a directory; `None` if there is none.
    pub(crate) fn version(directory: BorrowedFd<'_>) -> Option<Version> {
        let stat = statat(directory, STATE, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Version::from_stat(&stat))
    }

    /// The identity of the first process, if one was started.
    pub(crate) fn identity(&self) -> Option<Identity> {
        (self.init_process_pid > 0).then(|| Identity {
            pid: self.init_process_pid,
            start: self.init_process_start,
            boot: self.boot_id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_process_from_one_with_the_same_id() {
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = Identity::from_pid(own).unwrap();
        assert!(identity.open().unwrap().is_some());
        let older = Identity { start: identity.start - 1, ..identity.clone() };
        assert!(older.open().unwrap().is_none());
        let before_reboot = Identity { boot: "another".into(), ..identity };
        assert!(before_reboot.open().unwrap().is_none());
    }

    #[test]
    fn an_ended_child_is_no_longer_there() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let identity = Identity::from_pid(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        // A zombie still has its number.
        assert!(identity.open().unwrap().is_none());
        child.wait().unwrap();
        assert!(identity.open().unwrap().is_none());
    }
}
