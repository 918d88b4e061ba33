//! The floor: exactly the system calls that a start needs, with arguments that are known
//! beforehand.
//!
//! It has no plan, no init and no state. A vfork-style child makes the container and executes the
//! payload, with the plain system calls that a handwritten program would use. Whatever can be
//! determined before the first start is.

mod child;
mod clone;
mod exec;
mod plain;
mod stamps;
mod sys;

pub use exec::Exec;
pub use plain::Plain;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use pidone::config::{capability, default};
use pidone::seccomp;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::part::Part;
use crate::payload::Output;
use crate::place::{Place, View};
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};
use stamps::Stamps;

const CLONE_NEWCGROUP: u64 = 0x200_0000;

/// The floor of one scenario.
#[derive(Debug)]
pub struct Floor {
    scenario: Scenario,
    rootfs: CString,
    cgroup: PathBuf,
    masks: Masks,
    /// The numbers of the dropped capabilities.
    dropped: Vec<u32>,
    /// The mask of the kept capabilities.
    kept: u64,
    /// The seccomp filter, eight bytes for each instruction.
    filter: Vec<u8>,
    output: Output,
    stamps: Stamps,
}

/// The masked and read-only paths that exist on this kernel, relative to the root.
#[derive(Debug, Default)]
struct Masks {
    directories: Vec<CString>,
    files: Vec<CString>,
    read_only: Vec<CString>,
}

impl Floor {
    /// Determines what a start needs. `worker` distinguishes floors that run at the same time.
    ///
    /// # Errors
    /// If `/proc` cannot be read, or the place has cgroup v1, which the floor does not support.
    pub fn new(place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        if place.view() != View::V2 {
            return Err("the floor is for cgroup2".into());
        }
        let rootfs = place.rootfs();
        let cgroup = (place.cgroup_parent(), "");
        let config = scenario.config(&rootfs, (&cgroup.0, cgroup.1));
        let kept = capability::mask(&config.capabilities)?;
        let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?.trim().parse()?;
        let filter = match &config.seccomp {
            Some(list) => seccomp::compile(&seccomp::libcontainer::profile(list)?)?.bytes(),
            None => Vec::new(),
        };
        Ok(Self {
            scenario,
            rootfs: CString::new(rootfs.as_os_str().as_bytes())?,
            cgroup: place.cgroup().join(format!("floor-{worker}")),
            masks: if scenario.is_oci() { Masks::find()? } else { Masks::default() },
            dropped: (0..=last).filter(|number| kept >> number & 1 == 0).collect(),
            kept,
            filter,
            output: Output::new()?,
            stamps: Stamps::default(),
        })
    }

    /// Starts the payload once. Returns how many nanoseconds each part took, up to the first
    /// instruction. Reading the clock costs the child a little time itself.
    ///
    /// # Errors
    /// As for [`Starter::start`].
    pub fn parts(&mut self) -> Result<BTreeMap<Part, u64>> {
        self.stamps.begin();
        let sample = self.start()?;
        Ok(self.stamps.end(sample.begin + sample.first))
    }

    /// Returns the `CLONE_NEW*` flags of the scenario.
    fn namespaces(&self) -> u64 {
        let kinds = self.scenario.namespaces();
        kinds.iter().fold(0, |flags, kind| flags | u64::from(kind.clone_flag()))
    }

    /// Checks that the payload succeeded, and returns when it began.
    fn stamp(&self, status: Option<WaitIdStatus>) -> Result<u64> {
        check_exit(status)?;
        self.output.stamp()
    }
}

/// Returns an error unless the payload exited with status 0.
fn check_exit(status: Option<WaitIdStatus>) -> Result<()> {
    match status.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        status => Err(format!("the payload ended with status {status:?}").into()),
    }
}

impl Masks {
    fn find() -> Result<Self> {
        let mut masks = Self::default();
        // The working directory is the new root at that time.
        let name = |path: &str| CString::new(path.trim_start_matches('/'));
        for path in default::mask_paths() {
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => masks.directories.push(name(&path)?),
                Ok(_) => masks.files.push(name(&path)?),
                Err(_) => {}
            }
        }
        for path in default::readonly_paths().iter().filter(|path| Path::new(path).exists()) {
            masks.read_only.push(name(path)?);
        }
        Ok(masks)
    }
}

impl Starter for Floor {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        let cgroup = if self.scenario.is_oci() { Some(make_cgroup(&self.cgroup)?) } else { None };
        self.stamps.reached(Part::Cgroup);
        // Made by the clone, the cgroup namespace would be rooted at the parent's cgroup.
        let namespaces = self.namespaces() & !CLONE_NEWCGROUP;
        let directory = cgroup.as_ref().map(AsRawFd::as_raw_fd);
        let child = clone::spawn(namespaces, directory, &|| child::start(self))?;
        drop(cgroup);
        let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED)?;
        drop(child);
        if self.scenario.is_oci() {
            rustix::fs::rmdir(&self.cgroup)?;
        }
        let end = clock::now();
        let first = self.stamp(status)?;
        Ok(Sample::from_clock(begin, first, end))
    }
}

/// Loads a seccomp filter for the calling thread, by the same calls as in the child of a start.
///
/// # Errors
/// If the kernel rejects the filter.
pub fn load_filter(program: &[u8]) -> Result<()> {
    child::filter(program).map_err(clone::error)
}

/// Creates the cgroup into which the child is cloned.
fn make_cgroup(path: &Path) -> Result<OwnedFd> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?;
    open_cgroup(path)
}

fn open_cgroup(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}
