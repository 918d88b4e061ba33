//! The caller's terminal, while a program in a container uses another one.

use std::os::fd::BorrowedFd;

use pidone_config::TerminalSize;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Returns the size of the caller's terminal: the first of the standard streams that is one.
pub(super) fn size() -> Option<TerminalSize> {
    [stdin(), stdout(), stderr()].into_iter().find_map(|fd| {
        let size = tcgetwinsize(fd).ok()?;
        Some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
    })
}

/// Returns whether the terminal in the container must leave line feeds alone: a file or a pipe gets
/// them as the program wrote them, and a terminal that is not in raw mode adds the carriage returns
/// itself. Only a terminal in raw mode relies on the one in the container for that.
pub(super) fn keeps_newlines() -> bool {
    !(isatty(stdin()) && isatty(stdout()))
}

/// The terminal on standard input in raw mode. Dropping this restores its previous mode.
///
/// In raw mode every key is passed to the terminal in the container, which echoes it, edits lines
/// and turns Ctrl-C into a signal.
#[derive(Debug)]
pub(super) struct Raw {
    fd: BorrowedFd<'static>,
    before: Termios,
}

impl Raw {
    /// Sets standard input to raw mode. Returns `None` if it is not a terminal, or one whose mode
    /// this process cannot set: it has hung up, or is that of a background group without a parent
    /// that could continue it.
    pub(super) fn enter() -> Option<Self> {
        let fd = stdin();
        let raw = Self { fd, before: tcgetattr(fd).ok()? };
        raw.set().ok().map(|()| raw)
    }

    /// Sets raw mode again, after a shell has used the terminal.
    pub(super) fn set(&self) -> rustix::io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(self.fd, OptionalActions::Now, &raw)
    }

    /// Returns whether the terminal has hung up: its other end was closed.
    pub(super) fn has_hung_up(&self) -> bool {
        !isatty(self.fd)
    }

    /// Restores the previous mode, for example while this process is stopped.
    pub(super) fn release(&self) {
        // It fails only if the terminal is gone.
        let _ = tcsetattr(self.fd, OptionalActions::Now, &self.before);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.release();
    }
}
