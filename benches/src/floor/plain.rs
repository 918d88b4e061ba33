//! The floor of a process in a container that does all for it: vfork and exec on the host.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::{child, clone, ended};
use crate::payload::{self, Output};
use crate::place::Place;
use crate::{Result, Sample, Starter, clock};

/// The payload as a program of the host.
#[derive(Debug)]
pub struct Plain {
    program: CString,
    output: Output,
}

impl Plain {
    /// Finds the program.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new(place: &Place) -> Result<Self> {
        let program = place.rootfs().join(payload::PATH.trim_start_matches('/'));
        let program = CString::new(program.as_os_str().as_bytes())?;
        Ok(Self { program, output: Output::new()? })
    }
}

impl Starter for Plain {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        let output = self.output.writer().as_raw_fd();
        let child = clone::spawn(0, None, &|| child::plain(&self.program, output))?;
        let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED)?;
        let end = clock::now();
        ended(status)?;
        let first = self.output.stamp()?;
        Ok(Sample { first: first.saturating_sub(begin), whole: end - begin })
    }
}
