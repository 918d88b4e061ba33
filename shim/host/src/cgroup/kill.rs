//! Killing everything in the cgroup.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::directory::{Directory, is_gone};
use super::{Cgroups, freezer, tree};

/// How long the processes may take to die: one that waits for a disk dies only afterwards.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one round waits for processes to stop, before it kills those that it sees.
const FREEZING: Duration = Duration::from_millis(200);

/// How long processes that the kernel killed may take, before those that are left are looked upon
/// as members of hierarchies of cgroup v1 alone.
const DYING: Duration = Duration::from_millis(50);

const PAUSE: Duration = Duration::from_millis(1);

/// How many process descriptors are open at once: the usual limit is 1024.
const BATCH: usize = 128;

impl Cgroups {
    /// Kills all processes in the cgroup and below it, in any hierarchy, also frozen ones, and
    /// returns when none is left. The cgroup is thawed afterwards.
    ///
    /// `cgroup.kill` does that at once where it exists (Linux 5.14). Else the processes are frozen,
    /// so that none forks while they are listed, then killed and thawed, until none is left.
    ///
    /// # Errors
    /// Processes that are left after ten seconds, by their ids; a process that may not be killed.
    pub fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let by_kernel = self.write_kill()?;
        let begin = Instant::now();
        loop {
            let members = self.members()?;
            if members.is_empty() {
                return self.let_go();
            }
            let is_dying = by_kernel && begin.elapsed() < DYING;
            let killed = if is_dying { Ok(()) } else { self.kill_members(&members) };
            // SIGKILL does not wake a process that cgroup v1 has frozen.
            self.let_go()?;
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

    /// Has the kernel kill what is in the cgroup of cgroup v2. Returns whether it could.
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
        // Without a freezer, or if the processes do not stop in time, there are more rounds.
        let _ = self.freeze_within(FREEZING);
        let pids: Vec<Pid> = members.iter().copied().filter_map(Pid::from_raw).collect();
        for batch in pids.chunks(BATCH) {
            let mut opened = Vec::with_capacity(batch.len());
            for &pid in batch {
                match pidfd_open(pid, PidfdFlags::empty()) {
                    Ok(fd) => opened.push((pid, fd)),
                    Err(Errno::SRCH) => {}
                    // The others are for the next round.
                    Err(Errno::MFILE | Errno::NFILE) if !opened.is_empty() => break,
                    Err(errno) => return Err(process_error("pidfd_open", pid, errno)),
                }
            }
            // A process may end and its id go to a stranger between the list and the open. Whoever
            // held the id at the open, and is in a second list made afterwards, is a member.
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

    /// Thaws without waiting. A cgroup below may have been frozen on its own.
    fn let_go(&self) -> Result<()> {
        let Some(directory) = self.open_freezer()? else { return Ok(()) };
        tree::walk(&directory, freezer::let_go, |_, _| Ok(()))
    }
}

fn process_error(call: &'static str, pid: Pid, errno: Errno) -> Error {
    Error::system(call, format!("process {pid}"), errno)
}
