//! The machine that figures were measured on.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::peer::Peer;

/// What stands beside the figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub machine: String,
    /// The model of the processor, as the kernel tells it.
    pub processor: String,
    /// How many processors this process may use.
    pub processors: usize,
    /// Whether the processor says that it is virtual.
    pub virtual_machine: bool,
    /// How control groups are mounted on the host; the benches see one version alone.
    pub cgroups: String,
    /// How many mounts there are on the host.
    pub mounts: usize,
    /// The load of the last minute, before the run.
    pub load: String,
    /// What the programs say of their version.
    pub peers: Vec<String>,
}

impl Host {
    /// Looks at the machine, before [`crate::place::Place::enter`] changes what is seen of it.
    ///
    /// # Errors
    /// There is no `/proc`.
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

/// `v1`, `v2` or `hybrid`.
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
