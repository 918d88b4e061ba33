//! Translating the configuration to the files of cgroup v1.
//!
//! Reference: the kernel's `admin-guide/cgroup-v1`.

use std::path::{Path, PathBuf};

use pidone_config::{Error, Result, config};
use rustix::io::Errno;

use super::knob::{self, Check, IfAbsent, Knob};
use super::{Cgroups, directory};

/// Translates the configuration, in the order in which the values are written.
pub(super) fn knobs(config: &config::Cgroup) -> Result<Vec<Knob>> {
    let mut knobs = Vec::new();
    cpuset(config, &mut knobs)?;
    cpu(config, &mut knobs)?;
    memory(config, &mut knobs)?;
    blkio(config, &mut knobs)?;
    knobs.extend(knob::pids(config.pids_limit)?);
    for limit in &config.hugetlb_limit {
        let (field, size) = ("hugetlb_limit", knob::page_size(&limit.page_size)?);
        // Since Linux 5.7 reservations are charged separately. Without a limit for them a mapping
        // succeeds, and its first access raises SIGBUS.
        for (kind, if_absent) in [("", IfAbsent::Refuse), (".rsvd", IfAbsent::Skip)] {
            let file = format!("hugetlb.{size}{kind}.limit_in_bytes");
            knobs.push(Knob::new(field, "hugetlb", file, limit.limit.to_string()).or(if_absent));
        }
    }
    network(config, &mut knobs)?;
    knobs.extend(knob::rdma(&config.rdma)?);
    Ok(knobs)
}

fn cpuset(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    if let Some(cpus) = knob::list("cpuset_cpus", &config.cpuset_cpus)? {
        knobs.push(Knob::new("cpuset_cpus", "cpuset", "cpuset.cpus", cpus));
    }
    if let Some(mems) = knob::list("cpuset_mems", &config.cpuset_mems)? {
        knobs.push(Knob::new("cpuset_mems", "cpuset", "cpuset.mems", mems));
    }
    Ok(())
}

fn cpu(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    knobs.extend(knob::cpu_idle(config));
    if let Some(shares) = knob::cpu_shares(config)? {
        let knob = Knob::new("cpu_shares", "cpu", "cpu.shares", shares.to_string());
        knobs.push(knob.checked(Check::CpuShares));
    }
    for (field, file, value) in [
        ("cpu_period", "cpu.cfs_period_us", config.cpu_period),
        ("cpu_quota", "cpu.cfs_quota_us", config.cpu_quota),
        ("cpu_rt_period", "cpu.rt_period_us", config.cpu_rt_period),
        ("cpu_rt_runtime", "cpu.rt_runtime_us", config.cpu_rt_runtime),
    ] {
        knobs.extend(knob::limit(field, "cpu", file, value, "-1")?);
    }
    knobs.extend(knob::cpu_burst(config, "cpu.cfs_burst_us"));
    Ok(())
}

fn memory(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    // A limit of memory and swap would still limit memory. Like runc, remove it with that of
    // memory.
    let swap = match (config.memory, config.memory_swap) {
        (-1, 0) => -1,
        (_, swap) => swap,
    };
    for (field, file, value) in [
        ("kernel_memory", "memory.kmem.limit_in_bytes", config.kernel_memory),
        ("memory", "memory.limit_in_bytes", config.memory),
        ("memory_swap", "memory.memsw.limit_in_bytes", swap),
        ("memory_reservation", "memory.soft_limit_in_bytes", config.memory_reservation),
    ] {
        let Some(knob) = knob::limit(field, "memory", file, value, "-1")? else { continue };
        let is_kernels = field == "kernel_memory";
        knobs.push(if is_kernels { knob.checked(Check::KernelMemory) } else { knob });
    }
    match config.memory_swappiness {
        -1 => {}
        value @ 0..=100 => {
            let file = "memory.swappiness";
            knobs.push(Knob::new("memory_swappiness", "memory", file, value.to_string()));
        }
        value => {
            return Err(Error::config(
                "cgroups.memory_swappiness",
                value,
                "is not within 0 to 100",
            ));
        }
    }
    if config.oom_kill_disable {
        knobs.push(Knob::new("oom_kill_disable", "memory", "memory.oom_control", "1"));
    }
    Ok(())
}

