//! The control group and its limits.

use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer, Serialize};

use super::device::rules;
use super::fault::{Check, Fault, each};
use super::json::{list, objects};
use super::network::check_interface;
use super::{Device, path, size};

/// The control group and its limits.
///
/// A number of 0 and an empty string leave the kernel's value, but for `memory_swappiness`, which
/// -1 leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// The last component of the path.
    pub name: String,
    /// The rest of the path: absolute from the mount point, relative from the caller's cgroup.
    pub parent: String,
    /// Whether every device is allowed, but for `denied_devices`.
    pub allow_all_devices: bool,
    /// The devices allowed when `allow_all_devices` is false. In files also text: `c 1:3 rwm`.
    #[serde(deserialize_with = "rules", serialize_with = "list::serialize")]
    pub allowed_devices: Vec<Device>,
    /// The devices denied when `allow_all_devices` is true. In files also text: `c 1:3 rwm`.
    #[serde(deserialize_with = "rules", serialize_with = "list::serialize")]
    pub denied_devices: Vec<Device>,
    /// The memory limit in bytes; -1 for none. Sizes are in files also text: `64m`.
    #[serde(deserialize_with = "size::deserialize")]
    pub memory: i64,
    /// The soft memory limit in bytes; -1 for none.
    #[serde(deserialize_with = "size::deserialize")]
    pub memory_reservation: i64,
    /// The limit of memory and swap together, in bytes; -1 for none.
    #[serde(deserialize_with = "size::deserialize")]
    pub memory_swap: i64,
    /// The kernel memory limit in bytes; -1 for none.
    #[serde(deserialize_with = "size::deserialize")]
    pub kernel_memory: i64,
    /// How eagerly the kernel swaps, 0 to 100; -1 leaves it.
    pub memory_swappiness: i64,
    /// Whether the OOM killer is off.
    pub oom_kill_disable: bool,
    /// The share of the processor, 2 to 262144.
    pub cpu_shares: i64,
    /// Microseconds of processor time in each period, 1000 at least; -1 for no limit.
    pub cpu_quota: i64,
    /// The period in microseconds, 1000 to 1000000.
    pub cpu_period: i64,
    /// Microseconds of real-time scheduling in each period; -1 for no limit.
    pub cpu_rt_runtime: i64,
    /// The real-time period in microseconds.
    pub cpu_rt_period: i64,
    /// The processors, as a list like `0-2,7`.
    pub cpuset_cpus: String,
    /// The memory nodes, as a list.
    pub cpuset_mems: String,
    /// Lines of `major:minor bytes-per-second`.
    pub blkio_throttle_read_bps_device: String,
    /// Lines of `major:minor bytes-per-second`.
    pub blkio_throttle_write_bps_device: String,
    /// Lines of `major:minor operations-per-second`.
    pub blkio_throttle_read_iops_device: String,
    /// Lines of `major:minor operations-per-second`.
    pub blkio_throttle_write_iops_device: String,
    /// The weight of block I/O, 10 to 1000.
    pub blkio_weight: i64,
    /// Lines of `major:minor weight`.
    pub blkio_weight_device: String,
    /// Limits of huge pages.
    #[serde(with = "objects")]
    pub hugetlb_limit: Vec<HugetlbLimit>,
    /// Network priorities by interface.
    #[serde(with = "objects")]
    pub net_prio_ifpriomap: Vec<InterfacePriority>,
    /// The class of the container's packets, as a number or `0x` number.
    pub net_cls_classid: String,
    /// Addition: the largest number of processes; -1 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub pids_limit: i64,
    /// The wanted state of the freezer.
    pub freezer: Freezer,
    /// The systemd slice.
    pub slice: String,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Written out for the one value that is not 0: a swappiness of 0 is a limit.
impl Default for Cgroup {
    fn default() -> Self {
        Self {
            name: String::new(),
            parent: String::new(),
            allow_all_devices: false,
            allowed_devices: Vec::new(),
            denied_devices: Vec::new(),
            memory: 0,
            memory_reservation: 0,
            memory_swap: 0,
            kernel_memory: 0,
            memory_swappiness: -1,
            oom_kill_disable: false,
            cpu_shares: 0,
            cpu_quota: 0,
            cpu_period: 0,
            cpu_rt_runtime: 0,
            cpu_rt_period: 0,
            cpuset_cpus: String::new(),
            cpuset_mems: String::new(),
            blkio_throttle_read_bps_device: String::new(),
            blkio_throttle_write_bps_device: String::new(),
            blkio_throttle_read_iops_device: String::new(),
            blkio_throttle_write_iops_device: String::new(),
            blkio_weight: 0,
            blkio_weight_device: String::new(),
            hugetlb_limit: Vec::new(),
            net_prio_ifpriomap: Vec::new(),
            net_cls_classid: String::new(),
            pids_limit: 0,
            freezer: Freezer::Undefined,
            slice: String::new(),
        }
    }
}

