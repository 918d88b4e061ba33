//! Translating the configuration to the files of cgroup v2.
//!
//! The configuration has the terms of cgroup v1. Limits that cgroup v2 has in another form are
//! converted, those that it does not have are refused. Reference: the kernel's
//! `admin-guide/cgroup-v2`.

use pidone_config::config::CORE_FILES;
use pidone_config::{Error, Result, config};

use super::directory::Directory;
use super::knob::{self, CORE, IfAbsent, Knob, UNIFIED};

/// The controllers that cgroup v2 can have.
const CONTROLLERS: [&str; 9] =
    ["cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

/// Translates the configuration, in the order in which the values are written.
pub(super) fn knobs(config: &config::Cgroup) -> Result<Vec<Knob>> {
    refuse_v1_only(config)?;
    let mut knobs = Vec::new();
    if let Some(cpus) = knob::list("cpuset_cpus", &config.cpuset_cpus)? {
        knobs.push(Knob::new("cpuset_cpus", "cpuset", "cpuset.cpus", cpus));
    }
    if let Some(mems) = knob::list("cpuset_mems", &config.cpuset_mems)? {
        knobs.push(Knob::new("cpuset_mems", "cpuset", "cpuset.mems", mems));
    }
    cpu(config, &mut knobs)?;
    memory(config, &mut knobs)?;
    io(config, &mut knobs)?;
    knobs.extend(knob::pids(config.pids_limit)?);
    for limit in &config.hugetlb_limit {
        let (field, size) = ("hugetlb_limit", knob::page_size(&limit.page_size)?);
        for (kind, if_absent) in [("", IfAbsent::Refuse), (".rsvd", IfAbsent::Skip)] {
            let file = format!("hugetlb.{size}{kind}.max");
            knobs.push(Knob::new(field, "hugetlb", file, limit.limit.to_string()).or(if_absent));
        }
    }
    knobs.extend(knob::rdma(&config.rdma)?);
    knobs.extend(unified(config)?);
    Ok(knobs)
}

/// Returns the knobs of `unified`, whose lines are written to files of cgroup v2 without
/// conversion.
pub(super) fn unified(config: &config::Cgroup) -> Result<Vec<Knob>> {
    let mut knobs = Vec::new();
    for (file, text) in &config.unified {
        // Only a file of a controller: a path could lead to another cgroup, and most of the
        // `cgroup.*` files would move or freeze processes.
        let controller = file.split_once('.').and_then(|(prefix, _)| {
            let known = CONTROLLERS.iter().find(|&&controller| controller == prefix);
            known.filter(|_| !file.contains(['/', '\0']) && !file.contains(".."))
        });
        let controller = if CORE_FILES.contains(&&**file) { Some(&CORE) } else { controller };
        let Some(controller) = controller else {
            let reason = "is not the name of a controller's file";
            return Err(Error::config("cgroups.unified", file, reason));
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        knobs.extend(lines.map(|line| Knob::new(UNIFIED, controller, file.clone(), line)));
    }
    Ok(knobs)
}

/// Refuses limits of memory that are not above the use, if the configuration wants this check. The
/// kernel would kill processes until they fit.
pub(super) fn refuse_below_usage(directory: &Directory, config: &config::Cgroup) -> Result<()> {
    if !config.memory_check_before_update {
        return Ok(());
    }
    let read = |file| -> Result<u64> {
        Ok(directory.read(file)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    };
    let memory = read("memory.current")?;
    let both = memory.saturating_add(read("memory.swap.current")?);
    for (field, limit, usage) in
        [("memory", config.memory, memory), ("memory_swap", config.memory_swap, both)]
    {
        if limit > 0 && u64::try_from(limit).is_ok_and(|limit| limit <= usage) {
            let reason = format!("{usage} bytes are in use");
            return Err(Error::config(format!("cgroups.{field}"), limit, reason));
        }
    }
    Ok(())
}

/// Refuses limits that only cgroup v1 has.
fn refuse_v1_only(config: &config::Cgroup) -> Result<()> {
    let priorities = config.net_prio_ifpriomap.first().map_or("", |entry| &entry.interface);
    let number = |value: i64, unset: i64| {
        if value == unset { String::new() } else { value.to_string() }
    };
    for (field, value) in [
        ("kernel_memory", number(config.kernel_memory, 0)),
        ("memory_swappiness", number(config.memory_swappiness, -1)),
        ("oom_kill_disable", number(config.oom_kill_disable.into(), 0).replace('1', "true")),
        ("cpu_rt_runtime", number(config.cpu_rt_runtime, 0)),
        ("cpu_rt_period", number(config.cpu_rt_period, 0)),
        ("blkio_leaf_weight", number(config.blkio_leaf_weight, 0)),
        ("blkio_leaf_weight_device", config.blkio_leaf_weight_device.clone()),
        ("net_cls_classid", config.net_cls_classid.clone()),
        ("net_prio_ifpriomap", priorities.to_owned()),
    ] {
        if !value.is_empty() {
            let field = format!("cgroups.{field}");
            return Err(Error::config(field, value, "cgroup v2 has no such limit"));
        }
    }
    Ok(())
}

fn cpu(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    knobs.extend(knob::cpu_idle(config));
    if let Some(shares) = knob::cpu_shares(config)? {
        let weight = cpu_weight(shares).to_string();
        knobs.push(Knob::new("cpu_shares", "cpu", "cpu.weight", weight));
    }
    let quota = knob::limit("cpu_quota", "cpu", "cpu.max", config.cpu_quota, "max")?;
    let period = match config.cpu_period {
        0 => None,
        period @ 1.. => Some(period.to_string()),
        period => return Err(Error::config("cgroups.cpu_period", period, "is negative")),
    };
    match (quota, period) {
        (None, None) => {}
        // Without a period the kernel keeps the one it has.
        (Some(quota), None) => knobs.push(quota),
        (Some(mut quota), Some(period)) => {
            quota.value = format!("{} {period}", quota.value);
            knobs.push(quota.or(IfAbsent::Refuse));
        }
        (None, Some(period)) => {
            knobs.push(Knob::new("cpu_period", "cpu", "cpu.max", format!("max {period}")));
        }
    }
    knobs.extend(knob::cpu_burst(config, "cpu.max.burst"));
    Ok(())
}

/// Converts shares of 2 to 262144 to a weight of 1 to 10000.
///
/// The function is quadratic in the logarithm, and maps the smallest, the largest and the default
/// share of 1024 to their counterparts (100 for the default). runc, crun and Kubernetes use the
/// same one.
fn cpu_weight(shares: u32) -> u32 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = f64::from(shares).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000 for shares in their range"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u32;
            weight
        }
    }
}

