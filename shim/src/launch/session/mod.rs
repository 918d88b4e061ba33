//! One start: clone, plan, barriers, and how it ended.
//!
//! The host waits for the socket, the init's pidfd and a deadline together, never for the socket
//! alone, and never blocks on sending: an init that stands still or lies cannot hold it.

mod park;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use pidone_config::error::{Cause, Step, Subject};
use pidone_config::{Code, Error, Result};
use pidone_host::cgroup::Entrance;
use pidone_host::pidfd::wait_for_end;
use pidone_host::seccomp;
use pidone_plan::barrier::BARRIER_PARKED;
use pidone_plan::{Plan, subject};
use pidone_proto::Op;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

use super::channel::{Channel, Failed, Message, violation};
use super::check::{as_child, checked_listener, checked_terminal};
use super::clone::{Child, Request, above};
use super::image::{Codec, Sealed};
use super::outbox::Outbox;
use super::source::Lent;
use super::worker::{Place, clone_at};
use crate::trace::{self, Claims};

pub(crate) use park::Parked;

/// What a start needs.
pub(crate) struct Launch<'a> {
    /// The operations.
    pub(crate) plan: &'a Plan,
    /// The image and how it is spoken to.
    pub(crate) image: (&'a Sealed, Codec),
    /// Where the clone happens.
    pub(crate) place: Place,
    /// `CLONE_NEW*` flags of the clone.
    pub(crate) namespaces: u32,
    /// Whether the process is a child that the init forks.
    pub(crate) forks: bool,
    /// What becomes 0, 1, 2 and up.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// The way into the cgroup.
    pub(crate) cgroup: &'a Entrance<'a>,
    /// What the plan's sources stand for.
    pub(crate) lent: Lent<'a>,
    /// How many parts of the plan are sent before [`Host::born`]: they wait for the init and not
    /// it for them.
    pub(crate) early: usize,
    /// How long nothing may be heard of the init.
    pub(crate) timeout: Duration,
}

/// What the host does at a start, in the order of the methods.
pub(crate) trait Host {
    /// The process of the container is there and stands still: the clone itself, or its fork.
    fn on_cloned(&mut self, child: &Child) -> Result<()>;

    /// The init works on the plan; what needs no answer from it is done meanwhile.
    fn while_running(&mut self, child: &Child) -> Result<()>;

    /// The init stands at a barrier.
    fn at_barrier(&mut self, id: u32, child: &Child) -> Result<()>;

    /// What answers for the system calls of a seccomp filter is there.
    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()>;
}

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Started {
    /// The process.
    pub(crate) child: Child,
    /// The master of its terminal.
    pub(crate) console: Option<OwnedFd>,
    /// The connection, on which an init that supervises is asked.
    pub(crate) channel: Channel,
}

