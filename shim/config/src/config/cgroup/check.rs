//! The validation of cgroups.

use std::ops::RangeInclusive;

use super::{CORE_FILES, Cgroup, RdmaLimit};
use crate::config::fault::{Check, Fault, each};
use crate::config::network::check_interface;
use crate::config::{Device, path};

impl Cgroup {
    pub(in crate::config) fn check(&self) -> Check {
        // Without a name, the container's id takes its place.
        if !self.name.is_empty() {
            check_component("name", &self.name)?;
        }
        check_parent(&self.parent)?;
        if !self.slice.is_empty() {
            check_component("slice", &self.slice)?;
        }
        each("allowed_devices", &self.allowed_devices, Device::check_rule)?;
        each("denied_devices", &self.denied_devices, Device::check_rule)?;
        each("device_rules", &self.device_rules, |rule| rule.device.check_rule())?;
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
        at_least_no_limit("pids_limit", self.pids_limit.unwrap_or_default())?;
        for (device, limit) in &self.rdma {
            check_rdma(device, *limit)?;
        }
        for (file, value) in &self.unified {
            check_unified(file, value)?;
        }
        Ok(())
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
        // The kernel clamps shares to its range without an error. libcontainer reported that, in
        // these words.
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
        let allowance = i64::try_from(self.cpu_burst.unwrap_or(0)).unwrap_or(i64::MAX);
        if self.cpu_quota > 0 && allowance > self.cpu_quota {
            return Err(Fault::new("cpu_burst", allowance, "above the quota"));
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
        if self.blkio_leaf_weight != 0 {
            in_range("blkio_leaf_weight", self.blkio_leaf_weight, 10..=1000)?;
        }
        check_lines("blkio_weight_device", &self.blkio_weight_device)?;
        check_lines("blkio_leaf_weight_device", &self.blkio_leaf_weight_device)?;
        check_lines("blkio_throttle_read_bps_device", &self.blkio_throttle_read_bps_device)?;
        check_lines("blkio_throttle_write_bps_device", &self.blkio_throttle_write_bps_device)?;
        check_lines("blkio_throttle_read_iops_device", &self.blkio_throttle_read_iops_device)?;
        check_lines("blkio_throttle_write_iops_device", &self.blkio_throttle_write_iops_device)
    }
}

/// Refuses a name that is not a single path component. A caller that starts containers can write to
/// the whole hierarchy, so a path must not lead out of the directory that it appears to name.
fn check_component(field: &str, name: &str) -> Check {
    let reason = match name {
        "" => "missing",
        "." | ".." => "must not be . or ..",
        _ if name.contains('/') => "has a slash",
        // The kernel refuses a newline, and /proc/PID/cgroup consists of lines.
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
            return Err(fault.with_whole_value(parent));
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

/// Checks a list in the format of `cpuset(7)`: `0-2,7`, or with strides `0-31:1/4`. An empty list
/// leaves the kernel's value.
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

/// Checks lines of `major:minor value`.
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

/// Checks limits that the kernel reads as `DEVICE hca_handle=N hca_object=N`.
fn check_rdma(device: &str, limit: RdmaLimit) -> Check {
    if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Fault::text("rdma", device, "is not the name of a device"));
    }
    if limit == RdmaLimit::default() {
        return Err(Fault::text("rdma", device, "has no limit"));
    }
    Ok(())
}

/// Refuses a name that is not that of one file of a controller, or of [`CORE_FILES`].
/// `cgroup.procs` and other files of the cgroup itself would move or stop processes, or take the
/// cgroup out of the runtime's control.
fn check_unified(file: &str, value: &str) -> Check {
    let reason = match file.split_once('.') {
        _ if file.contains('/') => "has a slash",
        _ if file.contains("..") => "contains ..",
        _ if file.contains(char::is_control) => "has a control character",
        Some(("cgroup", _)) if !CORE_FILES.contains(&file) => {
            "is a file of the cgroup itself, not of a controller"
        }
        Some((controller, rest)) if !controller.is_empty() && !rest.is_empty() => {
            if value.trim().is_empty() {
                return Err(Fault::text(&format!("unified.{file}"), value, "missing"));
            }
            return Ok(());
        }
        _ => "is not the name of a controller's file",
    };
    Err(Fault::text("unified", file, reason))
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
    use crate::config::{DeviceRule, HugetlbLimit};

    fn named() -> Cgroup {
        Cgroup { name: "x".into(), parent: "nsinit".into(), ..Cgroup::default() }
    }

    #[test]
    fn limits_in_range_are_valid() {
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
    fn errors_name_the_limit() {
        for (cgroup, field) in [
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
            (Cgroup { pids_limit: Some(-2), ..named() }, "pids_limit"),
            (Cgroup { cpu_quota: 1000, cpu_burst: Some(1001), ..named() }, "cpu_burst"),
            (Cgroup { blkio_leaf_weight: 1001, ..named() }, "blkio_leaf_weight"),
            (
                Cgroup { blkio_leaf_weight_device: "8:0".into(), ..named() },
                "blkio_leaf_weight_device",
            ),
            (
                Cgroup { device_rules: vec![DeviceRule::default()], ..named() },
                "device_rules[0].type",
            ),
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

    #[test]
    fn unified_accepts_files_of_controllers_only() {
        let check = |file: &str, value: &str| {
            let unified = [(file.to_owned(), value.to_owned())].into();
            Cgroup { unified, ..named() }.check()
        };
        check("memory.high", "max").unwrap();
        check("hugetlb.2MB.rsvd.max", "0").unwrap();
        check("cgroup.max.depth", "2").unwrap();
        for file in [
            "../x",
            "a/b.c",
            "memory..x",
            "cgroup.procs",
            "cgroup.max",
            "memory",
            ".max",
            "",
            "a.\n",
        ] {
            let text = crate::Error::from(check(file, "1").unwrap_err()).to_string();
            assert!(text.starts_with("configuration `unified = "), "{text}");
        }
        let text = crate::Error::from(check("pids.max", " \n").unwrap_err()).to_string();
        assert!(text.contains("`unified.pids.max = "), "{text}");
    }

    #[test]
    fn rdma_limits_need_a_device_and_a_number() {
        let check = |device: &str, limit| {
            Cgroup { rdma: [(device.to_owned(), limit)].into(), ..named() }.check()
        };
        let limit = RdmaLimit { hca_handles: Some(2), hca_objects: None };
        check("mlx5_0", limit).unwrap();
        for (device, limit) in
            [("", limit), ("a b", limit), ("a\n", limit), ("a", RdmaLimit::default())]
        {
            assert!(check(device, limit).is_err(), "{device:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text: String) {
            let _ = Cgroup {
                name: text.clone(),
                parent: text.clone(),
                cpuset_cpus: text.clone(),
                blkio_weight_device: text.clone(),
                net_cls_classid: text.clone(),
                unified: [(text.clone(), text.clone())].into(),
                ..named()
            }
            .check();
            let _ = (check_list("", &text), check_lines("", &text), check_parent(&text));
            parse_classid(&text);
        }
    }
}
