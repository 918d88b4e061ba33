//! A process that the init of a container starts.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use pidone_config::{Error, Result};
use pidone_host::{pidfd, proc};
use pidone_plan::Plan;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::channel::{Channel, Message, violation};
use super::check::checked_terminal;
use super::session::{explain, wait};
use super::source::{self, Lent};
use crate::trace;

/// What is asked of an init that supervises.
pub(crate) struct Spawn<'a> {
    /// The operations, in one part.
    pub(crate) plan: &'a Plan,
    /// Whether the container ends with the process.
    pub(crate) main: bool,
    /// What the plan's sources stand for.
    pub(crate) lent: Lent<'a>,
    /// The pid and the pidfd of the init.
    pub(crate) init: (i32, BorrowedFd<'a>),
    /// How long nothing may be heard of it.
    pub(crate) timeout: Duration,
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
    pub(crate) fn start(&self, channel: &mut Channel) -> Result<Spawned> {
        let [part] = self.plan.parts() else {
            return Err(Error::system("spawn", "more than one part", Errno::INVAL));
        };
        let opened = source::open_all(part, self.lent)?;
        let files: Vec<_> = opened.iter().map(|file| file.as_fd()).collect();
        if !trace::span("ask the init", || channel.spawn(self.main, part, &files))? {
            // Nothing else is under way on the connection.
            return Err(violation("no room for a request"));
        }
        drop(opened);
        let mut console = None;
        let deadline = Instant::now() + self.timeout;
        loop {
            let until = (deadline, self.timeout);
            let wait = || wait(channel, PollFlags::IN, self.init.1, until);
            let ended = trace::span(trace::WAIT, wait)?;
            // All that was said is heard before an end is believed.
            while let Some(message) = channel.receive()? {
                match message {
                    Message::SpawnConsole(master) if console.is_none() => {
                        console = Some(checked_terminal(master)?);
                    }
                    Message::Spawned { process: number, pidfd } => {
                        let pid = self.child_of_init(&pidfd)?;
                        trace::mark("start seen", None);
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
        let Some(pid) = pidfd::of(pidfd.as_fd())? else { return Ok(0) };
        match proc::parent(pid) {
            None => Ok(0),
            Some(parent) if parent == self.init.0 => Ok(pid),
            // The kernel tells no parent of one that was reaped between.
            Some(0) if pidfd::of(pidfd.as_fd())?.is_none() => Ok(0),
            Some(_) => Err(violation("process that is no child of the init")),
        }
    }
}

/// The error for an init that is no more.
fn gone() -> Error {
    Error::system("spawn", "the init has ended", Errno::SRCH)
}

/// An init that lies: it may have been taken over by the container.
#[cfg(test)]
mod tests {
    use std::process::Command;

    use pidone_host::unix::send_parts;
    use pidone_proto::{Bincode, Call, Codec as _, FrameType, Header, Op, Report};
    use rustix::io::IoSlice;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::launch::image::Codec;

    fn pidfd(pid: u32) -> OwnedFd {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }

    /// What comes of a spawn when the init has said these reports, each with a descriptor or none.
    /// This process is the init: what it has started itself is a child of it.
    fn asked(said: &[(Report<'_>, Option<&OwnedFd>)]) -> Result<Spawned> {
        let (mut channel, theirs) = Channel::pair(Codec::Bincode)?;
        for (sequence, (report, file)) in (0..).zip(said) {
            let mut body = Vec::new();
            Bincode::append(report, &mut body).unwrap();
            let header = Header {
                frame_type: FrameType::Report,
                codec: Bincode::ID,
                descriptors: file.iter().len().try_into().unwrap(),
                sequence,
                length: body.len().try_into().unwrap(),
            };
            let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
            let message = [&header.to_bytes()[..], &body].concat();
            send_parts(&theirs, &[IoSlice::new(&message)], &files).unwrap();
        }
        let mut plan = Plan::default();
        plan.push(Op::Session);
        let pid = std::process::id();
        let init = pidfd(pid);
        Spawn {
            plan: &plan,
            main: false,
            lent: Lent::default(),
            init: (pid.cast_signed(), init.as_fd()),
            timeout: Duration::from_millis(100),
        }
        .start(&mut channel)
    }

    fn spawned() -> Report<'static> {
        Report::Spawned { tag: 0, process: 1, pid: 2 }
    }

    #[test]
    fn a_child_of_the_init_is_believed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let own = pidfd(child.id());
        let spawned = asked(&[(spawned(), Some(&own))]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(spawned.unwrap().pid, child.id().cast_signed());
        // One that was reaped meanwhile is nobody, and nothing is done to it.
        assert_eq!(asked(&[(self::spawned(), Some(&own))]).unwrap().pid, 0);
    }

    #[test]
    fn a_stranger_is_refused() {
        for stranger in [pidfd(1), pidfd(std::process::id())] {
            let error = asked(&[(spawned(), Some(&stranger))]).unwrap_err();
            assert!(error.to_string().contains("no child of the init"), "{error}");
        }
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(asked(&[(spawned(), Some(&file))]).is_err(), "a file is no process");
        assert!(asked(&[(spawned(), None)]).is_err(), "nor is nothing");
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(asked(&[(Report::SpawnConsole { tag: 0 }, Some(&file))]).is_err());
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for report in [
            Report::Executing,
            Report::Supervising,
            Report::Waiting,
            Report::Done { errno: 0 },
            Report::Failed { step: 1, call: Call::Exec, detail: 0, errno: 2 },
        ] {
            assert!(asked(&[(report, None)]).is_err(), "{report:?}");
        }
        let failed =
            |step, errno| Report::NotSpawned { tag: 0, step, call: Call::Exec, detail: 9, errno };
        // A step that the plan does not have is no reason to look for one.
        for (step, errno) in [(0, 2), (1, 2), (2, 2), (u32::MAX, 4095)] {
            assert!(asked(&[(failed(step, errno), None)]).is_err(), "{step}");
        }
        assert!(asked(&[(failed(1, 0), None)]).is_err(), "an errno that is none");
    }

    #[test]
    fn silence_has_an_end() {
        let begun = Instant::now();
        assert!(asked(&[]).is_err());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
