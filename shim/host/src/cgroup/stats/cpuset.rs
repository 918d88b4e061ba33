//! The CPUs and memory nodes that a container may use. cgroup v1 only.

use pidone_config::Result;
use pidone_config::config::process::numbers;
use serde::Serialize;

use super::super::directory::Directory;
use super::Stats;
use super::text::read_number;

/// The state of the controller cpuset: `cpuset(7)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpusetStats {
    /// The CPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    /// 1 if no sibling cgroup may use the CPUs.
    pub cpu_exclusive: u64,
    /// The memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u32>,
    /// 1 if memory of the kernel comes from these nodes too.
    pub mem_hardwall: u64,
    /// 1 if no sibling cgroup may use the memory nodes.
    pub mem_exclusive: u64,
    /// 1 if pages are moved when the nodes change.
    pub memory_migrate: u64,
    /// 1 if the page cache is spread over the nodes.
    pub memory_spread_page: u64,
    /// 1 if slabs are spread over the nodes.
    pub memory_spread_slab: u64,
    /// The rate at which processes reclaim memory, per second times 1000.
    pub memory_pressure: u64,
    /// 1 if the scheduler balances load among the CPUs.
    pub sched_load_balance: u64,
    /// How far the scheduler searches for idle CPUs, -1 for the default of the system.
    pub sched_relax_domain_level: i64,
}

pub(super) fn read(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let list = |file| -> Result<Vec<u32>> {
        let text = directory.read(file)?.unwrap_or_default();
        Ok(numbers(file, &text).unwrap_or_default())
    };
    let flag = |file| read_number(directory, file);
    let level = directory.read("cpuset.sched_relax_domain_level")?;
    stats.cpuset_stats = CpusetStats {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: flag("cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: flag("cpuset.mem_hardwall")?,
        mem_exclusive: flag("cpuset.mem_exclusive")?,
        memory_migrate: flag("cpuset.memory_migrate")?,
        memory_spread_page: flag("cpuset.memory_spread_page")?,
        memory_spread_slab: flag("cpuset.memory_spread_slab")?,
        memory_pressure: flag("cpuset.memory_pressure")?,
        sched_load_balance: flag("cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_flags_are_read() {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cpuset.cpus", "0-2,7\n"),
            ("cpuset.mems", "\n"),
            ("cpuset.sched_load_balance", "1\n"),
            ("cpuset.sched_relax_domain_level", "-1\n"),
        ] {
            std::fs::write(root.path().join(file), text).unwrap();
        }
        let mut stats = Stats::default();
        read(&Directory::existing(root.path()).unwrap(), &mut stats).unwrap();
        let expected = CpusetStats {
            cpus: vec![0, 1, 2, 7],
            sched_load_balance: 1,
            sched_relax_domain_level: -1,
            ..CpusetStats::default()
        };
        assert_eq!(stats.cpuset_stats, expected);
    }
}
