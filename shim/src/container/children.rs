//! Processes that are waited for, and those that hold others up.
//!
//! A process that joins a container is the caller's child, in the container's pid namespace. When
//! the namespace's first process ends, the kernel kills the others and holds the first back until
//! each has been reaped (`pid_namespaces(7)`): a caller that waits for the first one only would wait
//! for ever. So the wait for a first process reaps the joined ones of the same program too; their
//! exits are kept for whoever asks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use pidone_host::descriptor::any_readable;
use pidone_host::exit;
use pidone_host::exit::Exit;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::launch::channel::{Channel, Message};

/// A process, and its exit once it is known.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    exit_source: Mutex<ExitSource>,
}

/// Who knows how a process ends.
#[derive(Debug)]
enum ExitSource {
    /// The kernel: it is a child of this process.
    Kernel,
    /// The container's init, whose child it is, and which calls it by a number; the connection is
    /// kept behind it.
    Init(Channel, u32, Connection),
    /// It is known.
    Known(Exit),
}

/// A connection to an init that stays, on which nothing is under way, kept for the next request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection(Arc<Mutex<Option<Channel>>>);

impl Connection {
    /// Takes what is kept, if the init still listens to it and has nothing to say.
    pub(crate) fn take(&self) -> Option<Channel> {
        self.slot().take().filter(|channel| any_readable([channel.as_fd()]) == Ok(false))
    }

    /// Keeps a connection whose last request is done with.
    pub(crate) fn keep(&self, channel: Channel) {
        *self.slot() = Some(channel);
    }

    fn slot(&self) -> MutexGuard<'_, Option<Channel>> {
        // There is nothing in it that could be half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The children that joined a first process's container, and what tells that there are more.
struct JoinedChildren {
    children: Vec<Weak<Child>>,
    changed: Arc<OwnedFd>,
}

/// The first processes that this program started, by their ids.
fn first_processes() -> MutexGuard<'static, HashMap<i32, JoinedChildren>> {
    static FIRST: OnceLock<Mutex<HashMap<i32, JoinedChildren>>> = OnceLock::new();
    // What is kept is whole at any time, so that a panic elsewhere does no harm.
    FIRST.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Child {
    /// A child that runs.
    pub(crate) fn new(pidfd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { pidfd, exit_source: Mutex::new(ExitSource::Kernel) })
    }

    /// A child of a container's init, which tells its end on a connection, and that one is kept.
    pub(crate) fn spawned(
        pidfd: OwnedFd,
        channel: Channel,
        number: u32,
        kept: Connection,
    ) -> Arc<Self> {
        Arc::new(Self { pidfd, exit_source: Mutex::new(ExitSource::Init(channel, number, kept)) })
    }

    /// Waits for the end of the process, and reaps it.
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
        if let ExitSource::Init(channel, _, kept) =
            std::mem::replace(&mut *source, ExitSource::Known(exit.clone()))
            && was_reported
        {
            kept.keep(channel);
        }
        Ok(Some(exit))
    }
}

/// What an init tells of the end of a process that has ended, and whether it told that indeed. One
/// that tells nothing any more was killed, and all in its container with it; one that lies is not
/// believed to say anything. One that is silent holds the caller as long as its container is there, as a program that does not end
/// would: it may just be paused.
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

/// The first process of a container, which waits for others to be reaped.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    pid: i32,
    changed: Arc<OwnedFd>,
}

impl FirstProcess {
    /// Registers a first process.
    pub(crate) fn new(pid: i32) -> Result<Self, Errno> {
        let changed = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let joined = JoinedChildren { children: Vec::new(), changed: Arc::clone(&changed) };
        first_processes().insert(pid, joined);
        Ok(Self { pid, changed })
    }

    /// Waits for the end of the first process, and reaps what holds it back.
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
        // The id may be another process's by now.
        if first.get(&self.pid).is_some_and(|own| Arc::ptr_eq(&own.changed, &self.changed)) {
            first.remove(&self.pid);
        }
    }
}

/// Registers a child that joined the container of a first process.
pub(crate) fn register_joined(first: i32, child: &Arc<Child>) {
    if let Some(joined) = first_processes().get_mut(&first) {
        joined.children.retain(|child| child.strong_count() > 0);
        joined.children.push(Arc::downgrade(child));
        let _ = rustix::io::write(&*joined.changed, &1_u64.to_ne_bytes());
    }
}

/// Waits until one of several descriptors is ready.
fn wait_for_any(fds: &mut [PollFd<'_>]) -> Result<(), Errno> {
    loop {
        match poll(fds, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
