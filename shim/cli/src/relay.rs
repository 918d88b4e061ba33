//! Bytes between the caller's stdio and the terminal of a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Error, Result, TerminalSize};
use rustix::event::PollFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{SpecialCodeIndex, Winsize, isatty, tcgetattr, tcsetwinsize};

/// How much is passed on at once. No more than `PIPE_BUF`: as much as a pipe takes at once when
/// poll(2) says that it takes some, so that a slow reader never holds this process up.
const CHUNK: usize = 4096;

/// After the program's end its terminal is read up to this many bytes: more than the kernel keeps,
/// so that nothing which was written before is lost, and what a survivor writes has an end.
const REST: usize = 256 * 1024;

/// Bytes on their way in one direction.
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

    /// Fills the empty buffer; answers how much there was.
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
    /// The master; `None` once the terminal was hung up.
    master: Option<OwnedFd>,
    input: Buffer,
    /// Whether more may come from standard input.
    input_open: bool,
    output: Buffer,
    /// The caller's terminal as another open file, which may be non-blocking without anybody else
    /// noticing.
    own_output: Option<OwnedFd>,
    /// Nobody has the terminal open.
    deserted: bool,
    /// What may be read after the program's end; `None` while it runs.
    rest: Option<usize>,
    /// Why standard output takes no more.
    failed: Option<Errno>,
}

/// What a relay waits for.
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
    /// Starts with the master of a terminal.
    pub(super) fn new(master: OwnedFd) -> Result<Self> {
        // The init, which had it open too, is gone.
        rustix::io::ioctl_fionbio(&master, true)
            .map_err(|errno| Error::system("fionbio", "console", errno))?;
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let own_output = isatty(stdout())
            .then(|| openat(CWD, c"/proc/self/fd/1", flags, Mode::empty()).ok())
            .flatten();
        Ok(Self {
            master: Some(master),
            input: Buffer::new(),
            input_open: true,
            output: Buffer::new(),
            own_output,
            deserted: false,
            rest: None,
            failed: None,
        })
    }

    pub(super) fn master(&self) -> Option<BorrowedFd<'_>> {
        self.master.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.own_output.as_ref().map_or(stdout(), AsFd::as_fd)
    }

    /// Whether the terminal is to be looked at again soon: while nobody has it open, poll(2)
    /// answers at once for ever; and yet a program may close it and open it again.
    pub(super) fn is_deserted(&self) -> bool {
        self.deserted && self.master.is_some()
    }

    /// Sets the size of the terminal.
    pub(super) fn resize(&self, size: TerminalSize) {
        if let Some(master) = &self.master {
            let size =
                Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            // It can only fail for a terminal that is gone.
            let _ = tcsetwinsize(master, size);
        }
    }

    /// The program has ended: only what it wrote is still passed on.
    pub(super) fn end(&mut self) {
        self.input_open = false;
        self.input = Buffer::new();
        self.rest = Some(REST);
        self.deserted = false;
    }

    /// Whether everything that was written has been passed on.
    pub(super) fn is_done(&self) -> bool {
        self.output.is_empty()
            && (self.master.is_none() || self.deserted || self.rest.is_some_and(|rest| rest == 0))
    }

    /// Why standard output took no more, if it did not for another reason than that nobody reads.
    pub(super) fn failure(&self) -> Option<Error> {
        let errno = self.failed.filter(|errno| *errno != Errno::PIPE)?;
        Some(Error::system("write", "stdout", errno))
    }

    /// What to wait for.
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

    /// Passes on what can be without waiting. After the end either something is left to write, or
    /// nothing is left to read.
    pub(super) fn pass(&mut self, ready: &Wanted) {
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

    /// A terminal has no end that could be closed: its end-of-file is a key.
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
            // EIO: kept for the next who opens it.
            Err(_) => self.deserted = true,
        }
    }

    fn read_output(&mut self) {
        let Some(master) = &self.master else { return };
        if self.rest == Some(0) {
            return;
        }
        match self.output.fill(master.as_fd()) {
            Ok(count @ 1..) => {
                self.deserted = false;
                self.rest = self.rest.map(|rest| rest.saturating_sub(count));
            }
            // While it runs there is nothing for now; behind its end there will be no more.
            Err(Errno::AGAIN) => self.deserted = self.rest.is_some(),
            // EIO: all who had the terminal open are gone.
            Ok(0) | Err(_) => self.deserted = true,
        }
    }

    fn write_output(&mut self) {
        let to = self.own_output.as_ref().map_or(stdout(), AsFd::as_fd);
        match self.output.drain(to) {
            Ok(()) | Err(Errno::AGAIN) => {}
            Err(errno) => {
                // As when a person's terminal is lost: the container's is hung up.
                self.failed = Some(errno);
                self.output = Buffer::new();
                self.master = None;
            }
        }
    }
}
