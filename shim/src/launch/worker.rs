//! Threads that clone.
//!
//! Two reasons: a parent-death signal fires when the *thread* that cloned ends, so that such
//! containers come from one that lives as long as the library; and a thread may live in a mount
//! namespace of its own, from which a clone is cheap.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use rustix::thread::sched_getaffinity;

use super::clone::{Child, Request, spawn};
use super::template;
use crate::error::{Error, Result};

/// Where a clone happens, and so which mounts the init sees a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the calling thread: the host's mounts.
    Caller,
    /// In a thread that does not end: the host's mounts.
    Thread,
    /// In a thread inside the template mount namespace.
    Template,
}

/// What a thread does; it answers whether the thread is as it was before.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// Threads of one kind, as many as there are processors: a job keeps one busy. They are started
/// when they are needed.
pub(super) struct Pool {
    name: &'static str,
    namespace: Option<Arc<OwnedFd>>,
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    most: usize,
}

/// What the threads of a pool have in common.
struct Shared {
    queue: Mutex<mpsc::Receiver<Job>>,
    /// How many there are.
    threads: AtomicUsize,
    /// How many of them wait for a job.
    idle: AtomicUsize,
}

/// What comes of something that another thread does.
pub(super) struct Answer<T>(mpsc::Receiver<Result<T>>);

impl<T> Answer<T> {
    /// Waits for it.
    pub(super) fn wait(self) -> Result<T> {
        self.0.recv().map_err(|_| gone("pidone-clone"))?
    }
}

/// Clones at a place.
pub(crate) fn clone_at(place: Place, request: Request) -> Result<Child> {
    let pool = match place {
        Place::Caller => return spawn(&request),
        Place::Thread => plain(),
        Place::Template => in_template(),
    };
    // The request holds numbers of descriptors that belong to this thread's caller: they stay
    // open, since nothing happens here before the answer.
    pool.as_ref().map_err(Clone::clone)?.run(move || (spawn(&request), true))?.wait()
}

/// Makes the threads that a start with or without the template may need, so that they have the
/// priority of the calling thread and not of one that starts something later.
pub(crate) fn begin(template: bool) {
    let pools = [Some(plain()), template.then(in_template)];
    for pool in pools.into_iter().flatten().flatten() {
        // What failed is told by the first clone that needs it.
        while pool.shared.threads.load(Ordering::Relaxed) < pool.most && pool.grow().is_ok() {}
    }
}

/// Why this process cannot make the template; it is made at the first question.
pub(crate) fn why_no_template() -> Option<&'static Error> {
    in_template().as_ref().err()
}

/// The threads that see the host's mounts.
fn plain() -> &'static Result<Pool> {
    static PLAIN: OnceLock<Result<Pool>> = OnceLock::new();
    PLAIN.get_or_init(|| Ok(Pool::new("pidone-clone", None)))
}

/// The threads inside the template mount namespace.
fn in_template() -> &'static Result<Pool> {
    static TEMPLATE: OnceLock<Result<Pool>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let pool = Pool::new("pidone-clone", Some(template::make()?));
        pool.grow()?;
        Ok(pool)
    })
}

impl Pool {
    /// One without threads; those that are started enter the mount namespace.
    pub(super) fn new(name: &'static str, namespace: Option<OwnedFd>) -> Self {
        let (jobs, queue) = mpsc::channel();
        let shared = Shared {
            queue: Mutex::new(queue),
            threads: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
        };
        let most = processors();
        Self { name, namespace: namespace.map(Arc::new), jobs, shared: Arc::new(shared), most }
    }

    /// Has a thread do something, which answers with what comes of it whether the thread is as it
    /// was before: one that is not ends.
    ///
    /// # Errors
    /// There is no thread, and none can be started.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> (Result<T>, bool) + Send + 'static,
    ) -> Result<Answer<T>> {
        let Shared { threads, idle, .. } = &*self.shared;
        let count = threads.load(Ordering::Relaxed);
        if idle.load(Ordering::Relaxed) == 0 && count < self.most {
            let grown = self.grow();
            if count == 0 {
                grown?;
            }
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let job = move || {
            let (outcome, unchanged) = job();
            let _ = answer.send(outcome);
            unchanged
        };
        self.jobs.send(Box::new(job)).map_err(|_| gone(self.name))?;
        Ok(Answer(answered))
    }

    /// Starts a thread, and waits for it to be where it shall be.
    fn grow(&self) -> Result<()> {
        let fail = |error| Error::system("start a thread", self.name, error);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let namespace = self.namespace.clone();
        let shared = Arc::clone(&self.shared);
        shared.threads.fetch_add(1, Ordering::Relaxed);
        let serve = move || {
            let entered = enter(namespace.as_deref());
            let usable = entered.is_ok();
            let _ = ready.send(entered);
            if usable {
                serve(&shared);
            }
            shared.threads.fetch_sub(1, Ordering::Relaxed);
        };
        let started = thread::Builder::new().name(self.name.into()).spawn(serve);
        started
            .inspect_err(|_| {
                self.shared.threads.fetch_sub(1, Ordering::Relaxed);
            })
            .map_err(fail)?;
        if self.namespace.is_some() {
            is_ready.recv().map_err(|_| gone(self.name))??;
        }
        Ok(())
    }
}

/// How many processors the calling thread may run on, at the first question. The language's own
/// count reads all limits of cgroups above it as well.
pub(super) fn processors() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let count = sched_getaffinity(None).map_or(1, |set| set.count());
        usize::try_from(count).unwrap_or(1).max(1)
    })
}

/// The error of a thread that is no more.
fn gone(name: &'static str) -> Error {
    Error::system("start a thread", name, rustix::io::Errno::SRCH)
}

/// Prepares a thread: no signal of the caller's is handled in it, and it has its own mounts.
fn enter(namespace: Option<&OwnedFd>) -> Result<()> {
    let _ = SigSet::all().thread_block();
    let Some(namespace) = namespace else { return Ok(()) };
    // A thread can only change its mount namespace with a working directory and root of its own.
    unshare(CloneFlags::CLONE_FS).map_err(|errno| Error::system("unshare", "fs", errno))?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::system("setns", "template mount namespace", errno))
}

/// Does what is asked until the sender goes, which is at the end of the process.
fn serve(shared: &Shared) {
    loop {
        shared.idle.fetch_add(1, Ordering::Relaxed);
        let job = shared.queue.lock().map(|queue| queue.recv());
        shared.idle.fetch_sub(1, Ordering::Relaxed);
        let Ok(Ok(job)) = job else { return };
        if !job() {
            return;
        }
    }
}
