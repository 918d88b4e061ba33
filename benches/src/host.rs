//! The machine on which figures were measured.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::peer::Peer;

/// The description of a machine that accompanies the figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub machine: String,
    /// The model of the processor, from `/proc/cpuinfo`.
    pub processor: String,
    /// How many processors this process may use.
    pub processors: usize,
    /// Whether the processor has the flag `hypervisor`.
    pub virtual_machine: bool,
    /// How cgroups are mounted on the host; the benches see only one version.
    pub cgroups: String,
    /// The number of mounts on the host.
    pub mounts: usize,
    /// The load average of one minute, before the run.
    pub load: String,
    /// The versions of the other programs.
    pub peers: Vec<String>,
}

impl Host {
    /// Describes the machine. Call it before [`crate::place::Place::enter`] changes the mounts.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn read() -> crate::Result<Self> {
        let system = rustix::system::uname();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            kernel: system.release().to_string_lossy().into_owned(),
            machine: system.machine().to_string_lossy().into_owned(),
            processor: field("model name").to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            virtual_machine: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            cgroups: cgroups()?,
            mounts: crate::place::mounts()?,
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            peers: Peer::ALL.into_iter().filter_map(Peer::version).collect(),
        })
    }
}

/// Returns `v1`, `v2`, `hybrid` or `none`.
fn cgroups() -> crate::Result<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let has = |kind: &str| mounts.lines().any(|line| line.contains(kind));
    Ok(match (has(" - cgroup "), has(" - cgroup2 ")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
    .to_owned())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, machine, processor, processors, cgroups, mounts, load, .. } = self;
        let place = if self.virtual_machine { "virtual machine" } else { "bare metal" };
        write!(
            f,
            "Linux {kernel} {machine}, {place}, {processors} x {processor}; \
             host cgroups {cgroups}, {mounts} mounts, load {load}"
        )
    }
}