impl Launch<'_> {
    /// Starts the process.
    ///
    /// Whatever fails, no process is left behind.
    pub(crate) fn start(&self, host: &mut impl Host) -> Result<Started> {
        self.lead(host, false).map(Session::started)
    }

    /// Clones the init and leads it to its program, or to where it waits for another plan.
    fn lead(&self, host: &mut impl Host, parks: bool) -> Result<Session<'_>> {
        let claims = Claims::begin(self.plan);
        let timed = claims.is_some();
        let (mut channel, theirs) = Channel::pair(self.image.1)?;
        let mut outbox = Outbox::new(self.plan, self.lent, timed);
        if parks {
            outbox = outbox.with_more();
        }
        if !self.cgroup.is_late() {
            outbox.send(&mut channel, self.early)?;
        }
        let child = trace::span("clone", || self.clone_init(theirs.as_fd(), timed))?;
        drop(theirs);
        let mut session = Session {
            forks: self.forks,
            claims,
            parks,
            ..Session::new((self.plan, 0), outbox, (channel, child), self.timeout)
        };
        let entered = self.cgroup.finish(session.child.pid);
        let outcome = entered.and_then(|()| session.drive(host));
        if let Some(claims) = session.claims.take() {
            claims.tell(self.plan, outcome.as_ref().err());
        }
        session.end_if(outcome)
    }

    /// Clones with all descriptors in their places.
    fn clone_init(&self, socket: BorrowedFd<'_>, timed: bool) -> Result<Child> {
        let count = self.descriptors.len();
        let free = RawFd::try_from(count).unwrap_or(RawFd::MAX) + 1;
        let mut moved = Vec::new();
        let mut place = |fd: BorrowedFd<'_>, to: Option<usize>| -> Result<RawFd> {
            if usize::try_from(fd.as_raw_fd()).ok() == to && to.is_some() {
                return Ok(fd.as_raw_fd());
            }
            Ok(match above(fd, free)? {
                Some(copy) => {
                    let number = copy.as_raw_fd();
                    moved.push(copy);
                    number
                }
                None => fd.as_raw_fd(),
            })
        };
        let mut descriptors = Vec::with_capacity(count);
        for (to, fd) in self.descriptors.iter().enumerate() {
            descriptors.push(place(*fd, Some(to))?);
        }
        let request = Request {
            namespaces: self.namespaces,
            cgroup: self.cgroup.directory.as_ref().map(AsRawFd::as_raw_fd),
            tasks: self
                .cgroup
                .tasks
                .iter()
                .map(|(path, file)| (path.clone(), file.as_raw_fd()))
                .collect(),
            descriptors,
            socket: place(socket, Some(count))?,
            image: place(self.image.0.as_fd(), None)?,
            timed,
        };
        clone_at(self.place, request)
    }
}

/// The second half of a start: the init was made by another process and waits.
pub(crate) struct Resume<'a> {
    /// The operations that are left.
    pub(crate) plan: &'a Plan,
    /// How many came before them.
    pub(crate) before: u32,
    /// The socket of the init and how it is spoken to.
    pub(crate) socket: (&'a Path, Codec),
    /// How long nothing may be heard of the init.
    pub(crate) timeout: Duration,
}

impl Resume<'_> {
    /// Lets the program of a process come.
    ///
    /// `started` is called when the init can no longer be stopped by anything but a signal. If
    /// something fails behind it, the process is killed; reaping it is its parent's.
    pub(crate) fn start(
        &self,
        child: Child,
        host: &mut impl Host,
        started: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (path, codec) = self.socket;
        let mut channel = Channel::connect(path, codec)?;
        channel.start()?;
        let (plan, outbox) = ((self.plan, self.before), Outbox::sent(self.plan));
        let mut session = Session::new(plan, outbox, (channel, child), self.timeout);
        let outcome = started().and_then(|()| session.lead(host));
        if outcome.is_err() {
            let Child { pid, pidfd } = &session.child;
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            // Who is told of the failure may remove the container at once.
            let _ = wait_for_end(pidfd.as_fd(), *pid);
        }
        outcome
    }
}

/// How far the init has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It runs operations.
    Setup,
    /// It was about to execute the program.
    Executing,
}

/// A start that is under way.
struct Session<'a> {
    plan: &'a Plan,
    /// Operations before those of the plan.
    before: u32,
    /// Operations of the whole start.
    of: u32,
    /// Whether a fork of the init is still to come.
    forks: bool,
    /// When the init says that it did what, if it was asked.
    claims: Option<Claims>,
    timeout: Duration,
    channel: Channel,
    outbox: Outbox<'a>,
    child: Child,
    progress: Progress,
    console: Option<OwnedFd>,
    /// Whether the listener of a seccomp filter is still to come.
    listens: bool,
    /// Whether another plan follows, behind a barrier at the end of this one.
    parks: bool,
    /// Whether the init says nothing that needs an answer: its end, good or bad, is all that is
    /// waited for, and this process is not woken for less.
    silent: bool,
}

