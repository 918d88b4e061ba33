//! Statistics from the files of cgroup v1.

use pidone_config::Result;

use super::super::Cgroups;
use super::super::directory::Directory;
use super::text::{blkio, keyed, number, read_number};
use super::{BlkioEntry, HugetlbStats, MemoryData, Stats, cpuset, numa, rdma};

/// The unit of `cpuacct.stat`: `USER_HZ` is 100 on every architecture.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

type Reader = fn(&Directory, &mut Stats) -> Result<()>;

pub(super) fn read(cgroups: &Cgroups, stats: &mut Stats) -> Result<()> {
    let readers: [(&str, Reader); 9] = [
        ("cpu", cpu),
        ("cpuacct", cpuacct),
        ("cpuset", cpuset::read),
        ("memory", memory),
        ("blkio", blkio_stats),
        ("pids", pids),
        ("hugetlb", hugetlb),
        ("rdma", rdma::rdma),
        ("misc", rdma::misc),
    ];
    for (controller, reader) in readers {
        if let Some(directory) = cgroups.controller(controller)? {
            reader(&directory, stats)?;
        }
    }
    Ok(())
}

fn cpu(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let text = directory.read("cpu.stat")?.unwrap_or_default();
    let cpu = &mut stats.cpu_stats;
    for (key, value) in keyed(&text) {
        match key {
            "nr_periods" => cpu.throttling_data.periods = value,
            "nr_throttled" => cpu.throttling_data.throttled_periods = value,
            "throttled_time" => cpu.throttling_data.throttled_time = value,
            "nr_bursts" => cpu.burst_data.bursts_periods = value,
            "burst_time" => cpu.burst_data.burst_time = value,
            _ => {}
        }
    }
    Ok(())
}

fn cpuacct(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let usage = &mut stats.cpu_stats.cpu_usage;
    usage.total_usage = read_number(directory, "cpuacct.usage")?;
    for (key, ticks) in keyed(&directory.read("cpuacct.stat")?.unwrap_or_default()) {
        let time = ticks.saturating_mul(NANOSECONDS_PER_TICK);
        match key {
            "user" => usage.usage_in_usermode = time,
            "system" => usage.usage_in_kernelmode = time,
            _ => {}
        }
    }
    for (file, list) in [
        ("cpuacct.usage_percpu", &mut usage.percpu_usage),
        ("cpuacct.usage_percpu_sys", &mut usage.percpu_usage_in_kernelmode),
        ("cpuacct.usage_percpu_user", &mut usage.percpu_usage_in_usermode),
    ] {
        let text = directory.read(file)?.unwrap_or_default();
        *list = text.split_ascii_whitespace().filter_map(number).collect();
    }
    Ok(())
}

fn memory(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let memory = &mut stats.memory_stats;
    let text = directory.read("memory.stat")?.unwrap_or_default();
    memory.stats = keyed(&text).map(|(key, value)| (key.to_owned(), value)).collect();
    memory.cache = memory.stats.get("cache").copied().unwrap_or(0);
    memory.usage = data(directory, "memory")?;
    memory.swap_usage = data(directory, "memory.memsw")?;
    memory.kernel_usage = data(directory, "memory.kmem")?;
    memory.kernel_tcp_usage = data(directory, "memory.kmem.tcp")?;
    let pages = directory.read("memory.numa_stat")?;
    memory.page_usage_by_numa = pages.as_deref().map(numa::parse).unwrap_or_default();
    memory.use_hierarchy = read_number(directory, "memory.use_hierarchy")? == 1;
    Ok(())
}

fn data(directory: &Directory, name: &str) -> Result<MemoryData> {
    Ok(MemoryData {
        usage: read_number(directory, &format!("{name}.usage_in_bytes"))?,
        max_usage: read_number(directory, &format!("{name}.max_usage_in_bytes"))?,
        failcnt: read_number(directory, &format!("{name}.failcnt"))?,
        limit: read_number(directory, &format!("{name}.limit_in_bytes"))?,
    })
}

