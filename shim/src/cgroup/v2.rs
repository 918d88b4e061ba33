//! The configuration in the files of cgroup v2, and the controllers that those need.
//!
//! The configuration speaks of cgroup v1. What cgroup v2 has in another form is translated, what
//! it does not have is refused. Reference: the kernel's `admin-guide/cgroup-v2`.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::directory::Directory;
use super::knob::{self, IfAbsent, Knob};
use crate::config;
use crate::{Code, Error, Result};

/// The controllers that count what a container uses. They are enabled where that is possible, also
/// without a limit, so that statistics and OOM events exist.
const ACCOUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

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
    if let Some(value) = knob::limit("pids_limit", config.pids_limit, "max")? {
        knobs.push(Knob::new("pids_limit", "pids", "pids.max", value));
    }
    for limit in &config.hugetlb_limit {
        let (field, size) = ("hugetlb_limit", knob::page_size(&limit.page_size)?);
        for (kind, if_absent) in [("", IfAbsent::Refuse), (".rsvd", IfAbsent::Skip)] {
            let file = format!("hugetlb.{size}{kind}.max");
            knobs.push(Knob::new(field, "hugetlb", file, limit.limit.to_string()).or(if_absent));
        }
    }
    Ok(knobs)
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
    if let Some(shares) = knob::cpu_shares(config.cpu_shares)? {
        let weight = cpu_weight(shares).to_string();
        knobs.push(Knob::new("cpu_shares", "cpu", "cpu.weight", weight));
    }
    let quota = knob::limit("cpu_quota", config.cpu_quota, "max")?;
    let period = match config.cpu_period {
        0 => None,
        period @ 1.. => Some(period.to_string()),
        period => return Err(Error::config("cgroups.cpu_period", period, "is negative")),
    };
    let (field, value) = match (quota, period) {
        (None, None) => return Ok(()),
        // Without a period the kernel keeps the one it has.
        (Some(quota), None) => ("cpu_quota", quota),
        (Some(quota), Some(period)) => ("cpu_quota", format!("{quota} {period}")),
        (None, Some(period)) => ("cpu_period", format!("max {period}")),
    };
    knobs.push(Knob::new(field, "cpu", "cpu.max", value));
    Ok(())
}

/// Translates shares of 2 to 262144 into a weight of 1 to 10000.
///
/// A quadratic function of the logarithm that maps the smallest, the largest and the default of
/// 1024 to their counterparts (100 for the default); runc, crun and Kubernetes use the same.
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
    if let Some(value) = knob::limit("memory", config.memory, "max")? {
        knobs.push(Knob::new("memory", "memory", "memory.max", value));
    }
    let field = "memory_reservation";
    if let Some(value) = knob::limit(field, config.memory_reservation, "max")? {
        knobs.push(Knob::new(field, "memory", "memory.low", value));
    }
    Ok(())
}

/// The limit of swap alone: the configuration has the limit of memory and swap together.
fn swap(config: &config::Cgroup) -> Result<Option<(String, IfAbsent)>> {
    let refuse = |reason: &'static str| {
        Err(Error::config("cgroups.memory_swap", config.memory_swap, reason))
    };
    match (config.memory, config.memory_swap) {
        // Without swap accounting there is nothing that could be limited.
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
    // BFQ has the weights of cgroup v1; the general file has a range of 1 to 10000.
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
            // On cgroup v1 a rate of 0 takes the limit off.
            let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
            knobs.push(Knob::new(field, "io", "io.max", format!("{device} {key}={rate}")));
        }
    }
    Ok(())
}

