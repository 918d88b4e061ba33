//! Copies bytes between the standard streams of the caller and the terminal of a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Error, Result, TerminalSize};
use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{SpecialCodeIndex, Winsize, isatty, tcgetattr, tcsetwinsize};

/// The most bytes of one read or write: at most `PIPE_BUF`. A pipe that poll(2) reports as writable
/// takes that many without blocking, so that a slow reader never blocks this process.
const CHUNK: usize = 4096;

/// The most bytes that are read from the terminal after the program has exited. This is more than
/// the kernel buffers, so that no output is lost, but limits the output of a surviving process.
const REMAINDER: usize = 256 * 1024;

/// The bytes of one direction that have been read and not yet written.
#[derive(Debug)]
struct Buffer {
    bytes: [u8; CHUNK],
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: [0; CHUNK], start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads into the empty buffer. Returns the number of bytes.
    fn fill(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let count = retry_on_intr(|| read(from, &mut self.bytes[..]))?;
        (self.start, self.end) = (0, count);
        Ok(count)
    }

    fn drain(&mut self, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let pending = self.bytes.get(self.start..self.end).unwrap_or_default();
        self.start += retry_on_intr(|| write(to, pending))?;
        Ok(())
    }
}

/// The relay between stdio and a terminal.
#[derive(Debug)]
pub(super) struct Relay {
    /// The master of the terminal, or `None` once it is hung up.
    master: Option<OwnedFd>,
    input: Buffer,
    /// Whether standard input has not ended.
    input_open: bool,
    output: Buffer,
    /// What the loss of the caller's terminal does.
    on_loss: Loss,
    /// The caller's terminal, opened again. It is non-blocking, which must not affect the other
    /// processes that share the original open file.
    reopened_stdout: Option<OwnedFd>,
    /// Whether no process has the terminal open.
    deserted: bool,
    /// How many bytes may still be read after the program has exited; `None` while it runs.
    remainder: Option<usize>,
    /// Why standard output can no longer be written to.
    failed: Option<Errno>,
}

/// What the loss of the caller's terminal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It hangs up the terminal in the container, so that the kernel sends `SIGHUP` to the programs
    /// there, as to those of the lost terminal.
    HangUp,
    /// Its input ends and its output is discarded, but the program runs on, since this process
    /// ignores `SIGHUP`: nohup(1).
    Nothing,
}

/// The events that a relay waits for, by descriptor.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) master: PollFlags,
    pub(super) stdin: PollFlags,
    pub(super) stdout: PollFlags,
}

impl Wanted {
    pub(super) const NOTHING: Self =
        Self { master: PollFlags::empty(), stdin: PollFlags::empty(), stdout: PollFlags::empty() };
}

impl Relay {
    /// Starts to relay the terminal with this master.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] if the master cannot be made non-blocking.
    pub(super) fn new(master: OwnedFd, on_loss: Loss) -> Result<Self> {
        // The init shared this open file, but no longer uses it.
        rustix::io::ioctl_fionbio(&master, true)
            .map_err(|errno| Error::system("fionbio", "console", errno))?;
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let reopened_stdout = isatty(stdout())
            .then(|| openat(CWD, c"/proc/self/fd/1", flags, Mode::empty()).ok())
            .flatten();
        Ok(Self {
            master: Some(master),
            input: Buffer::new(),
            input_open: true,
            output: Buffer::new(),
            on_loss,
            reopened_stdout,
            deserted: false,
            remainder: None,
            failed: None,
        })
    }

