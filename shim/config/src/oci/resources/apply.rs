//! The lowering of `linux.resources` to a cgroup.

use std::fmt::Write;

use super::{BlockIo, Cpu, Device, Memory, Network, Resources, ThrottleDevice};
use crate::config::{self, DeviceRule, HugetlbLimit, InterfacePriority, RdmaLimit, default};
use crate::error::{Error, Result};

impl Resources {
    /// Overlays the given resources on a cgroup's limits.
    ///
    /// Clients send 0 for "not set" in shares, quotas, periods, weights, and limits of memory and
    /// processes. As with runc, it leaves the value unchanged. Device rules, if there are any,
    /// replace all earlier ones and are followed by the runtime's own.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) with the property that is not supported.
    /// [`config::Config::validate`] checks the ranges.
    pub fn apply(&self, cgroup: &mut config::Cgroup) -> Result<()> {
        if !self.devices.is_empty() {
            cgroup.allow_all_devices = false;
            cgroup.allowed_devices.clear();
            cgroup.denied_devices.clear();
            cgroup.device_rules = device_rules(&self.devices)?;
        }
        if let Some(memory) = &self.memory {
            memory.apply(cgroup)?;
        }
        if let Some(cpu) = &self.cpu {
            cpu.apply(cgroup)?;
        }
        if let Some(limit) = self.pids.and_then(|pids| pids.limit) {
            // Clients use any number below 0 for "unlimited", `Cgroup` uses -1.
            cgroup.pids_limit = Some(limit.max(-1));
        }
        if let Some(block_io) = &self.block_io {
            block_io.apply(cgroup);
        }
        for limit in &self.hugepage_limits {
            cgroup.hugetlb_limit.retain(|earlier| earlier.page_size != limit.page_size);
            let page_size = limit.page_size.clone();
            cgroup.hugetlb_limit.push(HugetlbLimit { page_size, limit: limit.limit });
        }
        if let Some(network) = &self.network {
            network.apply(cgroup);
        }
        for (device, limit) in self.rdma.iter().flatten() {
            let limit =
                RdmaLimit { hca_handles: limit.hca_handles, hca_objects: limit.hca_objects };
            cgroup.rdma.insert(device.clone(), limit);
        }
        cgroup.unified.extend(self.unified.clone());
        Ok(())
    }
}

impl Memory {
    fn apply(&self, cgroup: &mut config::Cgroup) -> Result<()> {
        set(&mut cgroup.memory, self.limit);
        set(&mut cgroup.memory_reservation, self.reservation);
        set(&mut cgroup.memory_swap, self.swap);
        // -1 means no limit, which every kernel has.
        set(&mut cgroup.kernel_memory, self.kernel.filter(|&limit| limit != -1));
        if let Some(limit) = self.kernel_tcp.filter(|limit| !matches!(limit, -1 | 0)) {
            let reason = "is not supported; TCP buffers count as memory";
            return Err(Error::config("linux.resources.memory.kernelTCP", limit, reason));
        }
        if let Some(swappiness) = self.swappiness {
            cgroup.memory_swappiness = number("memory.swappiness", swappiness)?;
        }
        if self.use_hierarchy == Some(false) {
            let reason = "sub-cgroups always count as part of the cgroup";
            return Err(Error::config("linux.resources.memory.useHierarchy", false, reason));
        }
        cgroup.oom_kill_disable = self.disable_oom_killer.unwrap_or(cgroup.oom_kill_disable);
        if let Some(check) = self.check_before_update {
            cgroup.memory_check_before_update = check;
        }
        Ok(())
    }
}