fn blkio(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    // Linux 5.0 removed CFQ. BFQ has the same weights in other files.
    if let Some(weight) = knob::within("blkio_weight", config.blkio_weight, 10, 1000)? {
        let weight = weight.to_string();
        let bfq = IfAbsent::Write("blkio.bfq.weight", weight.clone());
        knobs.push(Knob::new("blkio_weight", "blkio", "blkio.weight", weight).or(bfq));
    }
    let field = "blkio_weight_device";
    for (device, weight) in knob::device_weights(field, &config.blkio_weight_device)? {
        let line = format!("{device} {weight}");
        let bfq = IfAbsent::Write("blkio.bfq.weight_device", line.clone());
        knobs.push(Knob::new(field, "blkio", "blkio.weight_device", line).or(bfq));
    }
    // BFQ has no weight for a cgroup's own processes.
    let (field, weight) = ("blkio_leaf_weight", config.blkio_leaf_weight);
    if let Some(weight) = knob::within(field, weight, 10, 1000)? {
        knobs.push(Knob::new(field, "blkio", "blkio.leaf_weight", weight.to_string()));
    }
    let field = "blkio_leaf_weight_device";
    for (device, weight) in knob::device_weights(field, &config.blkio_leaf_weight_device)? {
        let line = format!("{device} {weight}");
        knobs.push(Knob::new(field, "blkio", "blkio.leaf_weight_device", line));
    }
    for (field, file, text) in [
        (
            "blkio_throttle_read_bps_device",
            "blkio.throttle.read_bps_device",
            &config.blkio_throttle_read_bps_device,
        ),
        (
            "blkio_throttle_write_bps_device",
            "blkio.throttle.write_bps_device",
            &config.blkio_throttle_write_bps_device,
        ),
        (
            "blkio_throttle_read_iops_device",
            "blkio.throttle.read_iops_device",
            &config.blkio_throttle_read_iops_device,
        ),
        (
            "blkio_throttle_write_iops_device",
            "blkio.throttle.write_iops_device",
            &config.blkio_throttle_write_iops_device,
        ),
    ] {
        // The kernel accepts one device with each write.
        for (device, rate) in knob::device_lines(field, text)? {
            knobs.push(Knob::new(field, "blkio", file, format!("{device} {rate}")));
        }
    }
    Ok(())
}

fn network(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    let text = config.net_cls_classid.as_str();
    if !text.is_empty() {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        let Ok(class) = parsed else {
            let reason = "is not a number or 0x number of 32 bits";
            return Err(Error::config("cgroups.net_cls_classid", text, reason));
        };
        let file = "net_cls.classid";
        knobs.push(Knob::new("net_cls_classid", "net_cls", file, class.to_string()));
    }
    for entry in &config.net_prio_ifpriomap {
        let field = "net_prio_ifpriomap";
        let name = entry.interface.as_str();
        let wrong = name.is_empty() || name.len() > 15 || name.contains(char::is_whitespace);
        let Ok(priority) = u32::try_from(entry.priority) else {
            let reason = "is not a number of 32 bits";
            return Err(Error::config(format!("cgroups.{field}"), entry.priority, reason));
        };
        if wrong || name.contains(char::is_control) {
            let reason = "is not the name of an interface";
            return Err(Error::config(format!("cgroups.{field}"), name, reason));
        }
        let line = format!("{name} {priority}");
        knobs.push(Knob::new(field, "net_prio", "net_prio.ifpriomap", line));
    }
    Ok(())
}

