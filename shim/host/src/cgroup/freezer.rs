//! Freezing and thawing all processes of a cgroup.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, Timespec};

use super::directory::{self, Directory, Version, is_gone, read_all, read_record};
use super::{Cgroups, Mode};
use crate::deadline::after;

/// How long the processes may take to freeze. One in an uninterruptible wait, for example for a
/// disk, freezes only after it.
const TIMEOUT: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(1);

const V1_STATE: &str = "freezer.state";
const V2_FREEZE: &str = "cgroup.freeze";

impl Cgroups {
    /// Freezes all processes of the cgroup and below it, and returns when they have stopped.
    ///
    /// # Errors
    /// No freezer is mounted; the processes did not stop within ten seconds, in which case they
    /// are thawed.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(TIMEOUT)
    }

    /// Freezes as [`Cgroups::freeze`] does, with a timeout.
    pub(super) fn freeze_within(&self, timeout: Duration) -> Result<()> {
        let directory = self.freezer()?;
        let stopped = change(&directory, true, timeout);
        if stopped.is_err() {
            // Part of a frozen container would neither run nor be paused.
            let _ = start_thaw(&directory);
        }
        stopped
    }

    /// Thaws all processes, and returns when they run.
    ///
    /// # Errors
    /// No freezer is mounted; a cgroup above this one is frozen.
    pub fn thaw(&self) -> Result<()> {
        change(&self.freezer()?, false, TIMEOUT)
    }

    /// Whether the processes are frozen or freezing. Those of a cgroup that does not exist are not.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let frozen = self.open_freezer()?.map(|directory| is_frozen(&directory));
        frozen.unwrap_or(Ok(false))
    }

    /// Opens the files with the state of the freezer. Returns `None` without a freezer.
    ///
    /// # Errors
    /// The files cannot be opened.
    pub fn freezer_files(&self) -> Result<Option<Freezer>> {
        self.open_freezer()?.map(|directory| Freezer::open(&directory)).transpose()
    }

    /// Opens the directory whose freezer the container uses.
    pub(super) fn open_freezer(&self) -> Result<Option<Directory>> {
        let path = match self.mode {
            Mode::V2 => None,
            _ => self.paths.get("freezer").map(|path| path.as_path()),
        };
        path.or(self.v2()).map_or(Ok(None), Directory::open)
    }

    fn freezer(&self) -> Result<Directory> {
        self.open_freezer()?.ok_or_else(|| {
            let reason = "no cgroup freezer is mounted, or the cgroup is gone";
            Error::reason(Code::SystemError, "freeze", "", reason)
        })
    }
}

/// Whether a cgroup is frozen or freezing, by itself or by an ancestor. One without a freezer is
/// not.
pub(super) fn is_frozen(directory: &Directory) -> Result<bool> {
    Freezer::open(directory)?.is_frozen()
}

/// The open state files of a freezer, each with a function that returns whether its text means
/// frozen or freezing.
#[derive(Debug)]
pub struct Freezer(Vec<(OwnedFd, MeansFrozen)>);

/// Whether the text of a file means frozen or freezing.
type MeansFrozen = fn(&str) -> bool;

impl Freezer {
    fn open(directory: &Directory) -> Result<Self> {
        const V1: &[(&str, MeansFrozen)] = &[(V1_STATE, |text| text.trim() != "THAWED")];
        const V2: &[(&str, MeansFrozen)] =
            &[("cgroup.events", has_stopped), (V2_FREEZE, |text| text.trim() == "1")];
        for version in [V2, V1] {
            let mut files = Vec::new();
            for (name, means_frozen) in version {
                match directory.file(name, OFlags::RDONLY) {
                    Ok(file) => files.push((file, *means_frozen)),
                    Err(errno) if is_gone(errno) => break,
                    Err(errno) => return Err(directory.error("open", name, errno)),
                }
            }
            if !files.is_empty() {
                return Ok(Self(files));
            }
        }
        Ok(Self(Vec::new()))
    }

    /// Whether the processes are frozen or freezing. Those of a removed cgroup are not.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        for (file, means_frozen) in &self.0 {
            match read_record(file.as_fd()) {
                Ok(text) if means_frozen(&text) => return Ok(true),
                Ok(_) => {}
                Err(errno) if is_gone(errno) => return Ok(false),
                Err(errno) => return Err(Error::system("read the state of", "the freezer", errno)),
            }
        }
        Ok(false)
    }
}

/// Whether a process that enters a cgroup without processes would be frozen.
pub(super) fn would_stop(path: &Path, version: Version) -> Result<bool> {
    Ok(match version {
        Version::V1 => {
            directory::read(&path.join(V1_STATE))?.is_some_and(|state| state.trim() != "THAWED")
        }
        // Without processes, the cgroup is frozen as soon as it is freezing.
        Version::V2 => {
            directory::read(&path.join("cgroup.events"))?.is_some_and(|text| has_stopped(&text))
        }
    })
}