impl Cpu {
    fn apply(&self, cgroup: &mut config::Cgroup) -> Result<()> {
        let unsigned =
            |field, value: Option<u64>| value.map(|value| number(field, value)).transpose();
        set(&mut cgroup.cpu_shares, unsigned("cpu.shares", self.shares)?);
        set(&mut cgroup.cpu_quota, self.quota);
        set(&mut cgroup.cpu_period, unsigned("cpu.period", self.period)?);
        set(&mut cgroup.cpu_rt_runtime, self.realtime_runtime);
        set(&mut cgroup.cpu_rt_period, unsigned("cpu.realtimePeriod", self.realtime_period)?);
        cgroup.cpu_burst = self.burst.or(cgroup.cpu_burst);
        cgroup.cpu_idle = match self.idle {
            None => cgroup.cpu_idle,
            Some(idle @ 0..=1) => Some(idle == 1),
            Some(idle) => {
                return Err(Error::config("linux.resources.cpu.idle", idle, "must be 0 or 1"));
            }
        };
        for (list, given) in
            [(&mut cgroup.cpuset_cpus, &self.cpus), (&mut cgroup.cpuset_mems, &self.mems)]
        {
            if let Some(given) = given.as_ref().filter(|given| !given.is_empty()) {
                list.clone_from(given);
            }
        }
        Ok(())
    }
}

impl BlockIo {
    fn apply(&self, cgroup: &mut config::Cgroup) {
        set(&mut cgroup.blkio_weight, self.weight.map(i64::from));
        set(&mut cgroup.blkio_leaf_weight, self.leaf_weight.map(i64::from));
        let weights = |of: fn(&super::WeightDevice) -> Option<u16>| {
            let given = self.weight_device.iter().filter_map(move |device| {
                let weight = of(device).filter(|&weight| weight != 0)?;
                Some((device.major, device.minor, weight.into()))
            });
            lines(given)
        };
        let rates = |devices: &[ThrottleDevice]| {
            lines(devices.iter().map(|device| (device.major, device.minor, device.rate)))
        };
        for (text, given) in [
            (&mut cgroup.blkio_weight_device, weights(|device| device.weight)),
            (&mut cgroup.blkio_leaf_weight_device, weights(|device| device.leaf_weight)),
            (&mut cgroup.blkio_throttle_read_bps_device, rates(&self.throttle_read_bps_device)),
            (&mut cgroup.blkio_throttle_write_bps_device, rates(&self.throttle_write_bps_device)),
            (&mut cgroup.blkio_throttle_read_iops_device, rates(&self.throttle_read_iops_device)),
            (&mut cgroup.blkio_throttle_write_iops_device, rates(&self.throttle_write_iops_device)),
        ] {
            if !given.is_empty() {
                *text = given;
            }
        }
    }
}

impl Network {
    fn apply(&self, cgroup: &mut config::Cgroup) {
        if let Some(class) = self.class_id.filter(|&class| class != 0) {
            cgroup.net_cls_classid = class.to_string();
        }
        for given in &self.priorities {
            cgroup.net_prio_ifpriomap.retain(|earlier| earlier.interface != given.name);
            let interface = given.name.clone();
            let priority = given.priority.into();
            cgroup.net_prio_ifpriomap.push(InterfacePriority { interface, priority });
        }
    }
}

/// Sets a number unless the given one is absent or 0.
fn set(field: &mut i64, given: Option<i64>) {
    if let Some(number) = given.filter(|&number| number != 0) {
        *field = number;
    }
}

fn number(field: &str, value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| {
        Error::config(format!("linux.resources.{field}"), value, "is larger than the kernel takes")
    })
}

/// Formats numbers for devices as the configuration has them: lines of `major:minor number`.
fn lines(devices: impl Iterator<Item = (i64, i64, u64)>) -> String {
    let mut text = String::new();
    for (major, minor, number) in devices {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{major}:{minor} {number}");
    }
    text
}

/// Returns the given rules followed by those that a configuration cannot take away, as with runc:
/// all nodes may be made, and the devices that every container has, and ptys, may be opened.
pub(super) fn device_rules(given: &[Device]) -> Result<Vec<DeviceRule>> {
    let rules = given.iter().enumerate().map(|(index, rule)| device_rule(index, rule));
    let mut rules = rules.collect::<Result<Vec<_>>>()?;
    let own = |kind, major, minor, permissions: &str| config::Device {
        kind,
        major,
        minor,
        permissions: permissions.to_owned(),
        ..config::Device::default()
    };
    let mut allowed = vec![own('c', -1, -1, "m"), own('b', -1, -1, "m")];
    for node in default::simple_devices() {
        allowed.push(own(node.kind, node.major, node.minor, &node.permissions));
    }
    allowed.extend([own('c', 136, -1, "rwm"), own('c', 5, 2, "rwm")]);
    rules.extend(allowed.into_iter().map(|device| DeviceRule { allow: true, device }));
    Ok(rules)
}

