//! Requests processes from a supervising init.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use pidone_config::{Error, Result};
use pidone_host::deadline::after;
use pidone_host::{pidfd, proc};
use pidone_plan::Plan;
use pidone_proto::Call;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::channel::{Channel, Failed, Message, violation};
use super::check::{checked_terminal, keep_newlines};
use super::session::{operation_error, wait};
use super::source::{self, Lent};
use crate::trace;

/// After this time, an init that has not read a request is taken for one that is stopped.
const STOPPED: Duration = Duration::from_secs(1);

/// A request to a supervising init.
pub(crate) struct Spawn<'a> {
    /// The operations, in one part.
    pub(crate) plan: &'a Plan,
    /// Whether the container ends with the process.
    pub(crate) main: bool,
    /// The descriptors that the plan's sources refer to.
    pub(crate) lent: Lent<'a>,
    /// The pid and the pidfd of the init.
    pub(crate) init: (i32, BorrowedFd<'a>),
    /// Whether line feeds to its terminal stay as they are.
    pub(crate) keep_newlines: bool,
    /// How long the host waits for the program to run.
    pub(crate) timeout: Duration,
}

/// A process that the init has started.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The number by which the init identifies it.
    pub(crate) number: u32,
    /// Its id in the caller's pid namespace; 0 if it has already ended.
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The master side of its terminal.
    pub(crate) console: Option<OwnedFd>,
}

impl Spawn<'_> {
    /// Has the init start the process. Returns when its program runs, or waits for the start.
    /// Returns `None` if the init does not take the request, and never will: it is full, or it was
    /// stopped before it had read the request and drops it once it sees the connection closed.
    ///
    /// The init later reports the exit of the process on the same connection.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] with the operation that failed, or for an init that has
    /// ended, does not report in time, or violates the protocol.
    pub(crate) fn start(&self, channel: &mut Channel) -> Result<Option<Spawned>> {
        let [part] = self.plan.parts() else {
            return Err(Error::system("spawn", "more than one part", Errno::INVAL));
        };
        let opened = source::open_all(part, self.lent)?;
        let files: Vec<_> = opened.iter().map(|file| file.as_fd()).collect();
        if !trace::span("ask the init", || channel.spawn(self.main, part, &files))? {
            // The connection carries one request at a time, so there must be room for it.
            return Err(violation("no room for a request"));
        }
        drop(opened);
        let mut console = None;
        let mut timeout = self.timeout.min(STOPPED);
        let mut deadline = after(timeout);
        loop {
            let until = (deadline, timeout);
            let wait = || wait(channel, PollFlags::IN, self.init.1, until);
            let ended = match trace::span(trace::WAIT, wait) {
                Err(error) if error.errno() == Some(Errno::TIMEDOUT) => {
                    if channel.is_unread()? {
                        return Ok(None);
                    }
                    if timeout == self.timeout {
                        return Err(error);
                    }
                    timeout = self.timeout;
                    deadline = after(timeout);
                    continue;
                }
                waited => waited?,
            };
            // All reports are received before the end of the process is acted on.
            while let Some(message) = channel.receive()? {
                match message {
                    Message::SpawnConsole(master) if console.is_none() => {
                        let master = checked_terminal(master)?;
                        if self.keep_newlines {
                            keep_newlines(&master)?;
                        }
                        console = Some(master);
                    }
                    Message::Spawned { process: number, pidfd } => {
                        let pid = self.child_of_init(&pidfd)?;
                        trace::mark("start seen", None);
                        return Ok(Some(Spawned { number, pid, pidfd, console }));
                    }
                    // Its table of processes is full.
                    Message::NotSpawned(Failed { step: 0, call: Call::Limit, .. }) => {
                        return Ok(None);
                    }
                    Message::NotSpawned(failed) => {
                        return Err(operation_error(&failed, self.plan, 0, self.plan.len()));
                    }
                    // Its table of clients is full, or it has ended.
                    Message::End if channel.was_refused() && !ended => return Ok(None),
                    Message::End => return Err(gone()),
                    _ => return Err(violation("report out of its place")),
                }
            }
            if ended {
                return Err(gone());
            }
        }
    }

    /// Checks that a descriptor from the init is the pidfd of a child of the init, and returns its
    /// id: no other process may be signalled instead. The id is 0 if the process was reaped.
    fn child_of_init(&self, pidfd: &OwnedFd) -> Result<i32> {
        let Some(pid) = pidfd::process_id(pidfd.as_fd())? else { return Ok(0) };
        match proc::parent(pid) {
            None => Ok(0),
            Some(parent) if parent == self.init.0 => Ok(pid),
            // A process that was reaped between the two calls has no parent.
            Some(0) if pidfd::process_id(pidfd.as_fd())?.is_none() => Ok(0),
            Some(_) => Err(violation("process that is no child of the init")),
        }
    }
}

