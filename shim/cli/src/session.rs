//! Attaches the caller to a program until it exits: forwards signals, and relays the terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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

/// A program that the caller is attached to: [`attach_to`].
pub(super) trait Attached {
    /// Returns a descriptor that becomes readable when the program may have exited.
    fn events(&self) -> BorrowedFd<'_>;

    /// Reads what the descriptor has. Returns whether the program has exited.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if it is not known whether it runs.
    fn read_events(&mut self) -> Result<bool>;

    /// Sends the program a signal that this process has received.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`]. It is not an error if the program has just exited.
    fn forward(&mut self, signal: i32) -> Result<()>;

    /// Whether signals are held back, so that [`Attached::retry_held`] must be called soon.
    fn has_held(&self) -> bool {
        false
    }

    /// Sends the signals that were held back, if it is time.
    ///
    /// # Errors
    /// As [`Attached::forward`].
    fn retry_held(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A program that this process has started.
struct Started<'a> {
    running: &'a Running,
    forwarder: Forwarder,
}

impl Attached for Started<'_> {
    fn events(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    fn read_events(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn forward(&mut self, signal: i32) -> Result<()> {
        self.forwarder.forward(self.running, signal)
    }

    fn has_held(&self) -> bool {
        self.forwarder.has_held()
    }

    fn retry_held(&mut self) -> Result<()> {
        self.forwarder.retry_held(self.running)
    }
}

/// Forwards signals and relays the terminal until the program exits. Returns its exit status, or
/// 128 plus the signal that killed it.
///
/// # Errors
/// [`pidone_config::Code::SystemError`]. The program may still be running then.
pub(super) fn attach(running: &mut Running, signals: &Signals) -> Result<i32> {
    let console = running.console.take();
    let mut started = Started { running, forwarder: Forwarder::default() };
    let failure = attach_to(&mut started, console, signals)?;
    let killed_for = started.forwarder.killed_for();
    let exit = running.wait()?;
    match (killed_for, failure) {
        (Some(signal), _) if exit.signal == Some(libc::SIGKILL) => Ok(128 + signal),
        (_, Some(error)) => Err(error),
        _ => Ok(exit.status()),
    }
}

/// Forwards signals to a program until it exits, and relays the terminal with this master. Returns
/// why standard output could not be written to.
///
/// The caller's terminal is restored, and that of the container has hung up.
///
/// # Errors
/// [`pidone_config::Code::SystemError`]. The program may still be running then.
pub(super) fn attach_to(
    program: &mut impl Attached,
    console: Option<OwnedFd>,
    signals: &Signals,
) -> Result<Option<Error>> {
    let ignored = console.is_some() && signals::is_ignored(libc::SIGHUP);
    let on_loss = if ignored { Loss::Nothing } else { Loss::HangUp };
    let relay = console.map(|master| Relay::new(master, on_loss)).transpose()?;
    let raw = relay.as_ref().and_then(|_| Raw::enter());
    let mut session = Session { program, signals, raw, relay };
    session.relay_until_exit()?;
    Ok(session.relay.as_ref().and_then(Relay::failure))
}

/// A running program, and what connects it to the caller.
struct Session<'a, T> {
    program: &'a mut T,
    signals: &'a Signals,
    /// The caller's terminal in raw mode.
    raw: Option<Raw>,
    /// For a program with its own terminal.
    relay: Option<Relay>,
}

impl<T: Attached> Session<'_, T> {
    /// Runs until the program has exited and all its output has been relayed.
    fn relay_until_exit(&mut self) -> Result<()> {
        loop {
            let ready = self.wait(true)?;
            while let Some(signal) = self.signals.next()? {
                self.handle_signal(signal)?;
            }
            self.program.retry_held()?;
            if let Some(relay) = &mut self.relay {
                // A terminal that has hung up reads as ended.
                let ended = !ready.relay.stdin.is_empty();
                if ended && self.raw.as_ref().is_some_and(Raw::has_hung_up) {
                    relay.lose_terminal();
                }
                relay.transfer(&ready.relay);
            }
            if ready.program && self.program.read_events()? {
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
        let program = self.program.events();
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
        let program = add(program, if runs { PollFlags::IN } else { PollFlags::empty() });
        let stdin = add(stdin(), wanted.stdin);
        let stdout = add(stdout, wanted.stdout);
        let master = match master {
            Some(master) if !deserted => add(master, wanted.master),
            _ => None,
        };
        let timeout = if runs && self.program.has_held() {
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
            program: !revents(program).is_empty(),
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
                self.program.forward(signal)?;
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
    /// Whether the program may have exited.
    program: bool,
    relay: Wanted,
}

fn resize(relay: &Relay) {
    if let Some(size) = terminal::size() {
        relay.resize(size);
    }
}