fn memory(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    if let Some((value, if_absent)) = swap(config)? {
        let knob = Knob::new("memory_swap", "memory", "memory.swap.max", value);
        knobs.push(knob.or(if_absent));
    }
    knobs.extend(knob::limit("memory", "memory", "memory.max", config.memory, "max")?);
    let (field, limit) = ("memory_reservation", config.memory_reservation);
    knobs.extend(knob::limit(field, "memory", "memory.low", limit, "max")?);
    Ok(())
}

/// Returns the limit of swap alone. The configuration has the limit of memory and swap together.
fn swap(config: &config::Cgroup) -> Result<Option<(String, IfAbsent)>> {
    let refuse = |reason: &'static str| {
        Err(Error::config("cgroups.memory_swap", config.memory_swap, reason))
    };
    match (config.memory, config.memory_swap) {
        // Without swap accounting nothing is limited.
        (_, -1) | (-1, 0) => Ok(Some(("max".to_owned(), IfAbsent::Skip))),
        (_, 0) => Ok(None),
        (_, ..-1) => refuse("is negative; -1 stands for no limit"),
        (-1, swap) => Ok(Some((swap.to_string(), IfAbsent::Refuse))),
        (..=0, _) => refuse("needs a limit of memory: it is that of memory and swap together"),
        (memory, swap) if swap < memory => refuse("is less than the limit of memory"),
        (memory, swap) => {
            let rest = swap - memory;
            let if_absent = if rest == 0 { IfAbsent::Skip } else { IfAbsent::Refuse };
            Ok(Some((rest.to_string(), if_absent)))
        }
    }
}

