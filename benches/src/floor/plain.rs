//! The floor of a process in a container that does all for it: vfork and exec on the host.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::stamps::Stamps;
use super::{child, clone, ended};
use crate::part::Part;
use crate::payload::{self, Output};
use crate::place::Place;
use crate::{Result, Sample, Starter, clock};

/// The payload as a program of the host.
#[derive(Debug)]
pub struct Plain {
    program: CString,
    output: Output,
    stamps: Stamps,
}

impl Plain {
    /// Finds the program.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new(place: &Place) -> Result<Self> {
        let program = place.rootfs().join(payload::PATH.trim_start_matches('/'));
        let program = CString::new(program.as_os_str().as_bytes())?;
        Ok(Self { program, output: Output::new()?, stamps: Stamps::default() })
    }

    /// Starts the payload once, and tells how many nanoseconds each part took to the first
    /// instruction.
    ///
    /// # Errors
    /// As [`Starter::start`].
    pub fn parts(&mut self) -> Result<BTreeMap<Part, u64>> {
        self.stamps.begin();
        let sample = self.start()?;
        Ok(self.stamps.end(sample.begin + sample.first))
    }
}

impl Starter for Plain {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        let output = self.output.writer().as_raw_fd();
        let child = clone::spawn(0, None, &|| {
            self.stamps.reached(Part::Clone);
            child::plain(&self.program, output)
        })?;
        let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED)?;
        let end = clock::now();
        ended(status)?;
        let first = self.output.stamp()?;
        Ok(Sample::of(begin, first, end))
    }
}
