//! The program that is started, and the time that it reports.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::Result;

/// The payload, an ELF file.
pub const IMAGE: &[u8] = include_bytes!(env!("PIDONE_PAYLOAD_IMAGE"));

/// The path of the payload in the root file system.
pub const PATH: &str = "/payload";

/// The argument with which the payload waits until it is killed.
pub const WAIT: &str = "wait";

/// The pipe into which the payload writes.
#[derive(Debug)]
pub struct Output {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Output {
    /// Makes a pipe that can be used for any number of starts.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn new() -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { reader, writer })
    }

    /// Returns the payload's standard output.
    #[must_use]
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Reads when the payload began, by [`crate::clock::now`]. The payload must have ended.
    ///
    /// # Errors
    /// If it wrote nothing, or something else.
    pub fn stamp(&self) -> Result<u64> {
        let mut stamp = [0; 8];
        match rustix::io::read(&self.reader, &mut stamp) {
            Ok(8) => Ok(u64::from_ne_bytes(stamp)),
            Ok(length) => Err(format!("the payload wrote {length} bytes instead of 8").into()),
            Err(Errno::AGAIN) => Err("the payload did not report when it began".into()),
            Err(errno) => Err(format!("read from the payload: {errno}").into()),
        }
    }
}
