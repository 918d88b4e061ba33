//! From the start of a program to its end: signals, the terminal, the exit.

use std::os::fd::AsFd;

use pidone::Running;
use pidone_config::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;

use super::relay::{Relay, Wanted};
use super::signals::{self, Forwarder, Signals};
use super::terminal::{self, Raw};

/// How soon a terminal that nobody has open is looked at again.
const REOPENED: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How soon signals that the program blocks are looked at again.
const UNBLOCKED: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// A program that runs, and what it has of the caller.
struct Session<'a> {
    running: &'a Running,
    signals: &'a Signals,
    /// The caller's terminal in raw mode.
    raw: Option<Raw>,
    /// For a program with a terminal of its own.
    relay: Option<Relay>,
    forwarder: Forwarder,
}

/// Attends a program until it ends, and answers its status: as its own, or 128 and the signal.
///
/// # Errors
/// [`pidone_config::Code::SystemError`]; the program may run on then.
pub(super) fn attend(running: &mut Running, signals: &Signals) -> Result<i32> {
    let relay = running.console.take().map(Relay::new).transpose()?;
    let raw = if relay.is_some() { Raw::enter()? } else { None };
    let mut session = Session { running, signals, raw, relay, forwarder: Forwarder::default() };
    session.run()?;
    let Session { raw, relay, forwarder, .. } = session;
    let failure = relay.as_ref().and_then(Relay::failure);
    // The caller's terminal is as it was, and whoever else has the container's open is hung up,
    // before anything is told.
    drop((raw, relay));
    let exit = running.wait()?;
    match (forwarder.killed_for(), failure) {
        (Some(signal), _) if exit.signal == Some(libc::SIGKILL) => Ok(128 + signal),
        (_, Some(error)) => Err(error),
        _ => Ok(exit.status()),
    }
}

impl Session<'_> {
    /// Goes on until the program has ended and its output has been passed on.
    fn run(&mut self) -> Result<()> {
        loop {
            let ready = self.wait(true)?;
            while let Some(signal) = self.signals.next()? {
                self.handle_signal(signal)?;
            }
            self.forwarder.settle(self.running)?;
            if let Some(relay) = &mut self.relay {
                relay.pass(&ready.relay);
            }
            if ready.ended {
                break;
            }
        }
        if let Some(relay) = &mut self.relay {
            relay.end();
            relay.pass(&Wanted::NOTHING);
        }
        while self.relay.as_ref().is_some_and(|relay| !relay.is_done()) {
            let ready = self.wait(false)?;
            if self.signals.interrupted()?.is_some() {
                break;
            }
            if let Some(relay) = &mut self.relay {
                relay.pass(&ready.relay);
            }
        }
        Ok(())
    }

    /// Waits until there is something to do.
    fn wait(&self, runs: bool) -> Result<Ready> {
        let wanted = self.relay.as_ref().map_or(Wanted::NOTHING, Relay::wanted);
        let deserted = runs && self.relay.as_ref().is_some_and(Relay::is_deserted);
        let pidfd = self.running.pidfd();
        let signals = self.signals.as_fd();
        let (master, stdout) = match &self.relay {
            Some(relay) => (relay.master(), relay.stdout()),
            None => (None, signals),
        };
        // What is not waited for stays out: poll(2) tells of a hang-up whether asked or not.
        let mut fds = Vec::with_capacity(5);
        fds.push(PollFd::from_borrowed_fd(signals, PollFlags::IN));
        let mut add = |fd, flags: PollFlags| {
            let place = (!flags.is_empty()).then_some(fds.len());
            fds.extend(place.map(|_| PollFd::from_borrowed_fd(fd, flags)));
            place
        };
        let pidfd = add(pidfd, if runs { PollFlags::IN } else { PollFlags::empty() });
        let stdin = add(stdin(), wanted.stdin);
        let stdout = add(stdout, wanted.stdout);
        let master = match master {
            Some(master) if !deserted => add(master, wanted.master),
            _ => None,
        };
        let again = if runs && self.forwarder.is_unsettled() {
            Some(&UNBLOCKED)
        } else {
            deserted.then_some(&REOPENED)
        };
        match poll(&mut fds, again) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", "", errno)),
        }
        let of = |place: Option<usize>| {
            place.and_then(|place| fds.get(place)).map_or(PollFlags::empty(), PollFd::revents)
        };
        Ok(Ready {
            ended: !of(pidfd).is_empty(),
            relay: Wanted { master: of(master), stdin: of(stdin), stdout: of(stdout) },
        })
    }

    fn handle_signal(&mut self, signal: i32) -> Result<()> {
        match (signal, &self.relay) {
            (libc::SIGWINCH, Some(relay)) => resize(relay),
            (libc::SIGCONT, Some(relay)) => {
                // A shell has had the terminal meanwhile. If it keeps it, the kernel stops this
                // process again.
                if let Some(raw) = &self.raw {
                    raw.set()?;
                }
                resize(relay);
            }
            // Ctrl-Z went to the terminal in the container: somebody means this process.
            (libc::SIGTSTP, Some(_)) => {
                if let Some(raw) = &self.raw {
                    raw.release();
                }
                signals::stop_here();
            }
            _ => {
                self.forwarder.send(self.running, signal)?;
                if signal == libc::SIGTSTP {
                    signals::stop_here();
                }
            }
        }
        Ok(())
    }
}

/// What [`Session::wait`] found.
struct Ready {
    ended: bool,
    relay: Wanted,
}

fn resize(relay: &Relay) {
    if let Some(size) = terminal::size() {
        relay.resize(size);
    }
}