    pub(super) fn master(&self) -> Option<BorrowedFd<'_>> {
        self.master.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.reopened_stdout.as_ref().map_or(stdout(), AsFd::as_fd)
    }

    /// Returns whether the terminal must be checked at intervals. While no process has it open,
    /// poll(2) returns at once, but a process may still open it again.
    pub(super) fn is_deserted(&self) -> bool {
        self.deserted && self.master.is_some()
    }

    /// Sets the size of the terminal.
    pub(super) fn resize(&self, size: TerminalSize) {
        if let Some(master) = &self.master {
            let size =
                Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            // It fails only if the terminal is gone.
            let _ = tcsetwinsize(master, size);
        }
    }

    /// Handles the loss of the caller's terminal.
    pub(super) fn lose_terminal(&mut self) {
        if self.on_loss == Loss::HangUp {
            self.output = Buffer::new();
            self.master = None;
        }
    }

    /// Stops reading standard input, since the program has exited. Its output is still relayed.
    pub(super) fn finish_output(&mut self) {
        self.input_open = false;
        self.input = Buffer::new();
        self.remainder = Some(REMAINDER);
        self.deserted = false;
    }

    /// Returns whether all output has been relayed.
    pub(super) fn is_done(&self) -> bool {
        self.output.is_empty()
            && (self.master.is_none()
                || self.deserted
                || self.remainder.is_some_and(|remainder| remainder == 0))
    }

    /// Returns why standard output could not be written to. A reader that has closed it is no
    /// error.
    pub(super) fn failure(&self) -> Option<Error> {
        let errno = self.failed.filter(|errno| *errno != Errno::PIPE)?;
        Some(Error::system("write", "stdout", errno))
    }

    /// Returns the events to wait for.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::NOTHING;
        if self.master.is_none() {
            return wanted;
        }
        if !self.input.is_empty() {
            wanted.master |= PollFlags::OUT;
        } else if self.input_open {
            wanted.stdin |= PollFlags::IN;
        }
        if self.output.is_empty() {
            wanted.master |= PollFlags::IN;
        } else {
            wanted.stdout |= PollFlags::OUT;
        }
        wanted
    }

    /// Copies all that can be copied without blocking. After [`Relay::finish_output`], either
    /// something remains to be written or nothing remains to be read.
    pub(super) fn transfer(&mut self, ready: &Wanted) {
        if !ready.stdin.is_empty() {
            self.read_input();
        }
        if !self.input.is_empty() {
            self.write_input();
        }
        if !ready.stdout.is_empty() {
            self.write_output();
        }
        if self.output.is_empty() {
            self.read_output();
        }
    }

    fn read_input(&mut self) {
        match self.input.fill(stdin()) {
            Ok(1..) | Err(Errno::AGAIN) => {}
            Ok(0) | Err(_) => {
                self.input_open = false;
                self.type_end_of_file();
            }
        }
    }

    /// Types the end-of-file key, since a terminal has no write end that could be closed.
    fn type_end_of_file(&mut self) {
        let key = self
            .master()
            .and_then(|master| tcgetattr(master).ok())
            .map_or(4, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
        self.input.bytes[0] = key;
        (self.input.start, self.input.end) = (0, 1);
    }

    fn write_input(&mut self) {
        let Some(master) = &self.master else { return };
        match self.input.drain(master.as_fd()) {
            Ok(()) | Err(Errno::AGAIN) => {}
            // EIO: no process has it open. The input is kept for the next one that opens it.
            Err(_) => self.deserted = true,
        }
    }

    fn read_output(&mut self) {
        let Some(master) = &self.master else { return };
        if self.remainder == Some(0) {
            return;
        }
        match self.output.fill(master.as_fd()) {
            Ok(count @ 1..) => {
                self.deserted = false;
                self.remainder = self.remainder.map(|remainder| remainder.saturating_sub(count));
            }
            // While the program runs, more may come. After its exit, nothing will.
            Err(Errno::AGAIN) => self.deserted = self.remainder.is_some(),
            // EIO: no process has the terminal open.
            Ok(0) | Err(_) => self.deserted = true,
        }
    }

    fn write_output(&mut self) {
        let to = self.reopened_stdout.as_ref().map_or(stdout(), AsFd::as_fd);
        match self.output.drain(to) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(Errno::IO) if self.reopened_stdout.is_some() => {
                self.output = Buffer::new();
                self.lose_terminal();
            }
            Err(errno) => {
                // Hang up the terminal of the container, as if a user's terminal were lost.
                self.failed = Some(errno);
                self.output = Buffer::new();
                self.master = None;
            }
        }
    }
}