/// Enables controllers for the cgroup `leaf` by naming them in `cgroup.subtree_control` of every
/// ancestor that does not have them yet: those of `knobs` as far as the host has them, and those
/// that account.
///
/// # Errors
/// `Code::ConfigInvalid` for a knob whose controller is not available;
/// an ancestor that has processes of its own: the kernel takes domain controllers no further than
/// there ("no internal processes"), and would take threaded ones only by making the cgroups below
/// unusable for whole processes.
pub(super) fn enable_controllers(leaf: &Directory, knobs: &[Knob]) -> Result<()> {
    let needed = |knob: &&Knob| knob.if_absent != IfAbsent::Skip;
    let required: BTreeSet<&str> =
        knobs.iter().filter(needed).map(|knob| knob.controller).collect();
    let wanted: BTreeSet<&str> = required.iter().copied().chain(ACCOUNTING).collect();
    if wanted.is_subset(&words(&leaf.read_existing("cgroup.controllers")?)) {
        return Ok(());
    }
    for ancestor in ancestors(leaf)? {
        let available = ancestor.read_existing("cgroup.controllers")?;
        let available = words(&available);
        let lacking = |knob: &&Knob| !available.contains(knob.controller);
        if let Some(knob) = knobs.iter().filter(needed).find(lacking) {
            return Err(knob.refusal(format!(
                "needs the cgroup controller `{}`, which `{}` does not have",
                knob.controller,
                ancestor.path().display()
            )));
        }
        let enabled = ancestor.read_existing("cgroup.subtree_control")?;
        let enabled = words(&enabled);
        let missing = wanted
            .iter()
            .copied()
            .filter(|name| available.contains(name) && !enabled.contains(name));
        let missing: Vec<&str> = missing.collect();
        if missing.is_empty() {
            continue;
        }
        if is_occupied(&ancestor)? {
            let Some(controller) = required.iter().find(|name| missing.contains(name)) else {
                return Ok(());
            };
            let path = ancestor.path().to_string_lossy();
            let reason = format!(
                "it has processes of its own, so that the controller `{controller}` \
                 cannot be enabled below it"
            );
            return Err(Error::reason(Code::SystemError, "enable cgroup controller", path, reason)
                .with_hint("name a parent without processes, or move them to a cgroup below"));
        }
        for name in missing {
            let written = ancestor.try_write("cgroup.subtree_control", &format!("+{name}"));
            match written {
                Err(errno) if required.contains(name) => {
                    let file = "cgroup.subtree_control";
                    return Err(ancestor.write_error(file, &format!("+{name}"), errno));
                }
                // Accounting is a convenience.
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a cgroup other than the root, which is exempt from the rule, has processes.
fn is_occupied(directory: &Directory) -> Result<bool> {
    if !directory.has("cgroup.type") {
        return Ok(false);
    }
    match directory.read("cgroup.procs") {
        // A threaded cgroup, which has no processes of its own but threads.
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Ok(true),
        other => Ok(other?.is_some_and(|text| !text.is_empty())),
    }
}

/// The cgroups above `leaf`, the highest that is in sight first.
fn ancestors(leaf: &Directory) -> Result<Vec<Directory>> {
    let mut found = vec![leaf.parent()?];
    while let Some(lowest) = found.last() {
        let above = lowest.parent()?;
        if !above.has("cgroup.subtree_control") {
            break;
        }
        found.push(above);
    }
    found.reverse();
    Ok(found)
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_ascii_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{HugetlbLimit, InterfacePriority};

    fn lines(config: &config::Cgroup) -> Vec<String> {
        knob::lines(&knobs(config).unwrap())
    }

    #[test]
    fn translates_every_field() {
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
            pids_limit: 7,
            ..config::Cgroup::default()
        };
        assert_eq!(
            lines(&config),
            [
                "cpuset cpuset.cpus 0-1",
                "cpuset cpuset.mems 0",
                "cpu cpu.weight 100",
                "cpu cpu.max 50000 100000",
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
            ]
        );
        let knobs = knobs(&config).unwrap();
        let general = |index: usize| &knobs[index].if_absent;
        assert_eq!(*general(7), IfAbsent::Write("io.weight", "default 10000".into()));
        assert_eq!(*general(8), IfAbsent::Write("io.weight", "8:0 1".into()));
    }

    #[test]
    fn writes_a_quota_without_a_period_and_the_reverse() {
        let cpu = |cpu_quota, cpu_period| {
            lines(&config::Cgroup { cpu_quota, cpu_period, ..config::Cgroup::default() }).join("")
        };
        assert_eq!(cpu(20_000, 0), "cpu cpu.max 20000");
        assert_eq!(cpu(-1, 0), "cpu cpu.max max");
        assert_eq!(cpu(0, 50_000), "cpu cpu.max max 50000");
        assert_eq!(cpu(-1, 50_000), "cpu cpu.max max 50000");
    }

    #[test]
    fn maps_shares_to_weights() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000)] {
            assert_eq!(cpu_weight(shares), weight);
        }
        let weights: Vec<u32> = (1..=18).map(|power| cpu_weight(1 << power)).collect();
        assert!(weights.is_sorted_by(|a, b| a < b), "{weights:?}");
    }

    #[test]
    fn subtracts_memory_from_memory_and_swap() {
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
    fn refuses_what_only_cgroup_v1_has() {
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

    /// A cgroup v2 tree of plain files.
    fn cgroup(path: &Path, controllers: &str, enabled: &str, procs: Option<&str>) {
        std::fs::create_dir_all(path).unwrap();
        std::fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(path.join("cgroup.subtree_control"), enabled).unwrap();
        if let Some(procs) = procs {
            std::fs::write(path.join("cgroup.type"), "domain").unwrap();
            std::fs::write(path.join("cgroup.procs"), procs).unwrap();
        }
    }

    fn memory_knob() -> [Knob; 1] {
        [Knob::new("memory", "memory", "memory.max", "1")]
    }

    #[test]
    fn enables_controllers_from_the_top() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("leaf");
        cgroup(root.path(), "cpu memory hugetlb", "", None);
        cgroup(&leaf, "", "", Some(""));
        let leaf = Directory::existing(&leaf).unwrap();
        enable_controllers(&leaf, &memory_knob()).unwrap();
        // A plain file keeps the last write at its beginning.
        let control = root.path().join("cgroup.subtree_control");
        assert_eq!(std::fs::read_to_string(control).unwrap(), "+memory");

        let knob = Knob::new("pids_limit", "pids", "pids.max", "1");
        enable_controllers(&leaf, &[knob.clone().or(IfAbsent::Skip)]).unwrap();
        let error = enable_controllers(&leaf, &[knob]).unwrap_err().to_string();
        assert!(error.contains("needs the cgroup controller `pids`"), "{error}");
    }

    #[test]
    fn stops_at_a_cgroup_with_processes() {
        let root = tempfile::tempdir().unwrap();
        let middle = root.path().join("middle");
        let leaf = middle.join("leaf");
        cgroup(root.path(), "memory", "memory", None);
        cgroup(&middle, "memory", "", Some("42\n"));
        cgroup(&leaf, "", "", Some(""));
        let leaf = Directory::existing(&leaf).unwrap();
        enable_controllers(&leaf, &[]).unwrap();
        let error = enable_controllers(&leaf, &memory_knob()).unwrap_err().to_string();
        assert!(error.contains("/middle`: it has processes of its own"), "{error}");
        let control = middle.join("cgroup.subtree_control");
        assert_eq!(std::fs::read_to_string(control).unwrap(), "");
    }
}
