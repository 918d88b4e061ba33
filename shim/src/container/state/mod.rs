//! The state of a container on disk: `state.json`, with the identity of the first process.

pub(crate) mod journal;
pub(crate) mod lock;
pub(crate) mod sockets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use pidone_config::config::NamespaceType;
use pidone_config::{Code, Config, Error, Result};
use pidone_host::descriptor::any_readable;
use pidone_host::proc;
use pidone_plan::dropped::DroppedPrivileges;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, renameat, statat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use journal::JOURNAL;
use sockets::{REMAINING_PLAN, START, SUPERVISOR};

/// The state of a container, as in libcontainer's `state.json`.
///
/// [`Container::state`](crate::Container::state) returns it. It is serialized as JSON with the
/// names of the fields, except for [`State::dropped`]. Fields that libcontainer does not have are
/// marked as additions.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use pidone::{Factory, Options, State};
///
/// # fn main() -> pidone::Result<()> {
/// let factory = Factory::new("/run/example", Options::default())?;
/// let container = factory.load("web")?;
/// let state: Arc<State> = container.state()?;
/// println!("process {}, cgroups {:?}", state.init_process_pid, state.cgroup_paths);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct State {
    /// The id of the container.
    pub id: String,
    /// The id of the first process, in the pid namespace of the program that started it; 0 if none
    /// was started.
    pub init_process_pid: i32,
    /// When the first process started, in clock ticks since boot: field 22 of `/proc/PID/stat`,
    /// `proc_pid_stat(5)`.
    pub init_process_start: u64,
    /// The id of the boot from which these ticks count, `/proc/sys/kernel/random/boot_id`.
    /// Addition.
    #[serde(default)]
    pub boot_id: String,
    /// The container's cgroup in each hierarchy: a controller, or `""` for cgroup v2, and the path.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// The namespaces of the first process, as files below `/proc`.
    pub namespace_paths: BTreeMap<NamespaceType, PathBuf>,
    /// When the container was created, in nanoseconds since 1970. Addition.
    #[serde(default)]
    pub created: u64,
    /// Interfaces on the host that belong to the container. Addition.
    #[serde(default)]
    pub host_links: Vec<String>,
    /// The privileges that a supervising init has dropped, for itself and for the processes that it
    /// starts. Addition, serialized as `given_up`.
    #[serde(default, rename = "given_up")]
    pub dropped: DroppedPrivileges,
    /// Whether the first process was made, but hooks and commands around mounts are still to run
    /// before it is set up. Addition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub creating: bool,
    /// The configuration.
    pub config: Config,
}

/// The unambiguous identity of a process. The kernel reuses a pid, but not with the same start time
/// in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// As in [`State::init_process_start`].
    pub(crate) start: u64,
    /// As in [`State::boot_id`].
    pub(crate) boot: String,
}

impl Identity {
    /// Whether this is the identity of the first process of a state.
    pub(crate) fn matches(&self, state: &State) -> bool {
        self.pid == state.init_process_pid
            && self.start == state.init_process_start
            && self.boot == state.boot_id
    }

    /// Returns the identity of a process that is known to exist.
    pub(crate) fn from_pid(pid: i32) -> Result<Self> {
        Ok(Self { pid, start: proc::start_time(pid)?, boot: proc::boot_id()?.to_owned() })
    }