/// The state of a freezer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Freezer {
    /// Left as it is.
    #[default]
    #[serde(rename = "")]
    Undefined,
    /// All processes stand still.
    #[serde(rename = "FROZEN")]
    Frozen,
    /// All processes run.
    #[serde(rename = "THAWED")]
    Thawed,
}

impl<'de> Deserialize<'de> for Freezer {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        match String::deserialize(reader)?.to_ascii_uppercase().as_str() {
            "" => Ok(Self::Undefined),
            "FROZEN" => Ok(Self::Frozen),
            "THAWED" => Ok(Self::Thawed),
            _ => Err(serde::de::Error::custom("expected FROZEN, THAWED or \"\"")),
        }
    }
}

/// A limit of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HugetlbLimit {
    /// The size of the pages, as in `2MB`.
    pub page_size: String,
    /// The limit in bytes. In files also text: `64m`.
    #[serde(deserialize_with = "size::deserialize_unsigned")]
    pub limit: u64,
}

/// The priority of packets leaving through an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfacePriority {
    /// The interface.
    pub interface: String,
    /// The priority.
    pub priority: i64,
}

impl Cgroup {
    pub(super) fn check(&self) -> Check {
        check_component("name", &self.name)?;
        check_parent(&self.parent)?;
        if !self.slice.is_empty() {
            check_component("slice", &self.slice)?;
        }
        each("allowed_devices", &self.allowed_devices, Device::check_rule)?;
        each("denied_devices", &self.denied_devices, Device::check_rule)?;
        self.check_memory()?;
        self.check_cpu()?;
        self.check_blkio()?;
        each("hugetlb_limit", &self.hugetlb_limit, |limit| {
            let digits = limit.page_size.bytes().take_while(u8::is_ascii_digit).count();
            let unit = &limit.page_size[digits..];
            if digits > 0 && matches!(unit, "KB" | "MB" | "GB") {
                return Ok(());
            }
            Err(Fault::text("page_size", &limit.page_size, "must be like 64KB, 2MB or 1GB"))
        })?;
        each("net_prio_ifpriomap", &self.net_prio_ifpriomap, |entry| {
            check_interface("interface", &entry.interface)?;
            in_range("priority", entry.priority, 0..=u32::MAX.into())
        })?;
        let classid = &self.net_cls_classid;
        if !classid.is_empty() && parse_classid(classid).is_none() {
            let reason = "must be a 32-bit number, decimal or with 0x";
            return Err(Fault::text("net_cls_classid", classid, reason));
        }
        at_least_no_limit("pids_limit", self.pids_limit)
    }

    fn check_memory(&self) -> Check {
        at_least_no_limit("memory", self.memory)?;
        at_least_no_limit("memory_reservation", self.memory_reservation)?;
        at_least_no_limit("memory_swap", self.memory_swap)?;
        at_least_no_limit("kernel_memory", self.kernel_memory)?;
        if self.memory_swap > 0 && self.memory_swap < self.memory {
            let reason = "below the memory limit, which is part of it";
            return Err(Fault::new("memory_swap", self.memory_swap, reason));
        }
        in_range("memory_swappiness", self.memory_swappiness, -1..=100)
    }

    fn check_cpu(&self) -> Check {
        // The kernel moves a share into its range without a word; the seed noticed that.
        match self.cpu_shares {
            0 | 2..=262_144 => {}
            shares if shares < 2 => {
                let reason = "the minimum allowed cpu-shares is 2";
                return Err(Fault::new("cpu_shares", shares, reason));
            }
            shares => {
                let reason = "the maximum allowed cpu-shares is 262144";
                return Err(Fault::new("cpu_shares", shares, reason));
            }
        }
        if self.cpu_period != 0 {
            in_range("cpu_period", self.cpu_period, 1000..=1_000_000)?;
        }
        if !matches!(self.cpu_quota, -1 | 0 | 1000..) {
            let reason = "must be at least 1000 microseconds, -1 or 0";
            return Err(Fault::new("cpu_quota", self.cpu_quota, reason));
        }
        in_range("cpu_rt_period", self.cpu_rt_period, 0..=i64::MAX)?;
        at_least_no_limit("cpu_rt_runtime", self.cpu_rt_runtime)?;
        if self.cpu_rt_period != 0 && self.cpu_rt_runtime > self.cpu_rt_period {
            let reason = "above the real-time period";
            return Err(Fault::new("cpu_rt_runtime", self.cpu_rt_runtime, reason));
        }
        check_list("cpuset_cpus", &self.cpuset_cpus)?;
        check_list("cpuset_mems", &self.cpuset_mems)
    }

