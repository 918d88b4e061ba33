//! Statistics from the files of cgroup v2, converted to the terms of cgroup v1.

use pidone_config::Result;

use super::super::directory::Directory;
use super::text::{keyed, number, psi, read_number};
use super::{BlkioEntry, BlkioStats, HugetlbStats, MemoryData, Stats, rdma};

pub(super) fn read(directory: &Directory, stats: &mut Stats) -> Result<()> {
    cpu(directory, stats)?;
    memory(directory, stats)?;
    let io = directory.read("io.stat")?.unwrap_or_default();
    io_stat(&io, &mut stats.blkio_stats);
    stats.pids_stats.current = read_number(directory, "pids.current")?;
    let limit = read_number(directory, "pids.max")?;
    stats.pids_stats.limit = if limit == u64::MAX { 0 } else { limit };
    hugetlb(directory, stats)?;
    rdma::rdma(directory, stats)?;
    rdma::misc(directory, stats)
}

/// Reads the pressure files. They exist on a hybrid host too, in the cgroup of cgroup v2, which has
/// the same processes.
pub(super) fn read_pressure(directory: &Directory, stats: &mut Stats) -> Result<()> {
    for (file, target) in [
        ("cpu.pressure", &mut stats.cpu_stats.psi),
        ("memory.pressure", &mut stats.memory_stats.psi),
        ("io.pressure", &mut stats.blkio_stats.psi),
    ] {
        // EOPNOTSUPP means that the kernel was booted without pressure accounting.
        *target = match directory.read(file) {
            Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP) => None,
            text => text?.as_deref().map(psi),
        };
    }
    Ok(())
}

fn cpu(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let text = directory.read("cpu.stat")?.unwrap_or_default();
    let cpu = &mut stats.cpu_stats;
    for (key, value) in keyed(&text) {
        let nanoseconds = value.saturating_mul(1000);
        match key {
            "usage_usec" => cpu.cpu_usage.total_usage = nanoseconds,
            "user_usec" => cpu.cpu_usage.usage_in_usermode = nanoseconds,
            "system_usec" => cpu.cpu_usage.usage_in_kernelmode = nanoseconds,
            "nr_periods" => cpu.throttling_data.periods = value,
            "nr_throttled" => cpu.throttling_data.throttled_periods = value,
            "throttled_usec" => cpu.throttling_data.throttled_time = nanoseconds,
            "nr_bursts" => cpu.burst_data.bursts_periods = value,
            "burst_usec" => cpu.burst_data.burst_time = nanoseconds,
            _ => {}
        }
    }
    Ok(())
}

fn memory(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let memory = &mut stats.memory_stats;
    let text = directory.read("memory.stat")?.unwrap_or_default();
    memory.stats = keyed(&text).map(|(key, value)| (key.to_owned(), value)).collect();
    let stat = |key: &str| memory.stats.get(key).copied().unwrap_or(0);
    memory.use_hierarchy = true;
    memory.cache = stat("file");
    memory.kernel_usage.usage = stat("kernel");
    memory.usage = data(directory, "memory")?;
    memory.swap_only_usage = data(directory, "memory.swap")?;
    // cgroup v1 counts memory and swap together. The maxima cannot be added, because they may be
    // from different times.
    let (usage, swap) = (memory.usage, memory.swap_only_usage);
    memory.swap_usage = MemoryData {
        usage: usage.usage.saturating_add(swap.usage),
        limit: usage.limit.saturating_add(swap.limit),
        failcnt: swap.failcnt,
        max_usage: 0,
    };
    Ok(())
}

fn data(directory: &Directory, name: &str) -> Result<MemoryData> {
    let events = directory.read(&format!("{name}.events"))?.unwrap_or_default();
    let reached = keyed(&events).find(|&(key, _)| key == "max");
    Ok(MemoryData {
        usage: read_number(directory, &format!("{name}.current"))?,
        max_usage: read_number(directory, &format!("{name}.peak"))?,
        failcnt: reached.map_or(0, |(_, value)| value),
        limit: read_number(directory, &format!("{name}.max"))?,
    })
}

/// Parses lines of `major:minor rbytes=1 wbytes=2 rios=3 ...`.
fn io_stat(text: &str, stats: &mut BlkioStats) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) =
            device.map(|(major, minor)| (major.parse(), minor.parse()))
        else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Some(value) = number(value) else { continue };
            let (op, list) = match key {
                "rbytes" => ("Read", &mut stats.io_service_bytes_recursive),
                "wbytes" => ("Write", &mut stats.io_service_bytes_recursive),
                "dbytes" => ("Discard", &mut stats.io_service_bytes_recursive),
                "rios" => ("Read", &mut stats.io_serviced_recursive),
                "wios" => ("Write", &mut stats.io_serviced_recursive),
                "dios" => ("Discard", &mut stats.io_serviced_recursive),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
}