/// Copies the CPUs and memory nodes of the parent to a cgroup where they are empty, and likewise
/// for the parent. A cpuset without CPUs or memory nodes accepts no process (`ENOSPC`).
///
/// The cgroups of `made` are new, so their lists are empty or copies of their parent's
/// (`cgroup.clone_children`), and need not be read.
pub(super) fn inherit_cpuset(cgroups: &Cgroups, made: &[PathBuf]) -> Result<()> {
    let Some(path) = cgroups.paths.get("cpuset") else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fill_from_parent(path, file, made)?;
    }
    Ok(())
}

/// Copies one list from the nearest ancestor that has one, and returns it.
fn fill_from_parent(cgroup: &Path, file: &str, made: &[PathBuf]) -> Result<String> {
    let path = cgroup.join(file);
    if !made.iter().any(|made| made == cgroup) {
        let value = directory::read(&path)?;
        let value = value.ok_or_else(|| Error::path("read", &path, Errno::NOENT))?;
        if !value.trim().is_empty() {
            return Ok(value.trim().to_owned());
        }
    }
    let parent = cgroup.parent().ok_or_else(|| Error::path("read", &path, Errno::NOENT))?;
    let value = fill_from_parent(parent, file, made)?;
    let opened = directory::open_to_write(&path)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&opened, value.as_bytes()))
        .map_err(|errno| Error::system("write", format!("{} = {value}", path.display()), errno))?;
    Ok(value)
}