    /// Opens a pidfd of the process. Returns `None` if it has ended, even if its pid has been
    /// reused.
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
        // Read after the open: if the start time is still that of the process, so is the pidfd.
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

/// The version of a state file. Each version is a new file.
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

/// The name of the state file.
const STATE: &str = "state.json";
/// The name under which a new version is written before it is renamed.
const NEW: &str = ".state.json.new";
/// The initial capacity for reading, in bytes; enough for most states.
const USUAL: usize = 16 * 1024;
/// How much of a state is read, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What else a directory of a container holds.
const OTHERS: [&str; 5] = [NEW, START, SUPERVISOR, REMAINING_PLAN, "notify"];

/// Whether a directory is that of a container, even of one whose start or end was interrupted.
///
/// # Errors
/// [`Code::SystemError`] if it cannot be read.
pub(crate) fn is_containers(directory: BorrowedFd<'_>, path: &Path) -> Result<bool> {
    for name in [STATE, JOURNAL] {
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Ok(true),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::path("stat", path.join(name), errno)),
        }
    }
    let fail = |error| Error::path("read", path, error);
    let mut empty = true;
    let entries = match std::fs::read_dir(path) {
        // It was removed just now.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(fail)?,
    };
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        if !OTHERS.iter().any(|other| name == *other) {
            return Ok(false);
        }
        empty = false;
    }
    // Nothing was written yet. The mode is that of `Factory::create`, and rarely another's.
    let stat = fstat(directory).map_err(|errno| Error::path("stat", path, errno))?;
    Ok(!empty || stat.st_mode & 0o777 == 0o700)
}

impl State {
    /// Writes the first state into a new directory, directly under its final name. A reader treats
    /// a truncated state file as missing.
    pub(crate) fn write_first(&self, directory: BorrowedFd<'_>) -> Result<Version> {
        self.write_to(directory, STATE, OFlags::EXCL)
    }

    /// Replaces the state in a directory atomically, by a rename.
    pub(crate) fn write(&self, directory: BorrowedFd<'_>) -> Result<Version> {
        // A file left by a crash is overwritten. The caller holds the lock, so nobody else uses it.
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

    /// Reads the state from a directory; `None` if there is no file.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the file is empty, truncated, or otherwise not a state.
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

    /// Returns the version of the state file in a directory; `None` if there is no file.
    pub(crate) fn version(directory: BorrowedFd<'_>) -> Option<Version> {
        let stat = statat(directory, STATE, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Version::from_stat(&stat))
    }

    /// Sets the identity and the namespaces of the first process.
    pub(crate) fn set_first(&mut self, identity: &Identity) {
        self.init_process_pid = identity.pid;
        self.init_process_start = identity.start;
        self.boot_id.clone_from(&identity.boot);
        self.namespace_paths = NamespaceType::ALL
            .iter()
            .map(|kind| {
                let path = format!("/proc/{}/ns/{}", identity.pid, kind.file());
                (*kind, path.into())
            })
            .collect();
    }

    /// Returns the identity of the first process, if one was started.
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
    use pidone_plan::dropped::Filtered;
    use serde_json::json;

    use super::*;

    #[test]
    fn dropped_privileges_are_read_and_written_as_given_up() {
        let given_up = json!({"bounding": 5, "filter": "as_configured"});
        let text = json!({
            "id": "c",
            "init_process_pid": 0,
            "init_process_start": 0,
            "cgroup_paths": {},
            "namespace_paths": {},
            "given_up": given_up,
            "config": Config::default(),
        });
        let state: State = serde_json::from_value(text).unwrap();
        assert_eq!(state.dropped.bounding, Some(5));
        assert_eq!(state.dropped.filter, Filtered::AsConfigured);
        let written = serde_json::to_value(&state).unwrap();
        assert_eq!(written["given_up"], given_up);
        assert_eq!(written.get("dropped"), None);
    }

    #[test]
    fn process_with_the_same_pid_but_another_start_or_boot_is_not_opened() {
        let own = i32::try_from(std::process::id()).unwrap();
        let identity = Identity::from_pid(own).unwrap();
        assert!(identity.open().unwrap().is_some());
        let older = Identity { start: identity.start - 1, ..identity.clone() };
        assert!(older.open().unwrap().is_none());
        let before_reboot = Identity { boot: "another".into(), ..identity };
        assert!(before_reboot.open().unwrap().is_none());
    }

    #[test]
    fn ended_child_is_not_opened_reaped_or_not() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let identity = Identity::from_pid(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        use rustix::event::{PollFd, PollFlags, poll};
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        // A zombie still has its pid.
        assert!(identity.open().unwrap().is_none());
        child.wait().unwrap();
        assert!(identity.open().unwrap().is_none());
    }
}
