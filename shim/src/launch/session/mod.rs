//! A start: the clone, the plan, the barriers, up to the program or a failure.
//!
//! The host always waits for the socket, the init's pidfd and a deadline together, and never blocks
//! on sending, so an init that hangs or violates the protocol cannot block it.

mod park;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use pidone_config::error::{Cause, Step, Subject};
use pidone_config::{Code, Error, Result};
use pidone_host::cgroup::Entrance;
use pidone_host::deadline::after;
use pidone_host::pidfd::wait_for_end;
use pidone_host::seccomp;
use pidone_plan::barrier::{BARRIER_CONSOLE, BARRIER_PARKED, BARRIER_USER};
use pidone_plan::{Plan, mount_name, subject};
use pidone_proto::{Call, Create, Op};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

use super::channel::{Channel, Failed, Message, violation};
use super::check::{as_child, checked_listener, checked_terminal, keep_newlines};
use super::clone::{Child, NO_MORE_PROCESSES, Request, dup_above};
use super::image::{Codec, Sealed};
use super::outbox::Outbox;
use super::source::Lent;
use super::worker::{Place, clone_at};
use crate::trace::{self, Claims};

pub(crate) use park::Parked;

/// The parameters of a start.
pub(crate) struct Launch<'a> {
    /// The operations.
    pub(crate) plan: &'a Plan,
    /// The operations that follow, if they are not known yet.
    pub(crate) rest: Option<Rest<'a>>,
    /// The image of the init, and the codec of its messages.
    pub(crate) image: (&'a Sealed, Codec),
    /// Where the clone happens.
    pub(crate) place: Place,
    /// The `CLONE_NEW*` flags of the clone.
    pub(crate) namespaces: u32,
    /// Whether the process is a child that the init forks.
    pub(crate) forks: bool,
    /// The descriptors that become 0, 1, 2 and so on.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// Numbers from 3 up that the descriptors skip.
    pub(crate) closed: &'a BTreeSet<u32>,
    /// How the process enters its cgroup.
    pub(crate) cgroup: &'a Entrance<'a>,
    /// The descriptors that the plan's sources refer to.
    pub(crate) lent: Lent<'a>,
    /// The number of parts of the plan that are sent before the clone, so that the init does not
    /// wait for them: none if it is moved to its cgroup after the clone. The others are sent after
    /// [`Host::on_cloned`].
    pub(crate) early: usize,
    /// How long the host waits for the next report of the init.
    pub(crate) timeout: Duration,
}

/// The rest of a plan that ends with [`BARRIER_USER`].
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    /// Returns the whole plan: the operations so far, and the rest. The process waits. The
    /// descriptor is the container's root, if the host has opened that for the plan.
    pub(crate) compile: &'a dyn Fn(&Child, Option<BorrowedFd<'_>>) -> Result<Plan>,
    /// Gets the whole plan.
    pub(crate) whole: &'a OnceCell<Plan>,
}

impl fmt::Debug for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("whole", self.whole).finish_non_exhaustive()
    }
}

/// The host's part of a start. The methods are called in this order.
pub(crate) trait Host {
    /// The process of the container exists and waits: the clone itself, or the init's fork.
    fn on_cloned(&mut self, child: &Child) -> Result<()>;

    /// The init runs the plan. For work that needs no answer from it.
    fn while_running(&mut self, child: &Child) -> Result<()>;

    /// The init waits at a barrier. It continues when this returns.
    fn at_barrier(&mut self, id: u32, child: &Child) -> Result<()>;

    /// The init has sent the notification descriptor of a seccomp filter.
    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()>;
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Started {
    /// The process.
    pub(crate) child: Child,
    /// The master side of its terminal.
    pub(crate) console: Option<OwnedFd>,
    /// The connection to its init, on which a supervising init accepts requests.
    pub(crate) channel: Channel,
}

impl Launch<'_> {
    /// Starts the process.
    ///
    /// No process is left behind if it fails.
    ///
    /// # Errors
    /// [`Code::SystemError`] with the call of the host or the operation of the plan that failed.
    pub(crate) fn start(&self, host: &mut impl Host) -> Result<Started> {
        self.run_session(host, false).map(Session::started)
    }

