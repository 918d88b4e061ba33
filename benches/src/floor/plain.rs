//! The floor of a process whose container already exists: vfork and exec on the host.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::stamps::Stamps;
use super::{check_exit, child, clone};
use crate::part::Part;
use crate::payload::{self, Output};
use crate::place::Place;
use crate::{Result, Sample, Starter, clock};

/// Starts the payload as a program of the host.
#[derive(Debug)]
pub struct Plain {
    program: CString,
    output: Output,
    stamps: Stamps,
}

impl Plain {
    /// Prepares starts of the program in the root file system of `place`.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn new(place: &Place) -> Result<Self> {
        let program = place.rootfs().join(payload::PATH.trim_start_matches('/'));
        let program = CString::new(program.as_os_str().as_bytes())?;
        Ok(Self { program, output: Output::new()?, stamps: Stamps::default() })
    }

    /// Starts the payload once. Returns how many nanoseconds each part took, up to the first
    /// instruction.
    ///
    /// # Errors
    /// As for [`Starter::start`].
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
        check_exit(status)?;
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}
