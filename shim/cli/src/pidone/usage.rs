//! Statistics with the field names of `runc events`, which differ from those of libcontainer.

use pidone::Stats;
use pidone_host::cgroup::{BlkioEntry, MemoryData};
use serde_json::{Map, Value, json};

/// Returns the data of an event of type `stats`, or null for a container without a cgroup.
pub(super) fn event_data(stats: &Stats) -> Value {
    let Some(cgroup) = &stats.cgroup else { return Value::Null };
    let (cpu, memory, blkio) = (&cgroup.cpu_stats, &cgroup.memory_stats, &cgroup.blkio_stats);
    let hugetlb: Map<String, Value> = cgroup
        .hugetlb_stats
        .iter()
        .map(|(size, pages)| {
            let pages =
                json!({ "usage": pages.usage, "max": pages.max_usage, "failcnt": pages.failcnt });
            (size.clone(), pages)
        })
        .collect();
    let mut data = json!({
        "cpu": {
            "usage": {
                "total": cpu.cpu_usage.total_usage,
                "percpu": cpu.cpu_usage.percpu_usage,
                "percpu_kernel": cpu.cpu_usage.percpu_usage_in_kernelmode,
                "percpu_user": cpu.cpu_usage.percpu_usage_in_usermode,
                "kernel": cpu.cpu_usage.usage_in_kernelmode,
                "user": cpu.cpu_usage.usage_in_usermode,
            },
            "throttling": {
                "periods": cpu.throttling_data.periods,
                "throttledPeriods": cpu.throttling_data.throttled_periods,
                "throttledTime": cpu.throttling_data.throttled_time,
            },
            "psi": cpu.psi,
        },
        "cpuset": cgroup.cpuset_stats,
        "memory": {
            "cache": memory.cache,
            "usage": entry(memory.usage),
            "swap": entry(memory.swap_usage),
            "kernel": entry(memory.kernel_usage),
            "kernelTCP": entry(memory.kernel_tcp_usage),
            "raw": memory.stats,
            "psi": memory.psi,
        },
        "pids": { "current": cgroup.pids_stats.current, "limit": cgroup.pids_stats.limit },
        "blkio": {
            "ioServiceBytesRecursive": blkio_entries(&blkio.io_service_bytes_recursive),
            "ioServicedRecursive": blkio_entries(&blkio.io_serviced_recursive),
            "ioQueueRecursive": blkio_entries(&blkio.io_queue_recursive),
            "ioServiceTimeRecursive": blkio_entries(&blkio.io_service_time_recursive),
            "ioWaitTimeRecursive": blkio_entries(&blkio.io_wait_time_recursive),
            "ioMergedRecursive": blkio_entries(&blkio.io_merged_recursive),
            "ioTimeRecursive": blkio_entries(&blkio.io_time_recursive),
            "sectorsRecursive": blkio_entries(&blkio.sectors_recursive),
            "psi": blkio.psi,
        },
        "hugetlb": hugetlb,
        "intel_rdt": {},
        "network_interfaces": stats.interfaces,
    });
    for part in ["cpu", "memory", "blkio"] {
        if let Some(part) = data.get_mut(part).and_then(Value::as_object_mut) {
            // Leave out what the kernel does not count.
            part.retain(|_, value| !value.is_null());
        }
    }
    data
}

fn entry(data: MemoryData) -> Value {
    json!({
        "limit": data.limit,
        "usage": data.usage,
        "max": data.max_usage,
        "failcnt": data.failcnt,
    })
}

/// Returns the entries of a list, or null if there are none.
fn blkio_entries(entries: &[BlkioEntry]) -> Value {
    if entries.is_empty() { Value::Null } else { json!(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_host::cgroup;
    use pidone_host::cgroup::Psi;

    #[test]
    fn the_fields_have_the_names_of_runc() {
        let mut cgroup = cgroup::Stats::default();
        cgroup.cpu_stats.cpu_usage.percpu_usage = vec![1, 2];
        cgroup.memory_stats.psi = Some(Psi::default());
        cgroup.pids_stats.current = 7;
        let entry = BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 1 };
        cgroup.blkio_stats.io_serviced_recursive.push(entry);
        cgroup.hugetlb_stats.insert("2MB".into(), cgroup::HugetlbStats::default());
        let mut stats = Stats::default();
        stats.cgroup = Some(cgroup);
        let data = event_data(&stats);
        for pointer in [
            "/cpu/usage/total",
            "/cpu/usage/percpu/1",
            "/cpu/usage/percpu_kernel",
            "/cpu/throttling/throttledPeriods",
            "/cpuset",
            "/memory/usage/failcnt",
            "/memory/kernelTCP/limit",
            "/memory/raw",
            "/memory/psi/some/avg10",
            "/pids/limit",
            "/blkio/ioServicedRecursive/0/op",
            "/hugetlb/2MB/max",
            "/intel_rdt",
            "/network_interfaces",
        ] {
            assert!(data.pointer(pointer).is_some(), "{pointer} in {data:#}");
        }
        assert!(data.pointer("/cpu/psi").is_none() && data.pointer("/blkio/psi").is_none());
        assert!(data.pointer("/blkio/ioTimeRecursive").is_none());
        assert_eq!(data["pids"]["current"], 7);
        assert_eq!(event_data(&Stats::default()), Value::Null);
    }
}