fn has_stopped(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

/// Starts to thaw a cgroup, without waiting. It is no error if the cgroup does not exist.
pub(super) fn start_thaw(directory: &Directory) -> Result<()> {
    match request(directory, false) {
        Err(error) if error.errno().is_some_and(is_gone) => Ok(()),
        other => other,
    }
}

fn request(directory: &Directory, frozen: bool) -> Result<()> {
    if directory.has(V1_STATE) {
        directory.write(V1_STATE, if frozen { "FROZEN" } else { "THAWED" })
    } else {
        directory.write(V2_FREEZE, if frozen { "1" } else { "0" })
    }
}

fn change(directory: &Directory, frozen: bool, timeout: Duration) -> Result<()> {
    let deadline = after(timeout);
    let done = if directory.has(V1_STATE) {
        change_v1(directory, frozen, deadline)?
    } else {
        change_v2(directory, frozen, deadline)?
    };
    if done {
        return Ok(());
    }
    let verb = if frozen { "freeze" } else { "thaw" };
    let path = directory.path().to_string_lossy();
    let reason = format!("not done within {} ms", timeout.as_millis());
    let error = Error::reason(Code::SystemError, verb, path, reason);
    Err(if frozen { error } else { error.with_hint("a cgroup above it may be frozen") })
}

/// Writes the state until it is reached. Returns whether it was before the deadline.
///
/// The kernel tries to stop every process once for each write. Processes that fork meanwhile can
/// prevent success forever, which a short thaw from time to time avoids.
fn change_v1(directory: &Directory, frozen: bool, deadline: Instant) -> Result<bool> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    for round in 1_u32.. {
        request(directory, frozen)?;
        if directory.read_existing(V1_STATE)?.trim() == wanted {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            break;
        }
        if frozen && round.is_multiple_of(50) {
            request(directory, false)?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(false)
}

/// Writes the state and waits until it is reached. Returns whether it was before the deadline.
fn change_v2(directory: &Directory, frozen: bool, deadline: Instant) -> Result<bool> {
    let file = "cgroup.events";
    let events = directory
        .file(file, OFlags::RDONLY)
        .map_err(|errno| directory.error("open", file, errno))?;
    request(directory, frozen)?;
    wait_for(&events, deadline, |text| has_stopped(text) == frozen)
        .map_err(|errno| directory.error("read", file, errno))
}

/// Waits until the text of a file that reports its changes by `POLLPRI` fulfils a condition.
/// Returns whether it did before the deadline.
pub(super) fn wait_for(
    file: &OwnedFd,
    deadline: Instant,
    fulfilled: impl Fn(&str) -> bool,
) -> rustix::io::Result<bool> {
    loop {
        // Reading makes poll wait for the next change.
        if fulfilled(&read_all(file.as_fd())?) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut poll = [PollFd::new(file, PollFlags::PRI)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, Some(&left)))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, Directory) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        let directory = Directory::existing(root.path()).unwrap();
        (root, directory)
    }

    #[test]
    fn the_state_of_both_versions_is_read() {
        let frozen = |files: &[(&str, &str)]| is_frozen(&directory(files).1).unwrap();
        assert!(frozen(&[(V1_STATE, "FROZEN\n")]));
        assert!(frozen(&[(V1_STATE, "FREEZING\n")]));
        assert!(!frozen(&[(V1_STATE, "THAWED\n")]));
        assert!(frozen(&[(V2_FREEZE, "1\n"), ("cgroup.events", "populated 1\nfrozen 0\n")]));
        assert!(frozen(&[(V2_FREEZE, "0\n"), ("cgroup.events", "populated 1\nfrozen 1\n")]));
        assert!(!frozen(&[(V2_FREEZE, "0\n"), ("cgroup.events", "populated 1\nfrozen 0\n")]));
        assert!(!frozen(&[]));
    }

    #[test]
    fn a_state_that_is_not_reached_is_an_error() {
        // A plain file never changes but is always ready, so this must not hang.
        let (_root, directory) = directory(&[(V2_FREEZE, ""), ("cgroup.events", "frozen 0\n")]);
        let error = change(&directory, true, Duration::from_millis(5)).unwrap_err().to_string();
        assert!(error.ends_with("not done within 5 ms"), "{error}");
    }

    #[test]
    fn the_state_is_written() {
        let (_root, directory) = directory(&[(V1_STATE, "")]);
        change(&directory, true, TIMEOUT).unwrap();
        assert_eq!(directory.read(V1_STATE).unwrap().as_deref(), Some("FROZEN"));
        change(&directory, false, TIMEOUT).unwrap();
        assert_eq!(directory.read(V1_STATE).unwrap().as_deref(), Some("THAWED"));
    }

    #[test]
    fn a_container_without_a_cgroup_is_not_frozen() {
        assert!(!Cgroups::default().is_frozen().unwrap());
        assert!(Cgroups::default().freeze().is_err());
    }
}