fn blkio_stats(directory: &Directory, stats: &mut Stats) -> Result<()> {
    // Only the scheduler in use has entries: BFQ, or CFQ before Linux 5.0. Otherwise the throttling
    // layer, which sees the requests of every scheduler, counts at least these two.
    let first = |files: &[&str]| -> Result<Vec<BlkioEntry>> {
        for file in files {
            let entries = blkio(&directory.read(file)?.unwrap_or_default());
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    let block = &mut stats.blkio_stats;
    block.io_service_bytes_recursive = first(&[
        "blkio.bfq.io_service_bytes_recursive",
        "blkio.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes",
    ])?;
    block.io_serviced_recursive = first(&[
        "blkio.bfq.io_serviced_recursive",
        "blkio.io_serviced_recursive",
        "blkio.throttle.io_serviced_recursive",
        "blkio.throttle.io_serviced",
    ])?;
    for (name, list) in [
        ("io_queued_recursive", &mut block.io_queue_recursive),
        ("io_service_time_recursive", &mut block.io_service_time_recursive),
        ("io_wait_time_recursive", &mut block.io_wait_time_recursive),
        ("io_merged_recursive", &mut block.io_merged_recursive),
        ("time_recursive", &mut block.io_time_recursive),
        ("sectors_recursive", &mut block.sectors_recursive),
    ] {
        *list = first(&[&format!("blkio.bfq.{name}"), &format!("blkio.{name}")])?;
    }
    Ok(())
}

fn pids(directory: &Directory, stats: &mut Stats) -> Result<()> {
    stats.pids_stats.current = read_number(directory, "pids.current")?;
    let limit = read_number(directory, "pids.max")?;
    stats.pids_stats.limit = if limit == u64::MAX { 0 } else { limit };
    Ok(())
}

fn hugetlb(directory: &Directory, stats: &mut Stats) -> Result<()> {
    for file in directory.files()? {
        let name = file.to_str().and_then(|name| name.strip_prefix("hugetlb."));
        let size = name.and_then(|name| name.strip_suffix(".usage_in_bytes"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let read = |what: &str| read_number(directory, &format!("hugetlb.{size}.{what}"));
        let pages = HugetlbStats {
            usage: read("usage_in_bytes")?,
            max_usage: read("max_usage_in_bytes")?,
            failcnt: read("failcnt")?,
        };
        stats.hugetlb_stats.insert(size.to_owned(), pages);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::Mode;
    use super::super::BlkioEntry;
    use super::*;

    fn stats(files: &[(&str, &str)]) -> Stats {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        let controllers = ["cpu", "cpuacct", "memory", "blkio", "pids", "hugetlb"];
        let paths: BTreeMap<_, _> =
            controllers.map(|name| (name.to_owned(), root.path().to_owned())).into();
        Cgroups { mode: Mode::V1, paths, ..Cgroups::default() }.stats().unwrap()
    }

    #[test]
    fn cpu_time_is_read_in_nanoseconds() {
        let found = stats(&[
            ("cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 777\nnr_bursts 1\n"),
            ("cpuacct.usage", "123456789\n"),
            ("cpuacct.usage_percpu", "100 23 \n"),
            ("cpuacct.usage_percpu_sys", "1 2\n"),
            ("cpuacct.stat", "user 3\nsystem 4\n"),
        ])
        .cpu_stats;
        assert_eq!(found.throttling_data.periods, 5);
        assert_eq!(found.throttling_data.throttled_periods, 2);
        assert_eq!(found.throttling_data.throttled_time, 777);
        assert_eq!(found.burst_data.bursts_periods, 1);
        assert_eq!(found.cpu_usage.total_usage, 123_456_789);
        assert_eq!(found.cpu_usage.percpu_usage, [100, 23]);
        assert_eq!(found.cpu_usage.percpu_usage_in_kernelmode, [1, 2]);
        assert_eq!(found.cpu_usage.usage_in_usermode, 30_000_000);
        assert_eq!(found.cpu_usage.usage_in_kernelmode, 40_000_000);
    }

    #[test]
    fn memory_is_read() {
        let found = stats(&[
            ("memory.stat", "cache 512\nrss 1024\ntotal_cache 600\n"),
            ("memory.usage_in_bytes", "2048\n"),
            ("memory.max_usage_in_bytes", "4096\n"),
            ("memory.failcnt", "100\n"),
            ("memory.limit_in_bytes", "8192\n"),
            ("memory.memsw.usage_in_bytes", "-5\n"),
            ("memory.kmem.failcnt", "9\n"),
            ("memory.numa_stat", "total=4 N0=4\n"),
            ("memory.use_hierarchy", "1\n"),
        ])
        .memory_stats;
        assert_eq!(found.cache, 512);
        assert_eq!(found.stats["total_cache"], 600);
        let usage = MemoryData { usage: 2048, max_usage: 4096, failcnt: 100, limit: 8192 };
        assert_eq!(found.usage, usage);
        assert_eq!((found.max_usage, found.failcnt), (4096, 100));
        assert_eq!(found.swap_usage, MemoryData::default());
        assert_eq!(found.kernel_usage.failcnt, 9);
        assert_eq!(found.page_usage_by_numa.total.nodes[&0], 4);
        assert!(found.use_hierarchy);
    }

    #[test]
    fn block_devices_are_read_from_the_scheduler_in_use() {
        let entry = |op: &str, value| BlkioEntry { major: 8, minor: 0, op: op.into(), value };
        let found = stats(&[
            ("blkio.bfq.io_service_bytes_recursive", "Total 0\n"),
            ("blkio.throttle.io_service_bytes", "8:0 Read 10\nTotal 10\n"),
            ("blkio.bfq.io_serviced_recursive", "8:0 Read 2\n"),
            ("blkio.throttle.io_serviced", "8:0 Read 3\n"),
            ("blkio.sectors_recursive", "8:0 1024\n"),
        ])
        .blkio_stats;
        assert_eq!(found.io_service_bytes_recursive, [entry("Read", 10)]);
        assert_eq!(found.io_serviced_recursive, [entry("Read", 2)]);
        assert_eq!(found.sectors_recursive, [entry("", 1024)]);
        assert!(found.io_queue_recursive.is_empty());
    }

    #[test]
    fn processes_and_huge_pages_are_read() {
        let found = stats(&[
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("hugetlb.2MB.usage_in_bytes", "10\n"),
            ("hugetlb.2MB.max_usage_in_bytes", "20\n"),
            ("hugetlb.2MB.failcnt", "1\n"),
            ("hugetlb.2MB.rsvd.usage_in_bytes", "7\n"),
        ]);
        assert_eq!((found.pids_stats.current, found.pids_stats.limit), (3, 0));
        let pages = HugetlbStats { usage: 10, max_usage: 20, failcnt: 1 };
        assert_eq!(found.hugetlb_stats, BTreeMap::from([("2MB".to_owned(), pages)]));
    }

    #[test]
    fn missing_files_leave_the_default() {
        assert_eq!(stats(&[]), Stats::default());
    }
}