/// Enables the OOM killer again if an earlier configuration disabled it.
pub(super) fn enable_oom_killer(cgroups: &Cgroups, config: &config::Cgroup) -> Result<()> {
    let file = "memory.oom_control";
    if config.oom_kill_disable {
        return Ok(());
    }
    let Some(directory) = cgroups.controller("memory")? else { return Ok(()) };
    match directory.read(file)? {
        Some(text) if text.lines().any(|line| line == "oom_kill_disable 1") => {
            directory.write(file, "0")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config::{HugetlbLimit, InterfacePriority, RdmaLimit};

    fn lines(config: &config::Cgroup) -> Vec<String> {
        knob::lines(&knobs(config).unwrap())
    }

    #[test]
    fn the_default_configuration_writes_nothing() {
        assert!(lines(&config::Cgroup::default()).is_empty());
    }

    #[test]
    fn every_field_is_written_in_order() {
        let config = config::Cgroup {
            memory: 64 << 20,
            memory_reservation: 32 << 20,
            memory_swap: 128 << 20,
            kernel_memory: 16 << 20,
            memory_swappiness: 10,
            oom_kill_disable: true,
            cpu_shares: 512,
            cpu_quota: -1,
            cpu_period: 100_000,
            cpu_rt_runtime: 95_000,
            cpu_rt_period: 1_000_000,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            blkio_throttle_read_bps_device: "8:0 1\n8:16 2".into(),
            blkio_throttle_write_bps_device: "8:0 3".into(),
            blkio_throttle_read_iops_device: "8:0 4".into(),
            blkio_throttle_write_iops_device: "8:0 0".into(),
            blkio_weight: 500,
            blkio_weight_device: "8:0 600".into(),
            blkio_leaf_weight: 400,
            blkio_leaf_weight_device: "8:0 700".into(),
            cpu_burst: Some(5_000),
            cpu_idle: Some(false),
            rdma: [("mlx5_0".into(), RdmaLimit { hca_handles: Some(2), hca_objects: None })].into(),
            hugetlb_limit: vec![HugetlbLimit { page_size: "2MB".into(), limit: 4 << 20 }],
            net_prio_ifpriomap: vec![InterfacePriority { interface: "eth0".into(), priority: 5 }],
            net_cls_classid: "0x10001".into(),
            pids_limit: Some(-1),
            ..config::Cgroup::default()
        };
        assert_eq!(
            lines(&config),
            [
                "cpuset cpuset.cpus 0-1",
                "cpuset cpuset.mems 0",
                "cpu cpu.idle 0",
                "cpu cpu.shares 512",
                "cpu cpu.cfs_period_us 100000",
                "cpu cpu.cfs_quota_us -1",
                "cpu cpu.rt_period_us 1000000",
                "cpu cpu.rt_runtime_us 95000",
                "cpu cpu.cfs_burst_us 5000",
                "memory memory.kmem.limit_in_bytes 16777216",
                "memory memory.limit_in_bytes 67108864",
                "memory memory.memsw.limit_in_bytes 134217728",
                "memory memory.soft_limit_in_bytes 33554432",
                "memory memory.swappiness 10",
                "memory memory.oom_control 1",
                "blkio blkio.weight 500",
                "blkio blkio.weight_device 8:0 600",
                "blkio blkio.leaf_weight 400",
                "blkio blkio.leaf_weight_device 8:0 700",
                "blkio blkio.throttle.read_bps_device 8:0 1",
                "blkio blkio.throttle.read_bps_device 8:16 2",
                "blkio blkio.throttle.write_bps_device 8:0 3",
                "blkio blkio.throttle.read_iops_device 8:0 4",
                "blkio blkio.throttle.write_iops_device 8:0 0",
                "pids pids.max max",
                "hugetlb hugetlb.2MB.limit_in_bytes 4194304",
                "hugetlb hugetlb.2MB.rsvd.limit_in_bytes 4194304",
                "net_cls net_cls.classid 65537",
                "net_prio net_prio.ifpriomap eth0 5",
                "rdma rdma.max mlx5_0 hca_handle=2",
            ]
        );
    }

    #[test]
    fn removing_the_memory_limit_removes_the_swap_limit() {
        let config = config::Cgroup { memory: -1, ..config::Cgroup::default() };
        assert_eq!(
            lines(&config),
            ["memory memory.limit_in_bytes -1", "memory memory.memsw.limit_in_bytes -1"]
        );
        assert_eq!(knobs(&config).unwrap()[1].if_absent, IfAbsent::Skip);
    }

    #[test]
    fn invalid_values_are_refused_with_their_field() {
        let refused = |config: config::Cgroup| knobs(&config).unwrap_err().to_string();
        let class = config::Cgroup { net_cls_classid: "1:1".into(), ..config::Cgroup::default() };
        assert!(refused(class).contains("cgroups.net_cls_classid = 1:1"));
        let swappiness = config::Cgroup { memory_swappiness: 101, ..config::Cgroup::default() };
        assert!(refused(swappiness).contains("cgroups.memory_swappiness = 101"));
        for (interface, priority) in [("", 1), ("a b", 1), ("eth0", -1), ("0123456789abcdef", 1)] {
            let entry = InterfacePriority { interface: interface.into(), priority };
            let config =
                config::Cgroup { net_prio_ifpriomap: vec![entry], ..config::Cgroup::default() };
            assert!(refused(config).contains("cgroups.net_prio_ifpriomap"));
        }
        let quota = config::Cgroup { cpu_quota: -2, ..config::Cgroup::default() };
        assert!(refused(quota).contains("cgroups.cpu_quota = -2"));
    }

    #[test]
    fn an_empty_cpuset_is_copied_from_the_nearest_ancestor() {
        let root = tempfile::tempdir().unwrap();
        for (path, cpus) in [("", "0-3\n"), ("a", "\n"), ("a/b", "")] {
            let path = root.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("cpuset.cpus"), cpus).unwrap();
        }
        fill_from_parent(&root.path().join("a/b"), "cpuset.cpus", &[]).unwrap();
        for path in ["a", "a/b"] {
            let cpus = std::fs::read_to_string(root.path().join(path).join("cpuset.cpus")).unwrap();
            assert_eq!(cpus.trim(), "0-3");
        }
    }
}
