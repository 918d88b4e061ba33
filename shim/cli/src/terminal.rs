//! The caller's terminal, while a program in a container uses another one.

use std::os::fd::BorrowedFd;

use pidone_config::{Error, Result, TerminalSize};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Returns the size of the caller's terminal: the first of the standard streams that is one.
pub(super) fn size() -> Option<TerminalSize> {
    [stdin(), stdout(), stderr()].into_iter().find_map(|fd| {
        let size = tcgetwinsize(fd).ok()?;
        Some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
    })
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
    /// Sets standard input to raw mode. Returns `None` if it is not a terminal.
    pub(super) fn enter() -> Result<Option<Self>> {
        let fd = stdin();
        if !isatty(fd) {
            return Ok(None);
        }
        let before = tcgetattr(fd).map_err(|errno| Error::system("tcgetattr", "stdin", errno))?;
        let raw = Self { fd, before };
        raw.set()?;
        Ok(Some(raw))
    }

    /// Sets raw mode again, after a shell has used the terminal.
    pub(super) fn set(&self) -> Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(self.fd, OptionalActions::Now, &raw)
            .map_err(|errno| Error::system("tcsetattr", "stdin", errno))
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