    fn check_blkio(&self) -> Check {
        if self.blkio_weight != 0 {
            in_range("blkio_weight", self.blkio_weight, 10..=1000)?;
        }
        check_lines("blkio_weight_device", &self.blkio_weight_device)?;
        check_lines("blkio_throttle_read_bps_device", &self.blkio_throttle_read_bps_device)?;
        check_lines("blkio_throttle_write_bps_device", &self.blkio_throttle_write_bps_device)?;
        check_lines("blkio_throttle_read_iops_device", &self.blkio_throttle_read_iops_device)?;
        check_lines("blkio_throttle_write_iops_device", &self.blkio_throttle_write_iops_device)
    }
}

/// Refuses what is not one directory: the whole tree is writable for who starts containers, so a
/// path must not lead out of where it says it is.
fn check_component(field: &str, name: &str) -> Check {
    let reason = match name {
        "" => "missing",
        "." | ".." => "must not be . or ..",
        _ if name.contains('/') => "has a slash",
        // The kernel refuses a newline, and /proc/PID/cgroup has lines.
        _ if name.contains(char::is_control) => "has a control character",
        _ if name.len() > 255 => "longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(Fault::text(field, name, reason))
}

fn check_parent(parent: &str) -> Check {
    path::check("parent", parent)?;
    for component in parent.split('/').filter(|component| !component.is_empty()) {
        if let Err(fault) = check_component("parent", component) {
            return Err(fault.of_whole(parent));
        }
    }
    Ok(())
}

fn in_range(field: &str, number: i64, range: RangeInclusive<i64>) -> Check {
    if range.contains(&number) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    let reason = if most == i64::MAX {
        format!("must be at least {least}")
    } else {
        format!("must be from {least} to {most}")
    };
    Err(Fault::new(field, number, reason))
}

fn at_least_no_limit(field: &str, number: i64) -> Check {
    in_range(field, number, -1..=i64::MAX)
}

/// A list of cpuset(7): `0-2,7`, or with strides `0-31:1/4`. Empty leaves it.
fn check_list(field: &str, list: &str) -> Check {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => Some(number(first)? <= number(last)?),
        None => number(text).map(|_| true),
    };
    let element = |text: &str| match text.split_once(':') {
        Some((whole, stride)) => {
            let (used, group) = stride.split_once('/')?;
            let (used, group) = (number(used)?, number(group)?);
            range(whole).map(|fine| fine && used <= group && group > 0)
        }
        None => range(text),
    };
    if list.is_empty() || list.split(',').all(|text| element(text) == Some(true)) {
        return Ok(());
    }
    Err(Fault::text(field, list, "must be a list of numbers and ranges like 0-2,7"))
}

/// Lines of `major:minor value`.
fn check_lines(field: &str, lines: &str) -> Check {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok();
    let line = |line: &str| {
        let (device, value) = line.trim().split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        Some(number(major) && number(minor) && number(value.trim_start()))
    };
    if lines.lines().all(|text| text.trim().is_empty() || line(text) == Some(true)) {
        return Ok(());
    }
    Err(Fault::text(field, lines, "must be lines of major:minor and a number"))
}

