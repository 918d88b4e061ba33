//! The caller's terminal, while a program in a container has one of its own.

use std::os::fd::BorrowedFd;

use pidone_config::{Error, Result, TerminalSize};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// The size of the caller's terminal, whichever of its descriptors is one.
pub(super) fn size() -> Option<TerminalSize> {
    [stdin(), stdout(), stderr()].into_iter().find_map(|fd| {
        let size = tcgetwinsize(fd).ok()?;
        Some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
    })
}

/// The terminal on standard input in raw mode, as it was before when this is dropped.
///
/// Every key goes to the terminal in the container, which echoes, edits lines and makes Ctrl-C a
/// signal.
#[derive(Debug)]
pub(super) struct Raw {
    fd: BorrowedFd<'static>,
    before: Termios,
}

impl Raw {
    /// Makes standard input raw; `None` if it is no terminal.
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

    /// Makes it raw again, after a shell has had the terminal.
    pub(super) fn set(&self) -> Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(self.fd, OptionalActions::Now, &raw)
            .map_err(|errno| Error::system("tcsetattr", "stdin", errno))
    }

    /// Restores it for a while.
    pub(super) fn release(&self) {
        // A terminal that is gone needs no care.
        let _ = tcsetattr(self.fd, OptionalActions::Now, &self.before);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.release();
    }
}