/// Returns the error for an init that has ended.
fn gone() -> Error {
    Error::system("spawn", "the init has ended", Errno::SRCH)
}

/// Tests with an init that lies, since the container may have taken it over.
#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

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

    /// Requests a process from an init that sends these reports, each with a descriptor or none.
    /// This process acts as the init, so its own children are the init's.
    fn spawn_with(reports: &[(Report<'_>, Option<&OwnedFd>)]) -> Result<Spawned> {
        answer_with(reports).map(|spawned| spawned.expect("the init takes the request"))
    }

    fn answer_with(reports: &[(Report<'_>, Option<&OwnedFd>)]) -> Result<Option<Spawned>> {
        let (mut channel, theirs) = Channel::pair(Codec::Bincode)?;
        for (sequence, (report, file)) in (0..).zip(reports) {
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
            keep_newlines: false,
            timeout: Duration::from_millis(100),
        }
        .start(&mut channel)
    }

    fn spawned() -> Report<'static> {
        Report::Spawned { tag: 0, process: 1, pid: 2 }
    }

    #[test]
    fn a_child_of_the_init_is_accepted() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let child_pidfd = pidfd(child.id());
        let spawned = spawn_with(&[(spawned(), Some(&child_pidfd))]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(spawned.unwrap().pid, child.id().cast_signed());
        // A process that was reaped meanwhile has no id.
        assert_eq!(spawn_with(&[(self::spawned(), Some(&child_pidfd))]).unwrap().pid, 0);
    }

    #[test]
    fn a_pidfd_of_no_child_of_the_init_is_refused() {
        for other in [pidfd(1), pidfd(std::process::id())] {
            let error = spawn_with(&[(spawned(), Some(&other))]).unwrap_err();
            assert!(error.to_string().contains("no child of the init"), "{error}");
        }
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(spawn_with(&[(spawned(), Some(&file))]).is_err(), "a file is no pidfd");
        assert!(spawn_with(&[(spawned(), None)]).is_err(), "no descriptor");
    }

    #[test]
    fn a_console_that_is_no_terminal_is_refused() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(spawn_with(&[(Report::SpawnConsole { tag: 0 }, Some(&file))]).is_err());
    }

    #[test]
    fn reports_that_answer_no_request_are_refused() {
        for report in [
            Report::Executing,
            Report::Supervising,
            Report::Waiting,
            Report::Done { errno: 0 },
            Report::Failed { step: 1, call: Call::Exec, detail: 0, errno: 2 },
        ] {
            assert!(spawn_with(&[(report, None)]).is_err(), "{report:?}");
        }
        let failed =
            |step, errno| Report::NotSpawned { tag: 0, step, call: Call::Exec, detail: 9, errno };
        // Steps that the plan does not have.
        for (step, errno) in [(0, 2), (1, 2), (2, 2), (u32::MAX, 4095)] {
            assert!(spawn_with(&[(failed(step, errno), None)]).is_err(), "{step}");
        }
        assert!(spawn_with(&[(failed(1, 0), None)]).is_err(), "an errno out of range");
    }

    #[test]
    fn a_full_init_takes_no_request() {
        let full = Report::NotSpawned { tag: 0, step: 0, call: Call::Limit, detail: 0, errno: 11 };
        assert!(answer_with(&[(full, None)]).unwrap().is_none());
    }

    #[test]
    fn an_init_that_reads_nothing_takes_no_request() {
        let begun = Instant::now();
        assert!(answer_with(&[]).unwrap().is_none());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
