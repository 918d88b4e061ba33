//! Statistics of what a container has used.
//!
//! The names in JSON are libcontainer's. Values that a host or kernel does not count are 0 or
//! empty.

mod cpuset;
mod numa;
mod rdma;
mod text;
mod v1;
mod v2;

use std::collections::BTreeMap;

use pidone_config::Result;
use serde::Serialize;

use super::directory::Directory;
use super::{Cgroups, Mode};

pub use cpuset::CpusetStats;
pub use numa::{PageUsage, PageUsageByNuma, Pages};
pub use rdma::{MiscStats, RdmaEntry, RdmaStats};

/// The statistics of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Use of CPUs.
    pub cpu_stats: CpuStats,
    /// The CPUs and memory nodes.
    pub cpuset_stats: CpusetStats,
    /// Use of memory.
    pub memory_stats: MemoryStats,
    /// The number of processes.
    pub pids_stats: PidsStats,
    /// Use of block devices.
    pub blkio_stats: BlkioStats,
    /// Use of huge pages by size, such as `2MB`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hugetlb_stats: BTreeMap<String, HugetlbStats>,
    /// Use of RDMA devices.
    pub rdma_stats: RdmaStats,
    /// The resources of the controller misc by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub misc_stats: BTreeMap<String, MiscStats>,
}

/// Use of CPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// CPU time.
    pub cpu_usage: CpuUsage,
    /// Waits for the next period because of the quota.
    pub throttling_data: ThrottlingData,
    /// CPU time beyond the quota, from unused time of earlier periods.
    pub burst_data: BurstData,
    /// The time in which processes waited for a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// On all CPUs.
    pub total_usage: u64,
    /// On each CPU. cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage: Vec<u64>,
    /// On each CPU in the kernel. cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage_in_kernelmode: Vec<u64>,
    /// On each CPU in user mode. cgroup v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage_in_usermode: Vec<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// In user mode.
    pub usage_in_usermode: u64,
}

/// The effect of the quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ThrottlingData {
    /// Periods that have passed.
    pub periods: u64,
    /// Periods in which the quota was exhausted.
    pub throttled_periods: u64,
    /// The time spent waiting for the next period, in nanoseconds.
    pub throttled_time: u64,
}

/// The effect of a burst allowance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BurstData {
    /// Periods with a burst.
    pub bursts_periods: u64,
    /// The CPU time beyond the quota, in nanoseconds.
    pub burst_time: u64,
}

/// Use of memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// The size of the page cache, in bytes.
    pub cache: u64,
    /// Memory.
    pub usage: MemoryData,
    /// The value of `usage.max_usage`, at its place in libcontainer 2.0.
    pub max_usage: u64,
    /// The value of `usage.failcnt`, at its place in libcontainer 2.0.
    pub failcnt: u64,
    /// Memory and swap together. On cgroup v2 their sum, without a maximum.
    pub swap_usage: MemoryData,
    /// Swap alone. cgroup v2 only.
    pub swap_only_usage: MemoryData,
    /// Kernel memory.
    pub kernel_usage: MemoryData,
    /// Kernel memory of TCP buffers. cgroup v1 only.
    pub kernel_tcp_usage: MemoryData,
    /// Pages by memory node. cgroup v1 only.
    pub page_usage_by_numa: PageUsageByNuma,
    /// Whether the memory of sub-cgroups counts.
    pub use_hierarchy: bool,
    /// All values of `memory.stat`, by the kernel's names.
    pub stats: BTreeMap<String, u64>,
    /// The time in which processes waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Use of one kind of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryData {
    /// The current use.
    pub usage: u64,
    /// The largest use.
    pub max_usage: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
    /// The limit. `u64::MAX`, or on cgroup v1 a number near `i64::MAX`, stands for no limit.
    pub limit: u64,
}

/// The number of processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// The current number.
    pub current: u64,
    /// The limit, 0 for none.
    pub limit: u64,
}

/// Use of block devices. The lists are those of cgroup v1, most of which are empty without CFQ.
/// On cgroup v2 only the first two are filled.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlkioStats {
    /// Bytes transferred.
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests completed.
    pub io_serviced_recursive: Vec<BlkioEntry>,
    /// Requests queued.
    pub io_queue_recursive: Vec<BlkioEntry>,
    /// The time between dispatch and completion, in nanoseconds.
    pub io_service_time_recursive: Vec<BlkioEntry>,
    /// The time in queues, in nanoseconds.
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    /// Requests merged with others.
    pub io_merged_recursive: Vec<BlkioEntry>,
    /// The time of the device, in milliseconds.
    pub io_time_recursive: Vec<BlkioEntry>,
    /// Sectors transferred.
    pub sectors_recursive: Vec<BlkioEntry>,
    /// The time in which processes waited for block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// A counter of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// The major device number.
    pub major: u64,
    /// The minor device number.
    pub minor: u64,
    /// The operation: `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`, or empty.
    pub op: String,
    /// The value of the counter.
    pub value: u64,
}

