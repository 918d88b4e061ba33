//! Killing all processes of a cgroup.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::{Directory, is_gone};
use super::{Cgroups, freezer, tree};

/// How long the processes may take to end. One in an uninterruptible wait, for example for a disk,
/// ends only after it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one round waits for processes to freeze before it kills those that it lists.
const FREEZING: Duration = Duration::from_millis(200);

/// How long processes may take to end after `cgroup.kill`. Those that are left then are treated as
/// members of cgroup v1 hierarchies only, and killed one by one.
const DYING: Duration = Duration::from_millis(50);

const PAUSE: Duration = Duration::from_millis(1);

/// How many pidfds are open at once. The usual limit of descriptors is 1024.
const BATCH: usize = 128;

impl Cgroups {
    /// Kills all processes in the cgroup and below it, in any hierarchy, frozen ones too, and
    /// returns when none is left. The cgroup is thawed afterwards.
    ///
    /// Uses `cgroup.kill` where it exists (since Linux 5.14). Otherwise the processes are frozen,
    /// so that none forks while they are listed, then killed and thawed, until none is left.
    ///
    /// # Errors
    /// Processes that are left after ten seconds, by their ids; a process that the caller may not
    /// kill.
    pub fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let by_kernel = self.write_kill()?;
        let begin = Instant::now();
        loop {
            let members = self.members()?;
            if members.is_empty() {
                return self.thaw_all();
            }
            let is_dying = by_kernel && begin.elapsed() < DYING;
            let killed = if is_dying { Ok(()) } else { self.kill_members(&members) };
            // SIGKILL does not wake a process that cgroup v1 has frozen.
            self.thaw_all()?;
            killed?;
            if Instant::now() >= deadline {
                let reason = format!(
                    "processes are left after {} s: {}",
                    TIMEOUT.as_secs(),
                    tree::describe(&members)
                );
                let path = self.directories().first().map(|path| path.to_string_lossy());
                let path = path.unwrap_or_default();
                return Err(Error::reason(Code::SystemError, "kill cgroup", path, reason));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Writes `cgroup.kill` in cgroup v2. Returns whether the file exists.
    fn write_kill(&self) -> Result<bool> {
        let Some(path) = self.v2() else { return Ok(false) };
        let Some(directory) = Directory::open(path)? else { return Ok(false) };
        let file = "cgroup.kill";
        match directory.try_write(file, "1") {
            Ok(()) => Ok(true),
            Err(errno) if is_gone(errno) => Ok(false),
            Err(errno) => Err(directory.write_error(file, "1", errno)),
        }
    }

    fn kill_members(&self, members: &BTreeSet<i32>) -> Result<()> {
        // Without a freezer, or if the processes do not freeze in time, more rounds follow.
        let _ = self.freeze_within(FREEZING);
        let pids: Vec<Pid> = members.iter().copied().filter_map(Pid::from_raw).collect();
        for batch in pids.chunks(BATCH) {
            let mut opened = Vec::with_capacity(batch.len());
            for &pid in batch {
                match pidfd_open(pid, PidfdFlags::empty()) {
                    Ok(fd) => opened.push((pid, fd)),
                    Err(Errno::SRCH) => {}
                    // Too many open files: the others are killed in the next round.
                    Err(Errno::MFILE | Errno::NFILE) if !opened.is_empty() => break,
                    Err(errno) => return Err(process_error("pidfd_open", pid, errno)),
                }
            }
            // Between the list and the open a process may end, and its id be reused by a process
            // outside of the cgroup. A process whose id is also in a second list, read after the
            // open, is a member.
            let confirmed = self.members()?;
            for (pid, fd) in opened {
                if !confirmed.contains(&pid.as_raw_pid()) {
                    continue;
                }
                match pidfd_send_signal(&fd, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(process_error("kill", pid, errno)),
                }
            }
        }
        Ok(())
    }

    /// Thaws the cgroup and all below it, which may have been frozen separately, without waiting.
    fn thaw_all(&self) -> Result<()> {
        let Some(directory) = self.open_freezer()? else { return Ok(()) };
        tree::walk(&directory, freezer::start_thaw, |_, _| Ok(()))
    }
}

fn process_error(call: &'static str, pid: Pid, errno: Errno) -> Error {
    Error::system(call, format!("process {pid}"), errno)
}