impl<'a> Session<'a> {
    /// The beginning of one with an init: about a plan, behind so many operations of another.
    fn new(
        (plan, before): (&'a Plan, u32),
        outbox: Outbox<'a>,
        (channel, child): (Channel, Child),
        timeout: Duration,
    ) -> Self {
        Self {
            plan,
            before,
            of: before.saturating_add(plan.len()),
            forks: false,
            claims: None,
            timeout,
            channel,
            outbox,
            child,
            progress: Progress::Setup,
            console: None,
            listens: plan.operations().any(|op| has_listener(&op)),
            parks: false,
            silent: false,
        }
    }

    /// What is left of it where it has come to its end.
    fn started(self) -> Started {
        let Self { child, console, channel, .. } = self;
        Started { child, console, channel }
    }

    /// Ends and reaps the process if something failed.
    fn end_if(self, outcome: Result<()>) -> Result<Self> {
        match outcome {
            Ok(()) => Ok(self),
            Err(error) => {
                self.child.end();
                Err(error)
            }
        }
    }

    /// Leads the init from its birth to its end as such: exec, the wait for the start, or failure.
    fn drive(&mut self, host: &mut impl Host) -> Result<()> {
        let forks = self.forks;
        if !forks {
            host.on_cloned(&self.child)?;
        }
        self.send_parts()?;
        if !forks {
            host.while_running(&self.child)?;
        }
        self.lead(host)
    }

    /// Listens to the init until it is no more.
    fn lead(&mut self, host: &mut impl Host) -> Result<()> {
        let mut deadline = Instant::now() + self.timeout;
        loop {
            let watched = self.child.pid;
            let ended = trace::span(trace::WAIT, || self.wait(deadline))?;
            self.send_parts()?;
            // All that was said is heard before an end is believed.
            while let Some(message) = self.channel.receive()? {
                if self.handle(message, host)? {
                    trace::mark("start seen", None);
                    return Ok(());
                }
                deadline = Instant::now() + self.timeout;
            }
            // An intermediate that ended behind its fork is nobody's loss.
            if ended && self.child.pid == watched {
                // The end of file may come late: a child of another thread that has not yet
                // executed its image holds a copy of the socket.
                return match self.progress {
                    Progress::Executing => Ok(()),
                    Progress::Setup => Err(self.died()),
                };
            }
        }
    }

    /// Waits for something to happen; answers whether the process ended.
    fn wait(&self, deadline: Instant) -> Result<bool> {
        let mut wanted = if self.silent { PollFlags::empty() } else { PollFlags::IN };
        if self.outbox.is_pressing() {
            wanted |= PollFlags::OUT;
        }
        wait(&self.channel, wanted, self.child.pidfd.as_fd(), (deadline, self.timeout))
    }

    /// Sends parts as long as there is room.
    fn send_parts(&mut self) -> Result<()> {
        self.outbox.send(&mut self.channel, usize::MAX)
    }

    /// Acts on a message; answers whether the start is over, and well.
    fn handle(&mut self, message: Message, host: &mut impl Host) -> Result<bool> {
        match (message, self.progress) {
            (Message::Failed(failed), _) => Err(explain(&failed, self.plan, self.before, self.of)),
            (Message::End, Progress::Executing) => Ok(true),
            (Message::End, Progress::Setup) => Err(self.died()),
            (Message::Forked(pidfd), Progress::Setup) if self.forks => {
                self.forked(pidfd, host)?;
                Ok(false)
            }
            (Message::Barrier(BARRIER_PARKED), Progress::Setup) if self.parks => {
                self.outbox.proceed(&mut self.channel)?;
                Ok(true)
            }
            (Message::Barrier(id), Progress::Setup) => {
                host.at_barrier(id, &self.child)?;
                self.outbox.proceed(&mut self.channel)?;
                Ok(false)
            }
            (Message::Console(master), Progress::Setup) if self.console.is_none() => {
                self.console = Some(checked_terminal(master)?);
                Ok(false)
            }
            (Message::Times { first, stamps }, Progress::Setup) => {
                let claims = self.claims.as_mut();
                if claims.is_some_and(|claims| claims.add(first, stamps, self.plan)) {
                    return Ok(false);
                }
                Err(violation("times that are not those of the next operations"))
            }
            (Message::Executing, Progress::Setup) => {
                self.progress = Progress::Executing;
                Ok(false)
            }
            (Message::Waiting, Progress::Setup) if self.plan.after_wait().is_some() => Ok(true),
            (Message::Supervising, Progress::Setup) if supervises(self.plan) => Ok(true),
            (Message::Listener(listener), _) if self.listens => {
                self.listens = false;
                host.listener(checked_listener(listener)?, &self.child)?;
                Ok(false)
            }
            _ => Err(violation("report out of its place")),
        }
    }

    /// The init forked: its child is the process, and the init itself ends.
    fn forked(&mut self, pidfd: OwnedFd, host: &mut impl Host) -> Result<()> {
        let child = as_child(pidfd)?;
        self.forks = false;
        let init = std::mem::replace(&mut self.child, child);
        if let Some(claims) = &mut self.claims {
            claims.follow(self.child.pid);
        }
        let born = host.on_cloned(&self.child);
        let goes_on = born.and_then(|()| self.outbox.proceed(&mut self.channel));
        // It has nothing left to do, and is not waited for in good faith; its child goes on
        // meanwhile.
        init.end();
        goes_on?;
        host.while_running(&self.child)
    }

    /// The error for an init that ended without a word.
    fn died(&self) -> Error {
        let status = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        let how = match status {
            Ok(Some(status)) => describe(&status),
            _ => "ended".to_owned(),
        };
        let steps = format!("during its {} steps", self.of);
        Error::reason(Code::SystemError, "init", steps, how)
    }
}

/// Waits for something to happen on a channel; answers whether the process ended that holds the
/// other end.
pub(super) fn wait(
    channel: &Channel,
    wanted: PollFlags,
    pidfd: BorrowedFd<'_>,
    (deadline, timeout): (Instant, Duration),
) -> Result<bool> {
    let mut fds = [
        PollFd::from_borrowed_fd(channel.as_fd(), wanted),
        PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
    ];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => {
                let timeout = format!("{} s", timeout.as_secs());
                return Err(Error::system("wait for the init", timeout, Errno::TIMEDOUT));
            }
            Ok(_) => return Ok(fds[1].revents().contains(PollFlags::IN)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", "the init", errno)),
        }
    }
}