/// Use of huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStats {
    /// The current use.
    pub usage: u64,
    /// The largest use. cgroup v1 only.
    pub max_usage: u64,
    /// How often the limit was reached.
    pub failcnt: u64,
}

/// Pressure stall information: the kernel's `accounting/psi`. Needs cgroup v2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Psi {
    /// The time in which at least one process waited.
    pub some: Pressure,
    /// The time in which all processes waited at once.
    pub full: Pressure,
}

/// A waiting time, as shares in percent and in total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// The share of the last 10 seconds.
    pub avg10: f64,
    /// The share of the last 60 seconds.
    pub avg60: f64,
    /// The share of the last 300 seconds.
    pub avg300: f64,
    /// The total time, in microseconds.
    pub total: u64,
}

impl Cgroups {
    /// Reads the statistics. Values that are not counted, or of a removed cgroup, are 0 or empty.
    ///
    /// # Errors
    /// A file that exists cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        if self.mode != Mode::V2 {
            v1::read(self, &mut stats)?;
        }
        if let Some(path) = self.v2()
            && let Some(directory) = Directory::open(path)?
        {
            if self.mode == Mode::V2 {
                v2::read(&directory, &mut stats)?;
            }
            v2::read_pressure(&directory, &mut stats)?;
        }
        stats.memory_stats.max_usage = stats.memory_stats.usage.max_usage;
        stats.memory_stats.failcnt = stats.memory_stats.usage.failcnt;
        Ok(stats)
    }

    /// Whether the kernel has killed a process of the container because of its memory limit, which
    /// may explain an end by `SIGKILL`. False if it is not known.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        self.oom_kills() > 0
    }

    /// Returns how many processes of the container the kernel has killed because of its memory
    /// limit, or for lack of memory on the host. 0 if it is not known.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let file = if self.mode == Mode::V2 { "memory.events" } else { "memory.oom_control" };
        let text = self.controller("memory").ok().flatten().map(|memory| memory.read(file));
        let Some(Ok(Some(text))) = text else { return 0 };
        text::keyed(&text).find(|(key, _)| *key == "oom_kill").map_or(0, |(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn json_has_the_names_of_libcontainer() {
        let mut stats = Stats::default();
        stats.hugetlb_stats.insert("2MB".into(), HugetlbStats::default());
        stats.memory_stats.psi = Some(Psi::default());
        let entry = BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 1 };
        stats.blkio_stats.io_serviced_recursive.push(entry);
        let json = serde_json::to_value(&stats).unwrap();
        for pointer in [
            "/cpu_stats/cpu_usage/total_usage",
            "/cpu_stats/cpu_usage/usage_in_kernelmode",
            "/cpu_stats/cpu_usage/usage_in_usermode",
            "/cpu_stats/throttling_data/periods",
            "/cpu_stats/throttling_data/throttled_periods",
            "/cpu_stats/throttling_data/throttled_time",
            "/memory_stats/usage/usage",
            "/memory_stats/usage/max_usage",
            "/memory_stats/usage/failcnt",
            "/memory_stats/usage/limit",
            "/memory_stats/max_usage",
            "/memory_stats/failcnt",
            "/memory_stats/cache",
            "/memory_stats/stats",
            "/memory_stats/swap_usage/usage",
            "/memory_stats/kernel_usage/usage",
            "/memory_stats/psi/full/avg300",
            "/memory_stats/use_hierarchy",
            "/memory_stats/page_usage_by_numa/hierarchical/total/total",
            "/cpuset_stats/sched_relax_domain_level",
            "/rdma_stats",
            "/pids_stats/current",
            "/pids_stats/limit",
            "/blkio_stats/io_service_bytes_recursive",
            "/blkio_stats/io_serviced_recursive/0/major",
            "/blkio_stats/io_queue_recursive",
            "/blkio_stats/io_service_time_recursive",
            "/blkio_stats/io_wait_time_recursive",
            "/blkio_stats/io_merged_recursive",
            "/blkio_stats/io_time_recursive",
            "/blkio_stats/sectors_recursive",
            "/hugetlb_stats/2MB/max_usage",
        ] {
            assert!(json.pointer(pointer).is_some(), "{pointer} in {json:#}");
        }
        assert!(json.pointer("/cpu_stats/psi").is_none());
    }

    #[test]
    fn an_oom_kill_is_found_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let killed = |mode, key: &str, file: &str, text: &str| {
            std::fs::write(root.path().join(file), text).unwrap();
            let paths = BTreeMap::from([(key.to_owned(), PathBuf::from(root.path()))]);
            Cgroups { mode, paths, ..Cgroups::default() }.oom_killed()
        };
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill ";
        assert!(killed(Mode::V1, "memory", "memory.oom_control", &format!("{v1}2\n")));
        assert!(!killed(Mode::Hybrid, "memory", "memory.oom_control", &format!("{v1}0\n")));
        assert!(killed(Mode::V2, "", "memory.events", "low 0\noom 3\noom_kill 1\n"));
        assert!(!killed(Mode::V2, "", "memory.events", "oom 3\noom_kill 0\noom_group_kill 9\n"));
        assert!(!Cgroups::default().oom_killed());
    }
}
