//! The service: `pidone pool serve`.
//!
//! Threads accept clients and serve each until it disconnects. A thread that accepts a client while
//! no other is idle starts another one. The service ends after a signal or after a client has
//! drained the pool, when all programs have exited. After a signal they have a period of grace; at
//! its end, or at a further signal, all containers are killed.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use pidone::{Factory, Options};
use pidone_config::{Error, Result};
use pidone_host::privilege;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};

use super::bundles::Bundles;
use super::directory::{Directory, TIMEOUT, set_timeouts};
use super::lines::Lines;
use super::message::{Request, Response, decode};
use super::metrics::metrics;
use super::program::{exec_program, run_program};
use crate::failure::Outcome;
use crate::pidone::flags::Global;
use crate::report::Report;
use crate::signals::Signals;

/// The most clients at a time. Others wait until one disconnects.
const CLIENTS: usize = 512;

/// How many idle threads are kept.
const IDLE: usize = 8;

/// How long to wait before a failed accept(2) is tried again, or the threads are counted again.
const PAUSE: Duration = Duration::from_millis(10);

/// The service.
struct Service {
    factory: Factory,
    bundles: Bundles,
    listener: OwnedFd,
    /// An eventfd that becomes readable when no more requests are served.
    closing: OwnedFd,
    /// An eventfd that becomes readable when all clients must be disconnected.
    end: OwnedFd,
    /// An eventfd that becomes readable when a client has drained the pool.
    drained: OwnedFd,
    threads: Mutex<Threads>,
}

/// The number of threads that serve clients.
#[derive(Debug, Default)]
struct Threads {
    all: usize,
    /// Those that wait for a client.
    idle: usize,
    /// Whether no more clients are accepted.
    closed: bool,
}

/// Serves a pool until a signal or a client ends it.
pub(super) fn serve(flags: &super::Serve, global: &Global, report: &mut Report) -> Outcome {
    // Before the first thread starts.
    let signals = Signals::block()?;
    let directory = Directory::lock(&flags.directory.directory)?;
    let factory = global.factory(Options::default())?;
    let bundles = Bundles::open(flags, global, &factory, report)?;
    let fail = |errno| Error::system("eventfd", "", errno);
    let service = Service {
        factory,
        bundles,
        listener: directory.listen()?,
        closing: eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?,
        end: eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?,
        drained: eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?,
        threads: Mutex::default(),
    };
    let (waited, drained) = thread::scope(|scope| {
        let waited = service.spawn_thread(scope).and_then(|()| service.wait_for_end(&signals));
        directory.remove_socket();
        service.stop_accepting();
        let drained = service.bundles.drain();
        // After a drain, running programs may finish; after a signal, they have some time for it.
        let deadline = match &waited {
            Ok(None) => None,
            Ok(Some(_)) => Some(Instant::now() + Duration::from_secs(flags.grace.into())),
            Err(_) => Some(Instant::now()),
        };
        if service.wait_for_threads(&signals, deadline) {
            service.disconnect_clients();
        }
        (waited, drained)
    });
    drained?;
    waited?;
    Ok(0)
}

impl Service {
    /// Waits for a signal, which is returned, or for a client that drains the pool.
    fn wait_for_end(&self, signals: &Signals) -> Result<Option<i32>> {
        loop {
            if let Some(signal) = signals.next_termination()? {
                return Ok(Some(signal));
            }
            let mut fds = [
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                PollFd::new(&self.drained, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("poll", "", errno)),
            }
            if !fds[1].revents().is_empty() {
                return Ok(None);
            }
        }
    }

    /// Starts another thread that accepts clients.
    fn spawn_thread<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<()> {
        let count = |change: fn(usize) -> usize| {
            let mut threads = self.threads();
            (threads.all, threads.idle) = (change(threads.all), change(threads.idle));
        };
        count(|number| number + 1);
        let work = move || {
            self.accept_clients(scope);
            self.threads().all -= 1;
        };
        let started = thread::Builder::new().name("pidone-client".into()).spawn_scoped(scope, work);
        started.map(drop).map_err(|error| {
            count(|number| number - 1);
            Error::system("start a thread", "pidone-client", error)
        })
    }

    /// Accepts and serves clients, one after another.
    fn accept_clients<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        loop {
            let accepted = accept_with(&self.listener, SocketFlags::CLOEXEC);
            let is_last_idle = {
                let mut threads = self.threads();
                threads.idle -= 1;
                if threads.closed {
                    return;
                }
                threads.idle == 0 && threads.all < CLIENTS
            };
            if is_last_idle {
                // On failure the next client waits for this thread.
                let _ = self.spawn_thread(scope);
            }
            match accepted {
                Ok(socket) => self.serve_client(socket),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    thread::sleep(PAUSE);
                }
                Err(_) => {}
            }
            let mut threads = self.threads();
            if threads.closed || threads.idle >= IDLE {
                return;
            }
            threads.idle += 1;
        }
    }

    /// Serves a client. Errors are sent to this client only.
    fn serve_client(&self, socket: OwnedFd) {
        let checked = check_peer(&socket).and_then(|()| set_timeouts(&socket));
        let mut lines = Lines::new(socket);
        if let Err(error) = checked.and_then(|()| self.handle_request(&mut lines)) {
            // Ignore a failure: the client may be gone.
            let _ = lines.send(&Response::error(&error), &[]);
        }
    }

    fn handle_request(&self, lines: &mut Lines) -> Result<()> {
        // The whole line: one byte at a time does not extend it.
        let deadline = Instant::now() + TIMEOUT;
        let Some(line) = lines.next_before(deadline, self.closing.as_fd())? else { return Ok(()) };
        match decode(&line, "request")? {
            Request::Run(program) => run_program(lines, program, &self.bundles, self.end.as_fd()),
            Request::Exec(program) => {
                let containers = (&self.factory, &self.bundles);
                exec_program(lines, program, containers, self.end.as_fd())
            }
            Request::Status {} => lines.send(&Response::Status(self.bundles.status()), &[]),
            Request::Metrics {} => {
                lines.send(&Response::Metrics(metrics(&self.bundles.each())), &[])
            }
            Request::Drain {} => {
                self.bundles.drain()?;
                signal(&self.drained);
                lines.send(&Response::Drained {}, &[])
            }
        }
    }

    /// Accepts no more clients, refuses those that have not sent their request, and ends the idle
    /// threads.
    fn stop_accepting(&self) {
        self.threads().closed = true;
        signal(&self.closing);
        // This wakes them: accept(2) returns EINVAL.
        let _ = shutdown(&self.listener, Shutdown::Both);
    }

    /// Waits until all clients have disconnected. Returns true if a signal arrives or the deadline
    /// passes first.
    fn wait_for_threads(&self, signals: &Signals, deadline: Option<Instant>) -> bool {
        while self.threads().all > 0 {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || matches!(signals.next_termination(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }

    /// Kills the programs of all clients and disconnects them.
    fn disconnect_clients(&self) {
        signal(&self.end);
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes an eventfd readable.
fn signal(eventfd: &OwnedFd) {
    // It fails only after 2^64 of them.
    let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
}

/// Refuses a client of another user.
///
/// In a user namespace the ID of the peer does not identify its user. There only the mode of the
/// directory protects the service.
fn check_peer(socket: &OwnedFd) -> Result<()> {
    let peer = socket_peercred(socket).map_err(|errno| Error::system("getsockopt", "", errno))?;
    if privilege::in_user_namespace() || peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    Err(Error::system("connect", "pool", Errno::ACCESS).with_hint("the service is another user's"))
}
