//! The service: who listens, who attends clients, and how it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use pidone::pool::Sizes;
use pidone::{Options, Pool};
use pidone_config::oci::Bundle;
use pidone_config::{Error, Result};
use pidone_host::privilege;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};

use super::attend;
use super::directory::{Directory, limit};
use super::lines::Lines;
use super::message::{Answer, Request, decode};
use crate::failure::Outcome;
use crate::pidone::flags::Global;
use crate::report::Report;
use crate::signals::Signals;

/// The most clients at a time; others wait until one goes.
const CLIENTS: usize = 512;

/// How many threads wait for clients when there are few.
const IDLE: usize = 8;

/// How soon what could not be done is tried again, or looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// The service.
struct Service {
    pool: Pool,
    bundle: Bundle,
    listener: OwnedFd,
    /// Readable when everything shall end.
    end: OwnedFd,
    /// Readable when no more clients are taken.
    drained: OwnedFd,
    threads: Mutex<Threads>,
}

/// The threads that attend clients.
#[derive(Debug, Default)]
struct Threads {
    all: usize,
    idle: usize,
    closed: bool,
}

/// Serves until it is told to end.
pub(super) fn serve(flags: &super::Serve, global: &Global, report: &mut Report) -> Outcome {
    // Before the first thread.
    let signals = Signals::take()?;
    let directory = Directory::take(&flags.directory.directory)?;
    let bundle = Bundle::open(&flags.bundle)?;
    for warning in bundle.warnings() {
        report.warning(&warning);
    }
    let mut config = bundle.config()?;
    global.fit_cgroup(&mut config, "pool")?;
    let factory = global.factory(Options::default())?;
    let sizes = Sizes { low: flags.low.unwrap_or(flags.size.div_ceil(2)), size: flags.size };
    let pool = Pool::new(&factory, &config, bundle.process()?, sizes)?;
    let fail = |errno| Error::system("eventfd", "", errno);
    let service = Service {
        pool,
        bundle,
        listener: directory.listen()?,
        end: eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?,
        drained: eventfd(0, EventfdFlags::CLOEXEC).map_err(fail)?,
        threads: Mutex::default(),
    };
    let (told, drained) = thread::scope(|scope| {
        let told = service.hire(scope).and_then(|()| service.wait(&signals));
        directory.forget();
        service.close();
        let drained = service.pool.drain();
        // Behind a drain what runs may go on.
        if !matches!(told, Ok(None)) || service.wait_for_threads(&signals) {
            service.end();
        }
        (told, drained)
    });
    drained?;
    told?;
    Ok(0)
}

impl Service {
    /// Waits for the end: a signal, which is told, or a client that drains the pool.
    fn wait(&self, signals: &Signals) -> Result<Option<i32>> {
        loop {
            if let Some(signal) = signals.interrupted()? {
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

    /// Starts another thread that waits for a client.
    fn hire<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Result<()> {
        let count = |change: fn(usize) -> usize| {
            let mut threads = self.threads();
            (threads.all, threads.idle) = (change(threads.all), change(threads.idle));
        };
        count(|number| number + 1);
        let work = move || {
            self.work(scope);
            self.threads().all -= 1;
        };
        let started = thread::Builder::new().name("pidone-client".into()).spawn_scoped(scope, work);
        started.map(drop).map_err(|error| {
            count(|number| number - 1);
            Error::system("start a thread", "pidone-client", error)
        })
    }

    /// Attends clients, one behind the other.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        loop {
            let accepted = accept_with(&self.listener, SocketFlags::CLOEXEC);
            let more = {
                let mut threads = self.threads();
                threads.idle -= 1;
                if threads.closed {
                    return;
                }
                threads.idle == 0 && threads.all < CLIENTS
            };
            if more {
                // Without one the next client waits for this thread.
                let _ = self.hire(scope);
            }
            match accepted {
                Ok(socket) => self.attend(socket),
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

    /// Attends a client. What goes wrong is told to this one alone.
    fn attend(&self, socket: OwnedFd) {
        let welcome = admit(&socket).and_then(|()| limit(&socket));
        let mut lines = Lines::new(socket);
        if let Err(error) = welcome.and_then(|()| self.answer(&mut lines)) {
            // It may be the reason that nobody is there to read it.
            let _ = lines.send(&Answer::error(&error), &[]);
        }
    }

    fn answer(&self, lines: &mut Lines) -> Result<()> {
        let Some(line) = lines.next()? else { return Ok(()) };
        match decode(&line, "request")? {
            Request::Run(program) => {
                let base = self.bundle.process()?;
                attend::run(lines, program, base, &self.pool, self.end.as_fd())
            }
            Request::Status {} => lines.send(&Answer::status(&self.pool.status()), &[]),
            Request::Drain {} => {
                self.pool.drain()?;
                let _ = rustix::io::write(&self.drained, &1_u64.to_ne_bytes());
                lines.send(&Answer::Drained {}, &[])
            }
        }
    }

    /// Takes no more clients. Threads that wait for one end.
    fn close(&self) {
        self.threads().closed = true;
        // It wakes them: accept(2) answers EINVAL.
        let _ = shutdown(&self.listener, Shutdown::Both);
    }

    /// Waits until all clients have gone; answers whether a signal came before.
    fn wait_for_threads(&self, signals: &Signals) -> bool {
        while self.threads().all > 0 {
            if matches!(signals.interrupted(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }

    /// Lets all clients go.
    fn end(&self) {
        let _ = rustix::io::write(&self.end, &1_u64.to_ne_bytes());
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a client of another user. In a user namespace others may look like this one, and only
/// the directory tells them apart.
fn admit(socket: &OwnedFd) -> Result<()> {
    let peer = socket_peercred(socket).map_err(|errno| Error::system("getsockopt", "", errno))?;
    if privilege::in_user_namespace() || peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    Err(Error::system("connect", "pool", Errno::ACCESS).with_hint("the service is another user's"))
}
