//! Attaches the caller to a program until it exits: forwards signals, and relays the terminal.

use std::os::fd::AsFd;

use pidone::Running;
use pidone_config::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdin;

use super::relay::{Loss, Relay, Wanted};
use super::signals::{self, Forwarder, Signals};
use super::terminal::{self, Raw};

/// How often a terminal that no process has open is checked again.
const REOPEN_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How often signals that the program blocks are checked again.
pub(super) const UNBLOCK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// A running program, and what connects it to the caller.
struct Session<'a> {
    running: &'a Running,
    signals: &'a Signals,
    /// The caller's terminal in raw mode.
    raw: Option<Raw>,
    /// For a program with its own terminal.
    relay: Option<Relay>,
    forwarder: Forwarder,
}

/// Forwards signals and relays the terminal until the program exits. Returns its exit status, or
/// 128 plus the signal that killed it.
///
/// # Errors
/// [`pidone_config::Code::SystemError`]. The program may still be running then.
pub(super) fn attach(running: &mut Running, signals: &Signals) -> Result<i32> {
    let ignored = running.console.is_some() && signals::is_ignored(libc::SIGHUP);
    let on_loss = if ignored { Loss::Nothing } else { Loss::HangUp };
    let relay = running.console.take().map(|master| Relay::new(master, on_loss)).transpose()?;
    let raw = relay.as_ref().and_then(|_| Raw::enter());
    let mut session = Session { running, signals, raw, relay, forwarder: Forwarder::default() };
    session.relay_until_exit()?;
    let Session { raw, relay, forwarder, .. } = session;
    let failure = relay.as_ref().and_then(Relay::failure);
    // Restore the caller's terminal, and hang up that of the container, before anything is printed.
    drop((raw, relay));
    let exit = running.wait()?;
    match (forwarder.killed_for(), failure) {
        (Some(signal), _) if exit.signal == Some(libc::SIGKILL) => Ok(128 + signal),
        (_, Some(error)) => Err(error),
        _ => Ok(exit.status()),
    }
}

impl Session<'_> {
    /// Runs until the program has exited and all its output has been relayed.
    fn relay_until_exit(&mut self) -> Result<()> {
        loop {
            let ready = self.wait(true)?;
            while let Some(signal) = self.signals.next()? {
                self.handle_signal(signal)?;
            }
            self.forwarder.retry_held(self.running)?;
            if let Some(relay) = &mut self.relay {
                // A terminal that has hung up reads as ended.
                let ended = !ready.relay.stdin.is_empty();
                if ended && self.raw.as_ref().is_some_and(Raw::has_hung_up) {
                    relay.lose_terminal();
                }
                relay.transfer(&ready.relay);
            }
            if ready.ended {
                break;
            }
        }
        if let Some(relay) = &mut self.relay {
            relay.finish_output();
            relay.transfer(&Wanted::NOTHING);
        }
        while self.relay.as_ref().is_some_and(|relay| !relay.is_done()) {
            let ready = self.wait(false)?;
            if self.signals.next_termination()?.is_some() {
                break;
            }
            if let Some(relay) = &mut self.relay {
                relay.transfer(&ready.relay);
            }
        }
        Ok(())
    }

    /// Waits until a descriptor is ready or a check is due. `runs` is whether the program runs.
    fn wait(&self, runs: bool) -> Result<Ready> {
        let wanted = self.relay.as_ref().map_or(Wanted::NOTHING, Relay::wanted);
        let deserted = runs && self.relay.as_ref().is_some_and(Relay::is_deserted);
        let pidfd = self.running.pidfd();
        let signals = self.signals.as_fd();
        let (master, stdout) = match &self.relay {
            Some(relay) => (relay.master(), relay.stdout()),
            None => (None, signals),
        };
        // Leave out descriptors that are not waited for: poll(2) always reports a hang-up.
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
        let timeout = if runs && self.forwarder.has_held() {
            Some(&UNBLOCK_INTERVAL)
        } else {
            deserted.then_some(&REOPEN_INTERVAL)
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", "", errno)),
        }
        let revents = |place: Option<usize>| {
            place.and_then(|place| fds.get(place)).map_or(PollFlags::empty(), PollFd::revents)
        };
        Ok(Ready {
            ended: !revents(pidfd).is_empty(),
            relay: Wanted {
                master: revents(master),
                stdin: revents(stdin),
                stdout: revents(stdout),
            },
        })
    }

    fn handle_signal(&mut self, signal: i32) -> Result<()> {
        match (signal, &self.relay) {
            (libc::SIGWINCH, Some(relay)) => resize(relay),
            (libc::SIGCONT, Some(relay)) => {
                // A shell has used the terminal meanwhile. If this process is in the background,
                // the kernel stops it again. A terminal that hangs up sends this signal too; then
                // there is no mode to set.
                if let Some(raw) = &self.raw {
                    let _ = raw.set();
                }
                resize(relay);
            }
            // Not from Ctrl-Z, which goes to the terminal in the container: it is for this process.
            (libc::SIGTSTP, Some(_)) => {
                if let Some(raw) = &self.raw {
                    raw.release();
                }
                signals::stop_this_process();
            }
            _ => {
                self.forwarder.forward(self.running, signal)?;
                if signal == libc::SIGTSTP {
                    signals::stop_this_process();
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