    /// Clones the init and follows it until its program runs or, if it `parks`, until it waits for
    /// another plan.
    fn run_session(&self, host: &mut impl Host, parks: bool) -> Result<Session<'_>> {
        let claims = Claims::begin(self.plan);
        let timed = claims.is_some();
        let (mut channel, theirs) = Channel::pair(self.image.1)?;
        let mut outbox = Outbox::new(self.plan, self.lent, timed);
        if parks || self.rest.is_some() {
            outbox = outbox.with_more(self.rest.is_some());
        }
        if !self.cgroup.is_late() {
            outbox.send(&mut channel, self.early)?;
        }
        let child = trace::span("clone", || self.clone_init(theirs.as_fd(), timed))?;
        drop(theirs);
        let mut session = Session {
            forks: self.forks,
            cgroup: Some(self.cgroup),
            claims,
            parks,
            rest: self.rest,
            ..Session::new((self.plan, 0), outbox, (channel, child), self.timeout)
        };
        let outcome = session.run_from_clone(host);
        if let Some(claims) = session.claims.take() {
            claims.record(session.plan, outcome.as_ref().err());
        }
        session.kill_on_error(outcome)
    }

    /// Returns the descriptors by their numbers, with `None` for those that stay closed.
    fn numbers(&self) -> Vec<Option<BorrowedFd<'_>>> {
        let mut numbers = Vec::with_capacity(self.descriptors.len());
        for fd in self.descriptors {
            while numbers.len() >= 3
                && u32::try_from(numbers.len()).is_ok_and(|number| self.closed.contains(&number))
            {
                numbers.push(None);
            }
            numbers.push(Some(*fd));
        }
        numbers
    }

    /// Clones the init. Descriptors whose numbers others will get are duplicated to higher numbers.
    fn clone_init(&self, socket: BorrowedFd<'_>, timed: bool) -> Result<Child> {
        let numbers = self.numbers();
        let count = numbers.len();
        let free = RawFd::try_from(count).unwrap_or(RawFd::MAX) + 1;
        let mut moved = Vec::new();
        let mut move_away = |fd: BorrowedFd<'_>, to: Option<usize>| -> Result<RawFd> {
            if usize::try_from(fd.as_raw_fd()).ok() == to && to.is_some() {
                return Ok(fd.as_raw_fd());
            }
            Ok(match dup_above(fd, free)? {
                Some(copy) => {
                    let number = copy.as_raw_fd();
                    moved.push(copy);
                    number
                }
                None => fd.as_raw_fd(),
            })
        };
        let mut descriptors = Vec::with_capacity(count);
        for (to, fd) in numbers.into_iter().enumerate() {
            descriptors.push(fd.map(|fd| move_away(fd, Some(to))).transpose()?);
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
            socket: move_away(socket, Some(count))?,
            image: move_away(self.image.0.as_fd(), None)?,
            timed,
        };
        clone_at(self.place, request)
    }
}

/// The parameters of the start of a created container, whose init another process has launched and
/// which waits.
pub(crate) struct Resume<'a> {
    /// The remaining operations.
    pub(crate) plan: &'a Plan,
    /// The number of operations before them.
    pub(crate) before: u32,
    /// The socket of the init, and the codec of its messages.
    pub(crate) socket: (&'a Path, Codec),
    /// How long the host waits for the next report of the init.
    pub(crate) timeout: Duration,
}

impl Resume<'_> {
    /// Lets the init execute its program.
    ///
    /// `started` is called after the request for the start, when only a signal can stop the init.
    /// If something fails afterwards, the process is killed. Its parent reaps it.
    ///
    /// # Errors
    /// [`Code::SystemError`] with the call of the host or the operation of the plan that failed.
    pub(crate) fn start(
        &self,
        child: Child,
        host: &mut impl Host,
        started: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (path, codec) = self.socket;
        let mut channel = Channel::connect(path, codec)?;
        channel.start()?;
        let (plan, outbox) = ((self.plan, self.before), Outbox::already_sent(self.plan));
        let mut session = Session::new(plan, outbox, (channel, child), self.timeout);
        let outcome = started().and_then(|()| session.handle_reports(host));
        if outcome.is_err() {
            let Child { pid, pidfd } = &session.child;
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            // The caller may remove the container right after the error.
            let _ = wait_for_end(pidfd.as_fd(), *pid);
        }
        outcome
    }
}

/// The state of an init, by its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It runs operations.
    Setup,
    /// It has reported that it executes the program next.
    Executing,
}

