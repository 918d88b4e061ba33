//! The floor of a further process: two clones, and one setns with the container's pidfd.

use std::cell::Cell;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::{Floor, child, clone, open_cgroup};
use crate::library::Held;
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// Starts further processes in a container that the library has made.
#[derive(Debug)]
pub struct Exec {
    floor: Floor,
    container: Held,
    /// The container's cgroup.
    cgroup: Option<OwnedFd>,
}

impl Exec {
    /// Starts the container, and determines what a process in it needs.
    ///
    /// # Errors
    /// If the container does not start.
    pub fn new(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let floor = Floor::new(place, scenario, worker)?;
        let name = format!("floor-exec-{scenario}-{worker}");
        let container = Held::new(place, scenario, &name)?;
        let cgroup =
            scenario.is_oci().then(|| open_cgroup(&place.cgroup().join(&name))).transpose()?;
        Ok(Self { floor, container, cgroup })
    }
}

impl Starter for Exec {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        let sibling = Cell::new(0);
        let container = self.container.pidfd().as_raw_fd();
        let directory = self.cgroup.as_ref().map(|cgroup| cgroup.as_raw_fd());
        let body = || child::join(&self.floor, container).map(|pid| sibling.set(pid));
        let child = clone::spawn(0, directory, &body)?;
        let pid = Pid::from_raw(sibling.get()).ok_or("no process was made")?;
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)?;
        waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED)?;
        let end = clock::now();
        let first = self.floor.stamp(status)?;
        Ok(Sample::from_clock(begin, first, end))
    }
}
