//! Waiting for processes and reaping them.
//!
//! A process that joins a container is a child of the caller, in the container's pid namespace.
//! When the first process of that namespace ends, the kernel kills the others and keeps the first
//! one from being reaped until all of them have been reaped (`pid_namespaces(7)`). A caller that
//! waits only for the first process would wait forever. Waiting for a first process therefore also
//! reaps the processes that this program has let join its container; their exits are stored until
//! their own handles ask for them.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use pidone_host::descriptor::any_readable;
use pidone_host::exit;
use pidone_host::exit::Exit;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::container::state::Identity;
use crate::launch::channel::{Channel, Message};

/// How long a killed process may take to end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A process, and how it exited once that is known.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    exit_source: Mutex<ExitSource>,
}

/// Where the exit of a process comes from.
#[derive(Debug)]
enum ExitSource {
    /// From the kernel: the process is a child of this one.
    Kernel,
    /// From the container's init, which is the parent: the channel, the number by which the init
    /// refers to the process, and where the channel is stored after the exit.
    Init(Channel, u32, Connection),
    /// The process has been reaped.
    Known(Exit),
}

/// An idle connection to a supervising init, stored for the next request.
///
/// All handles of a program for one container share it: an init has room for few connections.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Arc<Mutex<Option<Channel>>>);

/// The places for connections, by the identity of the init.
type Connections = Vec<(Identity, Weak<Mutex<Option<Channel>>>)>;

/// The places for connections of this program.
fn connections() -> MutexGuard<'static, Connections> {
    static ALL: Mutex<Connections> = Mutex::new(Vec::new());
    // The list is consistent between statements, so a panic in another thread does no harm.
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Returns the place for a connection to an init, which all handles share.
    pub(crate) fn to_init(init: &Identity) -> Self {
        let mut all = connections();
        all.retain(|(_, place)| place.strong_count() > 0);
        let known = all.iter().find(|(known, _)| known == init);
        if let Some(place) = known.and_then(|(_, place)| place.upgrade()) {
            return Self(place);
        }
        let place = Arc::new(Mutex::new(None));
        all.push((init.clone(), Arc::downgrade(&place)));
        Self(place)
    }

    /// Takes the stored connection, unless the init has closed it or sent something.
    pub(crate) fn take(&self) -> Option<Channel> {
        self.slot().take().filter(|channel| any_readable([channel.as_fd()]) == Ok(false))
    }

    /// Stores a connection whose last request is complete.
    pub(crate) fn keep(&self, channel: Channel) {
        *self.slot() = Some(channel);
    }

    fn slot(&self) -> MutexGuard<'_, Option<Channel>> {
        // A panic cannot leave the `Option` half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The children that joined the container of a first process.
struct JoinedChildren {
    /// Also those whose handles have been dropped, since the first process cannot be reaped before
    /// them.
    children: Vec<Arc<Child>>,
    /// An eventfd, signalled for each new child.
    changed: Arc<OwnedFd>,
}

/// The first processes that this program started, by pid.
fn first_processes() -> MutexGuard<'static, HashMap<i32, JoinedChildren>> {
    static FIRST: OnceLock<Mutex<HashMap<i32, JoinedChildren>>> = OnceLock::new();
    // The map is consistent between statements, so a panic in another thread does no harm.
    FIRST.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Child {
    /// Wraps the pidfd of a running child of this process.
    pub(crate) fn new(pidfd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { pidfd, exit_source: Mutex::new(ExitSource::Kernel) })
    }

    /// Wraps the pidfd of a child of a container's init.
    ///
    /// The init reports the exit on `channel`, naming the process by `number`. The channel is then
    /// stored in `connection`.
    pub(crate) fn spawned(
        pidfd: OwnedFd,
        channel: Channel,
        number: u32,
        connection: Connection,
    ) -> Arc<Self> {
        let exit_source = Mutex::new(ExitSource::Init(channel, number, connection));
        Arc::new(Self { pidfd, exit_source })
    }

    /// Reaps the process if it has ended and its exit can be read without waiting.
    fn reap(&self) -> Result<Option<Exit>, Errno> {
        let mut source = self.source();
        let exit = match &mut *source {
            ExitSource::Known(exit) => return Ok(Some(exit.clone())),
            ExitSource::Kernel => exit::wait(self.pidfd.as_fd())?.map(|exit| (exit, false)),
            ExitSource::Init(channel, number, _) if any_readable([self.pidfd.as_fd()])? => {
                read_exit(channel, *number)?
            }
            ExitSource::Init(..) => None,
        };
        let Some((exit, was_reported)) = exit else { return Ok(None) };
        if let ExitSource::Init(channel, _, connection) =
            std::mem::replace(&mut *source, ExitSource::Known(exit.clone()))
            && was_reported
        {
            connection.keep(channel);
        }
        Ok(Some(exit))
    }

    /// Returns the descriptor that becomes readable when [`reap`] can make progress.
    fn awaited(&self) -> Result<Awaited<'_>, Errno> {
        match &*self.source() {
            // The process has ended, and what is missing is the report of its exit. The channel
            // goes to another request once the report has been read.
            ExitSource::Init(channel, ..) if any_readable([self.pidfd.as_fd()])? => {
                rustix::io::fcntl_dupfd_cloexec(channel, 0).map(Awaited::Report)
            }
            _ => Ok(Awaited::End(self.pidfd.as_fd())),
        }
    }

    fn source(&self) -> MutexGuard<'_, ExitSource> {
        // The source is replaced as a whole, so a panic cannot leave it half changed.
        self.exit_source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the init's report of how an ended process exited, if it has arrived. The flag says whether