/// A start in progress.
struct Session<'a> {
    plan: &'a Plan,
    /// The number of operations before those of the plan.
    before: u32,
    /// The number of operations of the whole start.
    total: u32,
    /// Whether the init has yet to fork.
    forks: bool,
    /// How the process enters its cgroup.
    cgroup: Option<&'a Entrance<'a>>,
    /// The times that the init reports, if they were requested.
    claims: Option<Claims>,
    timeout: Duration,
    channel: Channel,
    outbox: Outbox<'a>,
    child: Child,
    progress: Progress,
    console: Option<OwnedFd>,
    /// Whether the init has yet to send the notification descriptor of a seccomp filter.
    listens: bool,
    /// Whether another plan follows, after a barrier at the end of this one.
    parks: bool,
    /// The rest of this plan, if it is not known yet.
    rest: Option<Rest<'a>>,
    /// Whether no report of the init needs an answer. The host then waits only for the end of the
    /// connection or of the process, and is not woken for each report.
    silent: bool,
}

impl<'a> Session<'a> {
    /// Begins a session with an init for a plan, after `before` operations of another plan.
    fn new(
        (plan, before): (&'a Plan, u32),
        outbox: Outbox<'a>,
        (channel, child): (Channel, Child),
        timeout: Duration,
    ) -> Self {
        Self {
            plan,
            before,
            total: before.saturating_add(plan.len()),
            forks: false,
            cgroup: None,
            claims: None,
            timeout,
            channel,
            outbox,
            child,
            progress: Progress::Setup,
            console: None,
            listens: plan.operations().any(|op| has_listener(&op)),
            parks: false,
            rest: None,
            silent: false,
        }
    }

    /// Returns the started process.
    fn started(self) -> Started {
        let Self { child, console, channel, .. } = self;
        Started { child, console, channel }
    }

    /// Kills and reaps the process if the start failed.
    fn kill_on_error(self, outcome: Result<()>) -> Result<Self> {
        match outcome {
            Ok(()) => Ok(self),
            Err(error) => {
                self.child.end();
                Err(error)
            }
        }
    }

    /// Follows a new init to exec, to the wait for the start, or to a failure.
    fn run_from_clone(&mut self, host: &mut impl Host) -> Result<()> {
        let forks = self.forks;
        if !forks {
            self.enter_cgroup()?;
            host.on_cloned(&self.child)?;
        }
        self.send_parts()?;
        if !forks {
            host.while_running(&self.child)?;
        }
        self.handle_reports(host)
    }

    /// Moves the process to its cgroup, if it could not enter itself.
    fn enter_cgroup(&self) -> Result<()> {
        self.cgroup.map_or(Ok(()), |cgroup| cgroup.finish(self.child.pid))
    }

    /// Handles the reports of the init until the start is complete or has failed.
    fn handle_reports(&mut self, host: &mut impl Host) -> Result<()> {
        let mut deadline = after(self.timeout);
        loop {
            let watched = self.child.pid;
            let ended = trace::span(trace::WAIT, || self.wait(deadline))?;
            self.send_parts()?;
            // All reports are received before the end of the process is acted on.
            while let Some(message) = self.channel.receive()? {
                if self.handle(message, host)? {
                    trace::mark("start seen", None);
                    return Ok(());
                }
                deadline = after(self.timeout);
            }
            // An init that has forked is expected to end: its child has replaced it meanwhile.
            if ended && self.child.pid == watched {
                // The end of file may come late, since the child of another thread holds a copy of
                // the socket until it executes its image.
                return match self.progress {
                    Progress::Executing => Ok(()),
                    Progress::Setup => Err(self.died_error()),
                };
            }
        }
    }

    /// Waits for a report, for room in the socket, or for the end of the process. Returns whether
    /// the process has ended.
    fn wait(&self, deadline: Instant) -> Result<bool> {
        let mut wanted = if self.silent { PollFlags::empty() } else { PollFlags::IN };
        if self.outbox.is_pressing() {
            wanted |= PollFlags::OUT;
        }
        wait(&self.channel, wanted, self.child.pidfd.as_fd(), (deadline, self.timeout))
    }

    /// Sends parts of the plan while the socket has room.
    fn send_parts(&mut self) -> Result<()> {
        self.outbox.send(&mut self.channel, usize::MAX)
    }

    /// Handles a message. Returns whether the start is complete.
    fn handle(&mut self, message: Message, host: &mut impl Host) -> Result<bool> {
        match (message, self.progress) {
            (Message::Failed(failed), _) => {
                Err(operation_error(&failed, self.plan, self.before, self.total))
            }
            (Message::End, Progress::Executing) => Ok(true),
            (Message::End, Progress::Setup) => Err(self.died_error()),
            (Message::Forked(pidfd), Progress::Setup) if self.forks => {
                self.forked(pidfd, host)?;
                Ok(false)
            }
            (Message::Barrier(BARRIER_PARKED), Progress::Setup) if self.parks => {
                self.outbox.proceed(&mut self.channel)?;
                Ok(true)
            }
            (Message::Barrier(BARRIER_CONSOLE), Progress::Setup) => {
                self.console.as_ref().map_or(Ok(()), keep_newlines)?;
                self.outbox.proceed(&mut self.channel)?;
                Ok(false)
            }
            (Message::Barrier(BARRIER_USER), Progress::Setup) if self.rest.is_some() => {
                self.add_rest()?;
                self.outbox.proceed(&mut self.channel)?;
                Ok(false)
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

    /// Continues with the whole plan.
    fn add_rest(&mut self) -> Result<()> {
        let Some(Rest { compile, whole }) = self.rest.take() else { return Ok(()) };
        let plan = compile(&self.child, self.outbox.root())?;
        self.plan = whole.get_or_init(|| plan);
        self.total = self.before.saturating_add(self.plan.len());
        self.listens = self.plan.operations().any(|op| has_listener(&op));
        self.outbox.continue_with(self.plan);
        Ok(())
    }

    /// Continues with the child that the init has forked, and ends the init.
    fn forked(&mut self, pidfd: OwnedFd, host: &mut impl Host) -> Result<()> {
        let child = as_child(pidfd)?;
        self.forks = false;
        let init = std::mem::replace(&mut self.child, child);
        if let Some(claims) = &mut self.claims {
            claims.read_offset(self.child.pid);
        }
        let prepared = self.enter_cgroup().and_then(|()| host.on_cloned(&self.child));
        let proceeded = prepared.and_then(|()| self.outbox.proceed(&mut self.channel));
        // The init has nothing left to do. It is killed, since it cannot be trusted to exit.
        init.end();
        proceeded?;
        host.while_running(&self.child)
    }

    /// Returns the error for an init that ended without a report.
    fn died_error(&self) -> Error {
        let status = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        let how = match status {
            Ok(Some(status)) => describe_exit(&status),
            _ => "ended".to_owned(),
        };
        let steps = format!("during its {} steps", self.total);
        Error::reason(Code::SystemError, "init", steps, how)
    }
}

/// Waits for events on a channel, or for the end of the process at the other end. Returns whether
/// the process has ended.
///
/// # Errors
/// [`Code::SystemError`] with `ETIMEDOUT` at the deadline.
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

/// Returns the error for a failed operation of `plan`, which follows `before` other operations and
/// ends the `of` operations of a start.
pub(super) fn operation_error(failed: &Failed, plan: &Plan, before: u32, of: u32) -> Error {
    let Failed { step, call, detail, errno } = *failed;
    let index = step.checked_sub(before + 1).and_then(|index| usize::try_from(index).ok());
    let op = index.and_then(|index| plan.operations().nth(index));
    // The error names the program of the last operation.
    let op = match op {
        Some(Op::FindProgram { .. }) => plan.operations().last(),
        op => op,
    };
    let name = op.as_ref().map_or("init", Op::name);
    let about = op.as_ref().and_then(|op| subject(op, detail));
    let step = Step::Init { op: name.into(), call: call.name().into(), number: step, of };
    let about = about.map_or(Subject::None, |text| Subject::Name(text.into_owned()));
    let mut errno = Errno::from_raw_os_error(errno.into());
    // move_mount(2) refuses a file on a directory so; clients know the error of mount(2).
    let binds_file = matches!(op, Some(Op::Attach { create: Create::File, .. }));
    if binds_file && call == Call::MoveMount && errno == Errno::INVAL {
        errno = Errno::NOTDIR;
    }
    let error = Error::new(Code::SystemError, step, about, Cause::Errno(errno));
    if call == Call::Clone && errno == Errno::AGAIN {
        return error.with_hint(NO_MORE_PROCESSES);
    }
    match index.and_then(|index| mount_name::name(plan, index)) {
        Some(mount) => error.with_hint(format!("the mount of {mount}")),
        None => error,
    }
}

/// Whether a plan ends with a supervising init.
fn supervises(plan: &Plan) -> bool {
    plan.operations().last().is_some_and(|op| matches!(op, Op::Supervise { .. }))
}

/// Whether the init sends the notification descriptor of a seccomp filter at an operation.
fn has_listener(op: &Op<'_>) -> bool {
    match op {
        Op::Seccomp { flags, .. } | Op::Exec { filter_flags: flags, .. } => {
            flags & seccomp::flag::NEW_LISTENER != 0
        }
        _ => false,
    }
}

/// Returns how a process ended, as text.
fn describe_exit(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => format!("exited with status {status}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
