//! The floor of a process that another starts in its own namespaces: vfork and exec on the host.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::{child, clone};
use crate::payload::{self, Output};
use crate::place::Place;
use crate::{Result, Sample, Starter, clock};

/// The payload as a program of the host.
#[derive(Debug)]
pub struct Spawn {
    path: CString,
    output: Output,
}

impl Spawn {
    /// Finds the payload.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn new(place: &Place) -> Result<Self> {
        let path = place.rootfs().join(payload::PATH.trim_start_matches('/'));
        Ok(Self { path: CString::new(path.as_os_str().as_bytes())?, output: Output::new()? })
    }
}

impl Starter for Spawn {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        let output = self.output.writer().as_raw_fd();
        let child = clone::spawn(0, None, &|| child::plain(&self.path, output))?;
        let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED)?;
        let end = clock::now();
        match status.as_ref().and_then(WaitIdStatus::exit_status) {
            Some(0) => {}
            status => return Err(format!("the payload ended with status {status:?}").into()),
        }
        let first = self.output.stamp()?;
        Ok(Sample { first: first.saturating_sub(begin), whole: end - begin })
    }
}