fn io(config: &config::Cgroup, knobs: &mut Vec<Knob>) -> Result<()> {
    // BFQ has the weights of cgroup v1, `io.weight` a range of 1 to 10000.
    let convert = |weight: u64| 1 + (weight - 10) * 9999 / 990;
    if let Some(weight) = knob::within("blkio_weight", config.blkio_weight, 10, 1000)? {
        let general = IfAbsent::Write("io.weight", format!("default {}", convert(weight)));
        let value = format!("default {weight}");
        knobs.push(Knob::new("blkio_weight", "io", "io.bfq.weight", value).or(general));
    }
    let field = "blkio_weight_device";
    for (device, weight) in knob::device_weights(field, &config.blkio_weight_device)? {
        let general = IfAbsent::Write("io.weight", format!("{device} {}", convert(weight)));
        let value = format!("{device} {weight}");
        knobs.push(Knob::new(field, "io", "io.bfq.weight", value).or(general));
    }
    for (field, key, text) in [
        ("blkio_throttle_read_bps_device", "rbps", &config.blkio_throttle_read_bps_device),
        ("blkio_throttle_write_bps_device", "wbps", &config.blkio_throttle_write_bps_device),
        ("blkio_throttle_read_iops_device", "riops", &config.blkio_throttle_read_iops_device),
        ("blkio_throttle_write_iops_device", "wiops", &config.blkio_throttle_write_iops_device),
    ] {
        for (device, rate) in knob::device_lines(field, text)? {
            // On cgroup v1 a rate of 0 removes the limit.
            let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
            knobs.push(Knob::new(field, "io", "io.max", format!("{device} {key}={rate}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config::{HugetlbLimit, InterfacePriority, RdmaLimit};

    fn lines(config: &config::Cgroup) -> Vec<String> {
        knob::lines(&knobs(config).unwrap())
    }

    #[test]
    fn every_field_is_converted() {
        assert!(lines(&config::Cgroup::default()).is_empty());
        let config = config::Cgroup {
            memory: 64 << 20,
            memory_reservation: 32 << 20,
            memory_swap: 96 << 20,
            cpu_shares: 1024,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            blkio_throttle_read_bps_device: "8:0 1\n8:16 2".into(),
            blkio_throttle_write_bps_device: "8:0 3".into(),
            blkio_throttle_read_iops_device: "8:0 4".into(),
            blkio_throttle_write_iops_device: "8:0 0".into(),
            blkio_weight: 1000,
            blkio_weight_device: "8:0 10".into(),
            hugetlb_limit: vec![HugetlbLimit { page_size: "2MB".into(), limit: 4 << 20 }],
            pids_limit: Some(7),
            cpu_burst: Some(5_000),
            cpu_idle: Some(false),
            rdma: [("mlx5_0".into(), RdmaLimit { hca_handles: Some(2), hca_objects: None })].into(),
            unified: [
                ("memory.high".into(), "1".into()),
                ("io.max".into(), "8:0 rbps=5\n\n8:16 wiops=6\n".into()),
            ]
            .into(),
            ..config::Cgroup::default()
        };
        assert_eq!(
            lines(&config),
            [
                "cpuset cpuset.cpus 0-1",
                "cpuset cpuset.mems 0",
                "cpu cpu.idle 0",
                "cpu cpu.weight 100",
                "cpu cpu.max 50000 100000",
                "cpu cpu.max.burst 5000",
                "memory memory.swap.max 33554432",
                "memory memory.max 67108864",
                "memory memory.low 33554432",
                "io io.bfq.weight default 1000",
                "io io.bfq.weight 8:0 10",
                "io io.max 8:0 rbps=1",
                "io io.max 8:16 rbps=2",
                "io io.max 8:0 wbps=3",
                "io io.max 8:0 riops=4",
                "io io.max 8:0 wiops=max",
                "pids pids.max 7",
                "hugetlb hugetlb.2MB.max 4194304",
                "hugetlb hugetlb.2MB.rsvd.max 4194304",
                "rdma rdma.max mlx5_0 hca_handle=2",
                "io io.max 8:0 rbps=5",
                "io io.max 8:16 wiops=6",
                "memory memory.high 1",
            ]
        );
        let knobs = knobs(&config).unwrap();
        let general = |index: usize| &knobs[index].if_absent;
        assert_eq!(*general(9), IfAbsent::Write("io.weight", "default 10000".into()));
        assert_eq!(*general(10), IfAbsent::Write("io.weight", "8:0 1".into()));
    }

    #[test]
    fn a_quota_needs_no_period_and_a_period_no_quota() {
        let cpu = |cpu_quota, cpu_period| {
            lines(&config::Cgroup { cpu_quota, cpu_period, ..config::Cgroup::default() }).join("")
        };
        assert_eq!(cpu(20_000, 0), "cpu cpu.max 20000");
        assert_eq!(cpu(-1, 0), "cpu cpu.max max");
        assert_eq!(cpu(0, 50_000), "cpu cpu.max max 50000");
        assert_eq!(cpu(-1, 50_000), "cpu cpu.max max 50000");
    }

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), weight);
        }
        let weights: Vec<u32> = (1..=18).map(|power| cpu_weight(1 << power)).collect();
        assert!(weights.is_sorted_by(|a, b| a < b), "{weights:?}");
    }

    #[test]
    fn the_swap_limit_is_the_difference_to_memory() {
        let swap_of = |memory, memory_swap| {
            swap(&config::Cgroup { memory, memory_swap, ..config::Cgroup::default() })
                .map(|found| found.map(|(value, _)| value))
                .map_err(|error| error.to_string())
        };
        assert_eq!(swap_of(0, 0), Ok(None));
        assert_eq!(swap_of(100, 0), Ok(None));
        assert_eq!(swap_of(100, 100), Ok(Some("0".into())));
        assert_eq!(swap_of(100, 150), Ok(Some("50".into())));
        assert_eq!(swap_of(100, -1), Ok(Some("max".into())));
        assert_eq!(swap_of(-1, 0), Ok(Some("max".into())));
        assert_eq!(swap_of(-1, 70), Ok(Some("70".into())));
        for (memory, swap) in [(0, 100), (100, 99), (100, -2), (i64::MIN, 5)] {
            assert!(swap_of(memory, swap).unwrap_err().contains("cgroups.memory_swap"));
        }
    }

    #[test]
    fn limits_that_only_cgroup_v1_has_are_refused() {
        let priority = InterfacePriority { interface: "eth0".into(), priority: 1 };
        for (field, config) in [
            ("kernel_memory = 1", config::Cgroup { kernel_memory: 1, ..config::Cgroup::default() }),
            (
                "memory_swappiness = 0",
                config::Cgroup { memory_swappiness: 0, ..config::Cgroup::default() },
            ),
            (
                "oom_kill_disable = true",
                config::Cgroup { oom_kill_disable: true, ..config::Cgroup::default() },
            ),
            (
                "cpu_rt_runtime = 1",
                config::Cgroup { cpu_rt_runtime: 1, ..config::Cgroup::default() },
            ),
            ("cpu_rt_period = 1", config::Cgroup { cpu_rt_period: 1, ..config::Cgroup::default() }),
            (
                "net_cls_classid = 0x1",
                config::Cgroup { net_cls_classid: "0x1".into(), ..config::Cgroup::default() },
            ),
            (
                "net_prio_ifpriomap = eth0",
                config::Cgroup {
                    net_prio_ifpriomap: vec![priority.clone()],
                    ..config::Cgroup::default()
                },
            ),
        ] {
            assert_eq!(
                knobs(&config).unwrap_err().to_string(),
                format!("configuration `cgroups.{field}`: cgroup v2 has no such limit")
            );
        }
    }

    #[test]
    fn unified_accepts_only_files_of_controllers() {
        for file in [
            "../memory.max",
            "memory.max/..",
            "a/memory.max",
            "memory..x",
            "cgroup.procs",
            "cgroup.freeze",
            "cgroup.max",
            "cgroup.max.depth.x",
            "memory",
            "notes.txt",
            "",
            "memory.a\0",
        ] {
            let unified = [(file.to_owned(), "1".to_owned())].into();
            let config = config::Cgroup { unified, ..config::Cgroup::default() };
            let error = knobs(&config).unwrap_err().to_string();
            assert!(error.starts_with("configuration `cgroups.unified"), "{error}");
        }
    }

    #[test]
    fn a_limit_below_the_use_is_refused_if_checked() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("memory.current"), "1000\n").unwrap();
        std::fs::write(root.path().join("memory.swap.current"), "500\n").unwrap();
        let directory = Directory::existing(root.path()).unwrap();
        let check = |memory, memory_swap, memory_check_before_update| {
            let config = config::Cgroup {
                memory,
                memory_swap,
                memory_check_before_update,
                ..config::Cgroup::default()
            };
            refuse_below_usage(&directory, &config).map_err(|error| error.to_string())
        };
        assert_eq!(check(1001, 1501, true), Ok(()));
        assert_eq!(check(0, -1, true), Ok(()));
        assert_eq!(check(1, 1, false), Ok(()));
        let refused = |memory, swap| check(memory, swap, true).unwrap_err();
        let text = "configuration `cgroups.memory = 1000`: 1000 bytes are in use";
        assert_eq!(refused(1000, 0), text);
        let text = "configuration `cgroups.memory_swap = 1500`: 1500 bytes are in use";
        assert_eq!(refused(1400, 1500), text);
    }
}
