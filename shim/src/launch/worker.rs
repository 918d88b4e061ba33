//! Threads that clone inits.
//!
//! A process gets its parent-death signal when the *thread* that cloned it ends, so containers with
//! one are cloned by a thread that lives as long as the process. Also, a thread can be in its own
//! almost empty mount namespace, which is cheap to copy.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use pidone_config::{Error, Result};

use super::clone::{Child, Request, clone_and_exec, no_thread};
use super::template;

/// The thread that clones, which determines the mounts that the init sees a copy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The calling thread, with the host's mounts.
    Caller,
    /// A thread that does not end, with the host's mounts.
    Thread,
    /// A thread in the template mount namespace.
    Template,
}

/// A request, and the sender for its result.
type Job = (Request, mpsc::SyncSender<Result<Child>>);

/// The threads of one kind, which take jobs from a queue.
struct CloneThreads {
    jobs: mpsc::Sender<Job>,
}

/// Clones in the thread of a place.
pub(crate) fn clone_at(place: Place, request: Request) -> Result<Child> {
    let threads = match place {
        Place::Caller => return clone_and_exec(&request),
        Place::Thread => plain_threads(),
        Place::Template => template_threads(),
    };
    let threads = threads.as_ref().map_err(Clone::clone)?;
    let (sender, result) = mpsc::sync_channel(1);
    let gone = || Error::system("clone3", "", rustix::io::Errno::SRCH);
    threads.jobs.send((request, sender)).map_err(|_| gone())?;
    // The request has the numbers of descriptors that the caller owns. They stay open, since this
    // blocks until the clone is done.
    result.recv().map_err(|_| gone())?
}

/// Starts the threads that a start with or without the template may need, so that they inherit the
/// priority of the calling thread, and not that of a thread that first needs them later.
pub(crate) fn start_clone_threads(template: bool) {
    // The first clone that needs the threads returns the error.
    let _ = plain_threads();
    if template {
        let _ = template_threads();
    }
}

/// Returns why this process cannot create the template mount namespace; `None` if it can. The first
/// call creates it.
pub(crate) fn template_error() -> Option<&'static Error> {
    template_threads().as_ref().err()
}

/// Returns the threads that see the host's mounts.
fn plain_threads() -> &'static Result<CloneThreads> {
    static PLAIN: OnceLock<Result<CloneThreads>> = OnceLock::new();
    PLAIN.get_or_init(|| CloneThreads::new(None))
}

/// Returns the threads in the template mount namespace.
fn template_threads() -> &'static Result<CloneThreads> {
    static TEMPLATE: OnceLock<Result<CloneThreads>> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        template::make_namespace().and_then(|namespace| CloneThreads::new(Some(namespace)))
    })
}

impl CloneThreads {
    /// Starts a thread for each processor, since a clone keeps one busy.
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
                .map_err(|error| no_thread("pidone-clone", error))?;
            is_ready.recv().map_err(|_| {
                Error::system("start a thread", "pidone-clone", rustix::io::Errno::SRCH)
            })??;
        }
        Ok(Self { jobs })
    }
}

/// Prepares a thread: it blocks all signals, so that it runs no handler of the caller, and enters
/// the mount namespace.
fn enter(namespace: Option<&OwnedFd>) -> Result<()> {
    let _ = SigSet::all().thread_block();
    let Some(namespace) = namespace else { return Ok(()) };
    // A thread can only change its mount namespace if it does not share its working directory and
    // root with other threads.
    unshare(CloneFlags::CLONE_FS).map_err(|errno| Error::system("unshare", "fs", errno))?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::system("setns", "template mount namespace", errno))
}

/// Handles requests until the sender is dropped, at the end of the process.
fn serve(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((request, sender)) = job else { return };
        let _ = sender.send(clone_and_exec(&request));
    }
}