/// there was one.
///
/// If the channel is closed, the init was killed, and everything in its container with it. Any
/// other message is a violation of the protocol. Both count as killed. An init that is silent
/// blocks a caller that waits as long as its container exists, as a program that does not end
/// would: it may be paused.
fn read_exit(channel: &mut Channel, number: u32) -> Result<Option<(Exit, bool)>, Errno> {
    if !any_readable([channel.as_fd()])? {
        return Ok(None);
    }
    Ok(match channel.receive() {
        Ok(Some(Message::Exited { process, exit })) if process == number => Some((exit, true)),
        Ok(None) => None,
        _ => Some((Exit::killed(), false)),
    })
}

/// A descriptor to wait for.
pub(crate) enum Awaited<'a> {
    /// Becomes readable when a process ends, or when another one has joined.
    End(BorrowedFd<'a>),
    /// Becomes readable when the init reports an exit.
    Report(OwnedFd),
}

impl AsFd for Awaited<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::End(fd) => *fd,
            Self::Report(fd) => fd.as_fd(),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The first process of a container, which cannot be reaped before those that joined it.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    pid: i32,
    changed: Arc<OwnedFd>,
}

impl FirstProcess {
    /// Registers a first process by its pid.
    pub(crate) fn new(pid: i32) -> Result<Self, Errno> {
        let changed = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let joined = JoinedChildren { children: Vec::new(), changed: Arc::clone(&changed) };
        first_processes().insert(pid, joined);
        Ok(Self { pid, changed })
    }

    /// Returns the processes that joined the container and have not ended, after reaping those that
    /// have. From then on, the eventfd reports further ones.
    pub(crate) fn running(&self) -> Vec<Arc<Child>> {
        let mut signalled = [0; 8];
        let _ = rustix::io::read(&*self.changed, &mut signalled);
        let mut joined = self.joined();
        joined.retain(|child| matches!(child.reap(), Ok(None)));
        joined
    }

    /// Returns the processes that joined the container and that nobody has reaped.
    fn joined(&self) -> Vec<Arc<Child>> {
        joined_to(self.pid)
    }
}

/// Returns the processes that joined the container of a first process that this program started.
fn joined_to(first: i32) -> Vec<Arc<Child>> {
    first_processes().get(&first).map(|joined| joined.children.clone()).unwrap_or_default()
}

/// Waits until a killed first process has ended, and reaps what has joined its container. The
/// process itself is not reaped.
///
/// # Errors
/// `ETIMEDOUT` after 10 seconds.
pub(crate) fn wait_for_killed(pidfd: BorrowedFd<'_>, pid: i32) -> pidone_config::Result<()> {
    let fail = |errno| pidone_config::Error::system("kill", pid.to_string(), errno);
    let deadline = Some(Instant::now() + TIMEOUT);
    loop {
        let mut joined = joined_to(pid);
        joined.retain(|child| matches!(child.reap(), Ok(None)));
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        fds.extend(joined.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
        if !wait_for_any(&mut fds, deadline).map_err(fail)? {
            return Err(fail(Errno::TIMEDOUT));
        }
        if fds.first().is_some_and(|fd| !fd.revents().is_empty()) {
            return Ok(());
        }
    }
}

/// Reaps a process if it has ended. With `first`, it is a first process, and the processes that
/// joined its container are reaped too.
pub(crate) fn reap(child: &Child, first: Option<&FirstProcess>) -> Result<Option<Exit>, Errno> {
    // A further process that cannot be reaped has been reaped by somebody else.
    for joined in first.map(FirstProcess::joined).unwrap_or_default() {
        let _ = joined.reap();
    }
    child.reap()
}

/// Waits until a process ends, and reaps it, as [`reap`]. Returns `None` at the deadline.
pub(crate) fn wait(
    child: &Child,
    first: Option<&FirstProcess>,
    deadline: Option<Instant>,
) -> Result<Option<Exit>, Errno> {
    loop {
        let joined = first.map(FirstProcess::running).unwrap_or_default();
        let awaited = awaited(child, first, &joined)?;
        let mut fds: Vec<PollFd<'_>> =
            awaited.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        let is_ready = wait_for_any(&mut fds, deadline)?;
        let exit = reap(child, first)?;
        if exit.is_some() || !is_ready {
            return Ok(exit);
        }
    }
}

/// Returns the descriptors of which one becomes readable when [`reap`] has to be called again.
pub(crate) fn awaited<'a>(
    child: &'a Child,
    first: Option<&'a FirstProcess>,
    joined: &'a [Arc<Child>],
) -> Result<Vec<Awaited<'a>>, Errno> {
    let changed = first.map(|first| Ok(Awaited::End(first.changed.as_fd())));
    let joined = joined.iter().map(|joined| joined.awaited());
    [child.awaited()].into_iter().chain(changed).chain(joined).collect()
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        let mut first = first_processes();
        // The pid may have been reused and registered again.
        if first.get(&self.pid).is_some_and(|joined| Arc::ptr_eq(&joined.changed, &self.changed)) {
            first.remove(&self.pid);
        }
    }
}

/// Registers a child that joined the container of the first process `first`.
pub(crate) fn register_joined(first: i32, child: &Arc<Child>) {
    if let Some(joined) = first_processes().get_mut(&first) {
        // One whose handle was dropped is kept until it can be reaped.
        let has_handle = |child: &Arc<Child>| Arc::strong_count(child) > 1;
        joined.children.retain(|child| has_handle(child) || matches!(child.reap(), Ok(None)));
        joined.children.push(Arc::clone(child));
        let _ = rustix::io::write(&*joined.changed, &1_u64.to_ne_bytes());
    }
}

/// Waits until one of the descriptors is ready. Returns false at the deadline.
fn wait_for_any(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<bool, Errno> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A time that is too long for the kernel does not end.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