/// The error for an operation that failed: one of `plan`, which begins behind `before` others and
/// is the end of `of`.
pub(super) fn explain(failed: &Failed, plan: &Plan, before: u32, of: u32) -> Error {
    let Failed { step, call, detail, errno } = *failed;
    let index = step.checked_sub(before + 1).and_then(|index| usize::try_from(index).ok());
    let op = index.and_then(|index| plan.operations().nth(index));
    // It is about the program of the last operation.
    let op = match op {
        Some(Op::FindProgram { .. }) => plan.operations().last(),
        op => op,
    };
    let name = op.as_ref().map_or("init", Op::name);
    let about = op.as_ref().and_then(|op| subject(op, detail));
    let step = Step::Init { op: name.into(), call: call.name().into(), number: step, of };
    let about = about.map_or(Subject::None, |text| Subject::Name(text.into_owned()));
    let errno = Errno::from_raw_os_error(errno.into());
    Error::new(Code::SystemError, step, about, Cause::Errno(errno))
}

/// Whether a plan ends with an init that stays.
fn supervises(plan: &Plan) -> bool {
    plan.operations().last().is_some_and(|op| matches!(op, Op::Supervise { .. }))
}

/// Whether an operation brings the listener of a seccomp filter.
fn has_listener(op: &Op<'_>) -> bool {
    match op {
        Op::Seccomp { flags, .. } | Op::Exec { filter_flags: flags, .. } => {
            flags & seccomp::flag::NEW_LISTENER != 0
        }
        _ => false,
    }
}

/// How a process ended, in words.
fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => format!("exited with status {status}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
