//! The program that is started, and what it tells.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Result;

/// The payload, an ELF file.
pub const IMAGE: &[u8] = include_bytes!(env!("PIDONE_PAYLOAD_IMAGE"));

/// Where it is in the root file system.
pub const PATH: &str = "/payload";

/// The argument with which it waits until it is killed.
pub const WAIT: &str = "wait";

/// What the payload writes into.
#[derive(Debug)]
pub struct Output {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Output {
    /// Makes a pipe that is used for all starts.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new() -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { reader, writer })
    }

    /// The payload's standard output.
    #[must_use]
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// When the payload began, which has ended by now: [`crate::clock::now`].
    ///
    /// # Errors
    /// It wrote nothing, or something else.
    pub fn stamp(&self) -> Result<u64> {
        let mut stamp = [0; 8];
        match rustix::io::read(&self.reader, &mut stamp) {
            Ok(8) => Ok(u64::from_ne_bytes(stamp)),
            Ok(length) => Err(format!("the payload wrote {length} bytes instead of 8").into()),
            Err(Errno::AGAIN) => Err("the payload did not tell when it began".into()),
            Err(errno) => Err(format!("read from the payload: {errno}").into()),
        }
    }
}