fn device_rule(index: usize, rule: &Device) -> Result<DeviceRule> {
    let refuse = |property: &str, value: &str, reason: &'static str| {
        let field = format!("linux.resources.devices[{index}].{property}");
        Err(Error::config(field, value, reason))
    };
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => 'a',
        Some("b") => 'b',
        Some("c") => 'c',
        Some(other) => return refuse("type", other, "must be a, b or c"),
    };
    let permissions = rule.access.clone().unwrap_or_default();
    if permissions.is_empty() {
        return refuse("access", "", "missing");
    }
    let device = config::Device {
        kind,
        major: rule.major.unwrap_or(-1),
        minor: rule.minor.unwrap_or(-1),
        permissions,
        ..config::Device::default()
    };
    Ok(DeviceRule { allow: rule.allow, device })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::json::parse;

    fn resources(json: &str) -> Resources {
        parse(json.as_bytes(), "").unwrap()
    }

    fn overlaid(json: &str, cgroup: &config::Cgroup) -> config::Cgroup {
        let mut cgroup = cgroup.clone();
        resources(json).apply(&mut cgroup).unwrap();
        cgroup
    }

    fn refused(json: &str) -> String {
        let mut cgroup = config::Cgroup::default();
        resources(json).apply(&mut cgroup).unwrap_err().to_string()
    }

    #[test]
    fn properties_are_lowered_to_fields() {
        let json = r#"{
            "memory": {"limit": 64, "reservation": 32, "swap": 128, "kernel": 16, "swappiness": 0,
                "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
            "cpu": {"shares": 512, "quota": 20000, "burst": 0, "period": 10000,
                "realtimeRuntime": 5, "realtimePeriod": 6, "cpus": "0-1", "mems": "0", "idle": 1},
            "pids": {"limit": 7},
            "blockIO": {"weight": 10, "leafWeight": 20,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300},
                    {"major": 8, "minor": 16, "weight": 0, "leafWeight": 400}],
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 9}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3}},
            "unified": {"memory.high": "1"}
        }"#;
        let expected = config::Cgroup {
            memory: 64,
            memory_reservation: 32,
            memory_swap: 128,
            kernel_memory: 16,
            memory_swappiness: 0,
            oom_kill_disable: true,
            memory_check_before_update: true,
            cpu_shares: 512,
            cpu_quota: 20_000,
            cpu_burst: Some(0),
            cpu_period: 10_000,
            cpu_rt_runtime: 5,
            cpu_rt_period: 6,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            cpu_idle: Some(true),
            pids_limit: Some(7),
            blkio_weight: 10,
            blkio_leaf_weight: 20,
            blkio_weight_device: "8:0 500\n".into(),
            blkio_leaf_weight_device: "8:0 300\n8:16 400\n".into(),
            blkio_throttle_read_bps_device: "8:0 1\n".into(),
            blkio_throttle_write_bps_device: "8:0 2\n".into(),
            blkio_throttle_read_iops_device: "8:0 3\n".into(),
            blkio_throttle_write_iops_device: "8:0 0\n".into(),
            hugetlb_limit: vec![HugetlbLimit { page_size: "2MB".into(), limit: 0 }],
            net_cls_classid: "5".into(),
            net_prio_ifpriomap: vec![InterfacePriority { interface: "lo".into(), priority: 9 }],
            rdma: [("mlx5_1".into(), RdmaLimit { hca_handles: Some(3), hca_objects: None })].into(),
            unified: [("memory.high".into(), "1".into())].into(),
            ..config::Cgroup::default()
        };
        assert_eq!(overlaid(json, &config::Cgroup::default()), expected);
        // An update leaves what it does not mention or sets to 0.
        let zeros = r#"{
            "memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0,
                "realtimePeriod": 0, "cpus": "", "mems": ""},
            "blockIO": {"weight": 0, "leafWeight": 0},
            "network": {"classID": 0}
        }"#;
        for json in ["{}", zeros] {
            assert_eq!(overlaid(json, &expected), expected);
            assert_eq!(overlaid(json, &config::Cgroup::default()), config::Cgroup::default());
        }
        assert_eq!(overlaid(r#"{"pids": {"limit": 0}}"#, &expected).pids_limit, Some(0));
    }

    #[test]
    fn update_replaces_the_given_properties_only() {
        let before = config::Cgroup {
            memory: 64,
            oom_kill_disable: true,
            cpu_idle: Some(true),
            hugetlb_limit: vec![HugetlbLimit { page_size: "2MB".into(), limit: 1 }],
            unified: [("a.b".into(), "1".into()), ("c.d".into(), "2".into())].into(),
            ..config::Cgroup::default()
        };
        let json = r#"{"memory": {"limit": -1, "disableOOMKiller": false}, "cpu": {"idle": 0},
            "pids": {"limit": -3}, "hugepageLimits": [{"pageSize": "2MB", "limit": 2}],
            "unified": {"c.d": "3"}}"#;
        let after = overlaid(json, &before);
        assert_eq!((after.memory, after.pids_limit), (-1, Some(-1)));
        assert_eq!((after.oom_kill_disable, after.cpu_idle), (false, Some(false)));
        assert_eq!(after.hugetlb_limit[0].limit, 2);
        assert_eq!(after.hugetlb_limit.len(), 1);
        assert_eq!((&*after.unified["a.b"], &*after.unified["c.d"]), ("1", "3"));
    }

    #[test]
    fn device_rules_keep_their_order_and_are_followed_by_the_runtimes() {
        let given = r#"{"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "access": "rw"},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"}]}"#;
        let before = config::Cgroup {
            allow_all_devices: true,
            denied_devices: vec![config::Device::default()],
            ..config::Cgroup::default()
        };
        let cgroup = overlaid(given, &before);
        assert!(!cgroup.allow_all_devices && cgroup.denied_devices.is_empty());
        let rules: Vec<String> = cgroup.device_rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            rules,
            [
                "deny a *:* rwm",
                "allow c 10:* rw",
                "deny b 8:1 w",
                "allow c *:* m",
                "allow b *:* m",
                "allow c 1:3 rwm",
                "allow c 1:5 rwm",
                "allow c 1:7 rwm",
                "allow c 5:0 rwm",
                "allow c 1:9 rwm",
                "allow c 1:8 rwm",
                "allow c 136:* rwm",
                "allow c 5:2 rwm",
            ]
        );
        // An update without rules leaves the existing ones.
        assert_eq!(overlaid("{}", &cgroup).device_rules, cgroup.device_rules);
    }

    #[test]
    fn unsupported_values_are_refused() {
        for (json, field) in [
            (r#"{"memory": {"kernelTCP": 1}}"#, "memory.kernelTCP = 1"),
            (r#"{"memory": {"useHierarchy": false}}"#, "memory.useHierarchy = false"),
            (r#"{"memory": {"swappiness": 18446744073709551615}}"#, "memory.swappiness = 1844"),
            (r#"{"cpu": {"shares": 9223372036854775808}}"#, "cpu.shares = 9223372036854775808"),
            (r#"{"cpu": {"idle": 2}}"#, "cpu.idle = 2"),
            (r#"{"devices": [{"allow": true}]}"#, "devices[0].access"),
            (
                r#"{"devices": [{"allow": true, "type": "p", "access": "r"}]}"#,
                "devices[0].type = p",
            ),
        ] {
            let text = refused(json);
            assert!(text.contains(&format!("`linux.resources.{field}")), "{text}");
        }
        assert!(refused(r#"{"memory": {"kernelTCP": 1}}"#).contains("not supported"));
    }
}
