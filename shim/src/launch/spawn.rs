//! A process that the init of a container starts.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::channel::{Channel, Message, violation};
use super::clone::Child;
use super::session::{checked_terminal, explain, wait};
use super::source::{self, Lent};
use crate::error::{Error, Result};
use crate::pid;
use crate::plan::Plan;

/// What is asked of an init that supervises.
pub(crate) struct Spawn<'a> {
    /// The operations, in one part.
    pub(crate) plan: &'a Plan,
    /// Whether the container ends with the process.
    pub(crate) main: bool,
    /// What the plan's sources stand for.
    pub(crate) lent: Lent<'a>,
    /// The init.
    pub(crate) init: &'a Child,
    /// How long nothing may be heard of it.
    pub(crate) patience: Duration,
}

/// A process that the init has started.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// What the init calls it.
    pub(crate) number: u32,
    /// Its id in the caller's pid namespace; 0 if it has ended already.
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal.
    pub(crate) console: Option<OwnedFd>,
}

impl Spawn<'_> {
    /// Has the init start the process; returns when its program runs, or waits for the start.
    ///
    /// The connection is then the one on which the end of the process is told.
    pub(crate) fn run(&self, channel: &mut Channel) -> Result<Spawned> {
        let [part] = self.plan.parts() else {
            return Err(Error::system("spawn", "more than one part", Errno::INVAL));
        };
        let opened: Vec<_> = part
            .sources
            .iter()
            .map(|source| source::open(source, self.lent))
            .collect::<Result<_>>()?;
        let files: Vec<_> = opened.iter().map(|file| file.as_fd()).collect();
        if !channel.spawn(self.main, part, &files)? {
            // Nothing else is under way on the connection.
            return Err(violation("no room for a request"));
        }
        drop(opened);
        let mut console = None;
        let deadline = Instant::now() + self.patience;
        loop {
            let until = (deadline, self.patience);
            let ended = wait(channel, PollFlags::IN, self.init.pidfd.as_fd(), until)?;
            // All that was said is heard before an end is believed.
            while let Some(message) = channel.receive()? {
                match message {
                    Message::SpawnConsole(master) if console.is_none() => {
                        console = Some(checked_terminal(master)?);
                    }
                    Message::Spawned { process: number, pidfd } => {
                        let pid = self.child_of_init(&pidfd)?;
                        return Ok(Spawned { number, pid, pidfd, console });
                    }
                    Message::NotSpawned(failed) => {
                        return Err(explain(&failed, self.plan, 0, self.plan.len()));
                    }
                    Message::End => return Err(gone()),
                    _ => return Err(violation("report out of its place")),
                }
            }
            if ended {
                return Err(gone());
            }
        }
    }

    /// Makes sure that a descriptor from the init is the pidfd of a child of the init, and finds its
    /// id: a stranger must not be signalled in its place. One that was reaped is nobody.
    fn child_of_init(&self, pidfd: &OwnedFd) -> Result<i32> {
        let Some(pid) = pid::of(pidfd.as_fd())? else { return Ok(0) };
        match pid::parent(pid) {
            None => Ok(0),
            Some(parent) if parent == self.init.pid => Ok(pid),
            Some(_) => Err(violation("process that is no child of the init")),
        }
    }
}

/// The error for an init that is no more.
fn gone() -> Error {
    Error::system("spawn", "the init has ended", Errno::SRCH)
}
