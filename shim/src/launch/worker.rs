//! Threads that clone.
//!
//! Two reasons: a parent-death signal fires when the *thread* that cloned ends, so that such
//! containers come from one that lives as long as the library; and a thread may live in a mount
//! namespace of its own, from which a clone is cheap.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use pidone_config::{Error, Result};

use super::clone::{Child, Request, spawn};
use super::template;

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

/// A request and where its answer goes.
type Job = (Request, mpsc::SyncSender<Result<Child>>);

/// Threads of one kind, and the way to them.
struct Pool {
    jobs: mpsc::Sender<Job>,
}

/// Clones at a place.
pub(crate) fn clone_at(place: Place, request: Request) -> Result<Child> {
    let pool = match place {
        Place::Caller => return spawn(&request),
        Place::Thread => plain(),
        Place::Template => in_template(),
    };
    let pool = pool.as_ref().map_err(Clone::clone)?;
    let (answer, answered) = mpsc::sync_channel(1);
    let gone = || Error::system("clone3", "", rustix::io::Errno::SRCH);
    pool.jobs.send((request, answer)).map_err(|_| gone())?;
    // The request holds numbers of descriptors that belong to this thread's caller: they stay
    // open, since nothing happens here before the answer.
    answered.recv().map_err(|_| gone())?
}

/// Makes the threads that a start with or without the template may need, so that they have the
/// priority of the calling thread and not of one that starts something later.
pub(crate) fn start_clone_threads(template: bool) {
    // What failed is told by the first clone that needs it.
    let _ = plain();
    if template {
        let _ = in_template();
    }
}

/// Why this process cannot make the template; it is made at the first question.
pub(crate) fn template_error() -> Option<&'static Error> {
    in_template().as_ref().err()
}

/// The threads that see the host's mounts.
fn plain() -> &'static Result<Pool> {
    static PLAIN: OnceLock<Result<Pool>> = OnceLock::new();
    PLAIN.get_or_init(|| Pool::new(None))
}

/// The threads inside the template mount namespace.
fn in_template() -> &'static Result<Pool> {
    static TEMPLATE: OnceLock<Result<Pool>> = OnceLock::new();
    TEMPLATE.get_or_init(|| template::make().and_then(|namespace| Pool::new(Some(namespace))))
}

impl Pool {
    /// Starts as many threads as there are processors: a clone keeps one busy.
    fn new(namespace: Option<OwnedFd>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let namespace = namespace.map(Arc::new);
        let count = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            let namespace = namespace.clone();
            let (ready, is_ready) = mpsc::sync_channel(1);
            thread::Builder::new()
                .name("pidone-clone".into())
                .spawn(move || {
                    let entered = enter(namespace.as_deref());
                    let usable = entered.is_ok();
                    let _ = ready.send(entered);
                    if usable {
                        serve(&queue);
                    }
                })
                .map_err(|error| Error::system("start a thread", "pidone-clone", error))?;
            is_ready.recv().map_err(|_| {
                Error::system("start a thread", "pidone-clone", rustix::io::Errno::SRCH)
            })??;
        }
        Ok(Self { jobs })
    }
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

/// Answers requests until the sender goes, which is at the end of the process.
fn serve(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((request, answer)) = job else { return };
        let _ = answer.send(spawn(&request));
    }
}