fn parse_classid(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named() -> Cgroup {
        Cgroup { name: "x".into(), parent: "nsinit".into(), ..Cgroup::default() }
    }

    #[test]
    fn sizes_and_rules_are_numbers_or_text() {
        let cgroup: Cgroup = serde_json::from_str(
            r#"{"memory": "64m", "memory_swap": -1, "allowed_devices": ["c 1:3 rwm", {"type": 98}],
                "denied_devices": null, "hugetlb_limit": [{"page_size": "2MB", "limit": "4m"}],
                "freezer": "frozen"}"#,
        )
        .unwrap();
        assert_eq!((cgroup.memory, cgroup.memory_swap), (64 << 20, -1));
        assert_eq!(cgroup.allowed_devices[0].cgroup_string(), "c 1:3 rwm");
        assert_eq!(cgroup.hugetlb_limit[0].limit, 4 << 20);
        assert_eq!(cgroup.freezer, Freezer::Frozen);
        assert_eq!(cgroup.memory_swappiness, -1);
        let again: Cgroup = serde_json::from_value(serde_json::to_value(&cgroup).unwrap()).unwrap();
        assert_eq!(again, cgroup);
    }

    #[test]
    fn limits_in_range_pass() {
        named().check().unwrap();
        Cgroup {
            parent: "/a/b/".into(),
            memory: 64 << 20,
            memory_swap: 64 << 20,
            memory_swappiness: 0,
            cpu_shares: 2,
            cpu_quota: -1,
            cpu_period: 1000,
            cpu_rt_period: 100,
            cpu_rt_runtime: 100,
            cpuset_cpus: "0-2,7,8-15:1/2".into(),
            blkio_throttle_read_bps_device: "8:0 1048576\n8:16  7\n".into(),
            net_cls_classid: "0x100001".into(),
            ..named()
        }
        .check()
        .unwrap();
    }

    #[test]
    fn a_wrong_limit_is_named() {
        for (cgroup, field) in [
            (Cgroup::default(), "name"),
            (Cgroup { name: "..".into(), ..named() }, "name"),
            (Cgroup { name: "a/b".into(), ..named() }, "name"),
            (Cgroup { name: "a\nb".into(), ..named() }, "name"),
            (Cgroup { parent: "a/../..".into(), ..named() }, "parent"),
            (Cgroup { parent: "/..".into(), ..named() }, "parent"),
            (Cgroup { parent: "a/./b".into(), ..named() }, "parent"),
            (Cgroup { slice: "a/b".into(), ..named() }, "slice"),
            (Cgroup { memory: -2, ..named() }, "memory"),
            (Cgroup { memory: 2, memory_swap: 1, ..named() }, "memory_swap"),
            (Cgroup { memory_swappiness: 101, ..named() }, "memory_swappiness"),
            (Cgroup { cpu_shares: 1, ..named() }, "cpu_shares"),
            (Cgroup { cpu_shares: 262145, ..named() }, "cpu_shares"),
            (Cgroup { cpu_quota: 999, ..named() }, "cpu_quota"),
            (Cgroup { cpu_quota: -2, ..named() }, "cpu_quota"),
            (Cgroup { cpu_period: 999, ..named() }, "cpu_period"),
            (Cgroup { cpu_rt_runtime: 2, cpu_rt_period: 1, ..named() }, "cpu_rt_runtime"),
            (Cgroup { cpuset_cpus: "2-0".into(), ..named() }, "cpuset_cpus"),
            (Cgroup { cpuset_mems: "0,".into(), ..named() }, "cpuset_mems"),
            (Cgroup { blkio_weight: 9, ..named() }, "blkio_weight"),
            (Cgroup { blkio_weight_device: "8:0".into(), ..named() }, "blkio_weight_device"),
            (Cgroup { net_cls_classid: "0x".into(), ..named() }, "net_cls_classid"),
            (Cgroup { net_cls_classid: "+1".into(), ..named() }, "net_cls_classid"),
            (Cgroup { pids_limit: -2, ..named() }, "pids_limit"),
            (
                Cgroup { denied_devices: vec![Device::default()], ..named() },
                "denied_devices[0].type",
            ),
            (
                Cgroup { hugetlb_limit: vec![HugetlbLimit::default()], ..named() },
                "hugetlb_limit[0].page_size",
            ),
        ] {
            let text = crate::Error::from(cgroup.check().unwrap_err()).to_string();
            assert!(text.contains(&format!("`{field} = ")), "{field}: {text}");
        }
        let shares = Cgroup { cpu_shares: 1, ..named() }.check().unwrap_err();
        assert!(crate::Error::from(shares).to_string().contains("minimum allowed cpu-shares is 2"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = Cgroup {
                name: text.clone(),
                parent: text.clone(),
                cpuset_cpus: text.clone(),
                blkio_weight_device: text.clone(),
                net_cls_classid: text.clone(),
                ..named()
            }
            .check();
            let _ = (check_list("", &text), check_lines("", &text), check_parent(&text));
            parse_classid(&text);
        }
    }
}
