//! Children that are waited for, and those that hold others up.
//!
//! A process that joins a container is the caller's child, in the container's pid namespace. When
//! the namespace's first process ends, the kernel kills the others and holds the first back until
//! each has been reaped (`pid_namespaces(7)`): a caller that waits for the first one only would wait
//! for ever. So the wait for a first process reaps the joined ones of the same program too; their
//! exits are kept for whoever asks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use crate::wait::{self, Exit};

/// A child, and its exit once it was reaped.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    exit: Mutex<Option<Exit>>,
}

/// The children that joined a first process's container, and what tells that there are more.
struct Joined {
    children: Vec<Weak<Child>>,
    changed: Arc<OwnedFd>,
}

/// The first processes that this program started, by their ids.
fn first_processes() -> MutexGuard<'static, HashMap<i32, Joined>> {
    static FIRST: OnceLock<Mutex<HashMap<i32, Joined>>> = OnceLock::new();
    // What is kept is whole at any time, so that a panic elsewhere does no harm.
    FIRST.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Child {
    /// A child that runs.
    pub(crate) fn new(pidfd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { pidfd, exit: Mutex::new(None) })
    }

    /// Waits for the end of the child, and reaps it.
    pub(crate) fn wait(&self) -> Result<Exit, Errno> {
        loop {
            wait_for_any(&mut [PollFd::new(&self.pidfd, PollFlags::IN)])?;
            if let Some(exit) = self.reap()? {
                return Ok(exit);
            }
        }
    }

    /// Reaps the child if it has ended.
    fn reap(&self) -> Result<Option<Exit>, Errno> {
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if exit.is_none() {
            *exit = wait::wait(self.pidfd.as_fd())?;
        }
        Ok(exit.clone())
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The first process of a container, which waits for others to be reaped.
#[derive(Debug)]
pub(crate) struct First {
    pid: i32,
    changed: Arc<OwnedFd>,
}

impl First {
    /// Registers a first process.
    pub(crate) fn new(pid: i32) -> Result<Self, Errno> {
        let changed = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let joined = Joined { children: Vec::new(), changed: Arc::clone(&changed) };
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

impl Drop for First {
    fn drop(&mut self) {
        let mut first = first_processes();
        // The id may be another process's by now.
        if first.get(&self.pid).is_some_and(|own| Arc::ptr_eq(&own.changed, &self.changed)) {
            first.remove(&self.pid);
        }
    }
}

/// Registers a child that joined the container of a first process.
pub(crate) fn joined(first: i32, child: &Arc<Child>) {
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
