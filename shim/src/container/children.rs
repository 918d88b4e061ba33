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

use pidone_host::descriptor::any_readable;
use pidone_host::exit;
use pidone_host::exit::Exit;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::container::state::Identity;
use crate::launch::channel::{Channel, Message};

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
    children: Vec<Weak<Child>>,
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

    /// Waits until the process ends, and reaps it.
    pub(crate) fn wait(&self) -> Result<Exit, Errno> {
        loop {
            wait_for_any(&mut [PollFd::new(&self.pidfd, PollFlags::IN)])?;
            if let Some(exit) = self.reap()? {
                return Ok(exit);
            }
        }
    }

    /// Reaps the process if it has ended.
    fn reap(&self) -> Result<Option<Exit>, Errno> {
        let mut source = self.exit_source.lock().unwrap_or_else(PoisonError::into_inner);
        let exit = match &mut *source {
            ExitSource::Known(exit) => return Ok(Some(exit.clone())),
            ExitSource::Kernel => exit::wait(self.pidfd.as_fd())?.map(|exit| (exit, false)),
            ExitSource::Init(channel, number, _) if any_readable([self.pidfd.as_fd()])? => {
                read_exit(channel, *number)
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
}

/// Reads the init's report of how an ended process exited. The flag says whether there was one.
///
/// If the channel is closed, the init was killed, and everything in its container with it. Any
/// other message is a violation of the protocol. Both count as killed. An init that is silent
/// blocks the caller as long as its container exists, as a program that does not end would: it may
/// be paused.
fn read_exit(channel: &mut Channel, number: u32) -> Option<(Exit, bool)> {
    let _ = wait_for_any(&mut [PollFd::new(&*channel, PollFlags::IN)]);
    match channel.receive() {
        Ok(Some(Message::Exited { process, exit })) if process == number => Some((exit, true)),
        Ok(None) => None,
        _ => Some((Exit::killed(), false)),
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

    /// Waits until the first process ends, reaping the processes that joined its container.
    pub(crate) fn wait(&self, first: &Child) -> Result<Exit, Errno> {
        loop {
            let mut signalled = [0; 8];
            let _ = rustix::io::read(&*self.changed, &mut signalled);
            let joined: Vec<Arc<Child>> = first_processes()
                .get(&self.pid)
                .map(|joined| joined.children.iter().filter_map(Weak::upgrade).collect())
                .unwrap_or_default();
            let running: Vec<&Arc<Child>> =
                joined.iter().filter(|child| matches!(child.reap(), Ok(None))).collect();
            let mut fds = vec![
                PollFd::new(&first.pidfd, PollFlags::IN),
                PollFd::new(&*self.changed, PollFlags::IN),
            ];
            fds.extend(running.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
            wait_for_any(&mut fds)?;
            if let Some(exit) = first.reap()? {
                return Ok(exit);
            }
        }
    }
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
        joined.children.retain(|child| child.strong_count() > 0);
        joined.children.push(Arc::downgrade(child));
        let _ = rustix::io::write(&*joined.changed, &1_u64.to_ne_bytes());
    }
}

/// Waits until one of the descriptors is ready.
fn wait_for_any(fds: &mut [PollFd<'_>]) -> Result<(), Errno> {
    loop {
        match poll(fds, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