fn hugetlb(directory: &Directory, stats: &mut Stats) -> Result<()> {
    for file in directory.files()? {
        let name = file.to_str().and_then(|name| name.strip_prefix("hugetlb."));
        let size = name.and_then(|name| name.strip_suffix(".current"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let events = directory.read(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let reached = keyed(&events).find(|&(key, _)| key == "max");
        let pages = HugetlbStats {
            usage: read_number(directory, &format!("hugetlb.{size}.current"))?,
            max_usage: 0,
            failcnt: reached.map_or(0, |(_, value)| value),
        };
        stats.hugetlb_stats.insert(size.to_owned(), pages);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::{Cgroups, Mode};
    use super::*;

    fn stats(mode: Mode, files: &[(&str, &str)]) -> Stats {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        let paths = [(String::new(), root.path().to_owned())].into();
        Cgroups { mode, paths, ..Cgroups::default() }.stats().unwrap()
    }

    #[test]
    fn cpu_time_becomes_nanoseconds() {
        let text = "usage_usec 50\nuser_usec 30\nsystem_usec 20\nnr_periods 4\n\
                    nr_throttled 1\nthrottled_usec 7\nnr_bursts 2\nburst_usec 3\n";
        let found = stats(Mode::V2, &[("cpu.stat", text)]).cpu_stats;
        assert_eq!(found.cpu_usage.total_usage, 50_000);
        assert_eq!(found.cpu_usage.usage_in_usermode, 30_000);
        assert_eq!(found.cpu_usage.usage_in_kernelmode, 20_000);
        assert_eq!(found.throttling_data.throttled_time, 7_000);
        assert_eq!(found.burst_data.burst_time, 3_000);
        assert!(found.cpu_usage.percpu_usage.is_empty());
    }

    #[test]
    fn memory_has_the_fields_of_cgroup_v1() {
        let files = [
            ("memory.current", "100\n"),
            ("memory.peak", "150\n"),
            ("memory.max", "200\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 6\noom 1\noom_kill 1\n"),
            ("memory.stat", "anon 1\nfile 40\nkernel 5\n"),
        ];
        let found = stats(Mode::V2, &files).memory_stats;
        let usage = MemoryData { usage: 100, max_usage: 150, failcnt: 6, limit: 200 };
        assert_eq!(found.usage, usage);
        assert_eq!((found.max_usage, found.failcnt, found.cache), (150, 6, 40));
        assert_eq!(found.swap_usage.usage, 110);
        assert_eq!(found.swap_usage.limit, u64::MAX);
        assert_eq!(found.swap_only_usage.usage, 10);
        assert_eq!(found.kernel_usage.usage, 5);
    }

    #[test]
    fn block_devices_have_the_lists_of_cgroup_v1() {
        let text = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\n(unknown)\n";
        let found = stats(Mode::V2, &[("io.stat", text)]).blkio_stats;
        let values = |list: &[BlkioEntry]| -> Vec<(String, u64)> {
            list.iter().map(|entry| (entry.op.clone(), entry.value)).collect()
        };
        let expected = |numbers: [u64; 3]| -> Vec<(String, u64)> {
            ["Read", "Write", "Discard"].map(str::to_owned).into_iter().zip(numbers).collect()
        };
        assert_eq!(values(&found.io_service_bytes_recursive), expected([1, 2, 5]));
        assert_eq!(values(&found.io_serviced_recursive), expected([3, 4, 6]));
    }

    #[test]
    fn processes_and_huge_pages_are_read() {
        let found = stats(
            Mode::V2,
            &[
                ("pids.current", "3\n"),
                ("pids.max", "7\n"),
                ("hugetlb.1GB.current", "10\n"),
                ("hugetlb.1GB.events", "max 2\n"),
                ("hugetlb.1GB.rsvd.current", "1\n"),
            ],
        );
        assert_eq!((found.pids_stats.current, found.pids_stats.limit), (3, 7));
        let pages = HugetlbStats { usage: 10, max_usage: 0, failcnt: 2 };
        assert_eq!(found.hugetlb_stats, [("1GB".to_owned(), pages)].into());
    }

    #[test]
    fn only_pressure_is_read_on_a_hybrid_host() {
        let files = [("cpu.stat", "usage_usec 9\n"), ("cpu.pressure", "some avg10=1.00 total=3\n")];
        let found = stats(Mode::Hybrid, &files);
        assert_eq!(found.cpu_stats.cpu_usage.total_usage, 0);
        assert_eq!(found.cpu_stats.psi.unwrap().some.total, 3);
        assert!(found.memory_stats.psi.is_none());
    }
}
