//! The cgroup of a container and its limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::device::{DeviceRule, rules};
use super::json::{list, map, objects};
use super::{Device, size};

mod check;

/// The files that every cgroup of cgroup v2 has and that [`Cgroup::unified`] may set: they limit
/// what is made below the cgroup, or turn the accounting of pressure off.
pub const CORE_FILES: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

/// The cgroup of a container and its limits.
///
/// A number of 0 and an empty string leave the kernel's value, except in `memory_swappiness`, where
/// 0 is a value and -1 leaves the kernel's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// The last component of the path. If it is empty, the container's id takes its place, so that
    /// containers of one configuration have different cgroups.
    pub name: String,
    /// The rest of the path. An absolute path starts at the mount point of the hierarchy, a
    /// relative one at the caller's cgroup.
    pub parent: String,
    /// Whether all devices are allowed except `denied_devices`.
    pub allow_all_devices: bool,
    /// The devices to allow if `allow_all_devices` is false. Files may use text: `c 1:3 rwm`.
    #[serde(deserialize_with = "rules", serialize_with = "list::serialize")]
    pub allowed_devices: Vec<Device>,
    /// The devices to deny if `allow_all_devices` is true. Files may use text: `c 1:3 rwm`.
    #[serde(deserialize_with = "rules", serialize_with = "list::serialize")]
    pub denied_devices: Vec<Device>,
    /// Addition: device rules that follow the above. Each rule overrides those before it. They are
    /// text: `allow c 1:3 rwm`, `deny a *:* rwm`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_rules: Vec<DeviceRule>,
    /// The memory limit in bytes; -1 for no limit. Files may use text for sizes: `64m`.
    #[serde(deserialize_with = "size::deserialize")]
    pub memory: i64,
    /// The soft memory limit in bytes; -1 for no limit.
    #[serde(deserialize_with = "size::deserialize")]
    pub memory_reservation: i64,
    /// The limit of memory and swap together, in bytes; -1 for no limit.
    #[serde(deserialize_with = "size::deserialize")]
    pub memory_swap: i64,
    /// The kernel memory limit in bytes; -1 for no limit.
    #[serde(deserialize_with = "size::deserialize")]
    pub kernel_memory: i64,
    /// The swappiness, 0 to 100; -1 leaves the kernel's value.
    pub memory_swappiness: i64,
    /// Whether the OOM killer is disabled.
    pub oom_kill_disable: bool,
    /// Addition: whether to refuse a memory limit below the current usage. cgroup v1 always refuses
    /// it; on cgroup v2 the kernel would kill processes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory_check_before_update: bool,
    /// The CPU shares, 2 to 262144.
    pub cpu_shares: i64,
    /// The CPU time in each period in microseconds, at least 1000; -1 for no limit.
    pub cpu_quota: i64,
    /// The period in microseconds, 1000 to 1000000.
    pub cpu_period: i64,
    /// Addition: the unused CPU time that may later be used beyond the quota, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_burst: Option<u64>,
    /// Addition: whether the processes run only when no other process needs the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_idle: Option<bool>,
    /// The time of real-time scheduling in each real-time period, in microseconds; -1 for no limit.
    pub cpu_rt_runtime: i64,
    /// The real-time period in microseconds.
    pub cpu_rt_period: i64,
    /// The CPUs, as a list such as `0-2,7`.
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
    /// Addition: the weight of block I/O of the cgroup's own processes relative to its child
    /// cgroups, 10 to 1000. Needs cgroup v1 and a scheduler that Linux had until 5.0.
    #[serde(skip_serializing_if = "is_zero")]
    pub blkio_leaf_weight: i64,
    /// Addition: lines of `major:minor weight` for `blkio_leaf_weight`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub blkio_leaf_weight_device: String,
    /// The limits of huge pages.
    #[serde(with = "objects")]
    pub hugetlb_limit: Vec<HugetlbLimit>,
    /// The network priorities by interface.
    #[serde(with = "objects")]
    pub net_prio_ifpriomap: Vec<InterfacePriority>,
    /// The class of the container's packets, as a decimal or `0x` number.
    pub net_cls_classid: String,
    /// Addition: the maximum number of processes; -1 for no limit. With 0 or 1, the first process
    /// starts and cannot fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// Addition: the limits of RDMA resources by the name of the device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// Addition: values for files of cgroup v2, by the name of the file. They are written last,
    /// with one write for each line.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
    /// The state of the freezer to set.
    pub freezer: Freezer,
    /// Addition: whether systemd makes the cgroup, as the scope `parent-name.scope`. Needs cgroup
    /// v2.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub systemd: bool,
    /// The systemd slice of the scope, such as `machine-build.slice`. If it is empty:
    /// `system.slice`, or `user.slice` in the service manager of a user.
    pub slice: String,
    /// Addition: further properties of the scope by name, as in `org.freedesktop.systemd1(5)`. The
    /// values are text in the format of `GVariant`: `uint64 5`, `'text'`, `@as []`. Of a name
    /// that ends in `Sec`, the value is in seconds.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub systemd_properties: BTreeMap<String, String>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Not derived, because the default of `memory_swappiness` is not 0: a swappiness of 0 is a limit.
impl Default for Cgroup {
    fn default() -> Self {
        Self {
            name: String::new(),
            parent: String::new(),
            allow_all_devices: false,
            allowed_devices: Vec::new(),
            denied_devices: Vec::new(),
            device_rules: Vec::new(),
            memory: 0,
            memory_reservation: 0,
            memory_swap: 0,
            kernel_memory: 0,
            memory_swappiness: -1,
            oom_kill_disable: false,
            memory_check_before_update: false,
            cpu_shares: 0,
            cpu_quota: 0,
            cpu_period: 0,
            cpu_burst: None,
            cpu_idle: None,
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
            blkio_leaf_weight: 0,
            blkio_leaf_weight_device: String::new(),
            hugetlb_limit: Vec::new(),
            net_prio_ifpriomap: Vec::new(),
            net_cls_classid: String::new(),
            pids_limit: None,
            rdma: BTreeMap::new(),
            unified: BTreeMap::new(),
            freezer: Freezer::Undefined,
            systemd: false,
            slice: String::new(),
            systemd_properties: BTreeMap::new(),
        }
    }
}

/// The state of the freezer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Freezer {
    /// Unchanged.
    #[default]
    #[serde(rename = "")]
    Undefined,
    /// All processes are suspended.
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
    /// The page size, such as `2MB`.
    pub page_size: String,
    /// The limit in bytes. Files may use text: `64m`.
    #[serde(deserialize_with = "size::deserialize_unsigned")]
    pub limit: u64,
}

/// The priority of packets that leave through an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfacePriority {
    /// The name of the interface.
    pub interface: String,
    /// The priority.
    pub priority: i64,
}

/// The limits of the RDMA resources of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RdmaLimit {
    /// The maximum number of open handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// The maximum number of objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_device_rules_may_be_text() {
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
}
