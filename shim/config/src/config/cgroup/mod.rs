//! The control group and its limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::device::{DeviceRule, rules};
use super::json::{list, map, objects};
use super::{Device, size};

mod check;

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
    /// Addition: rules about devices that follow those above, each one overriding those before it.
    /// As text: `allow c 1:3 rwm`, `deny a *:* rwm`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_rules: Vec<DeviceRule>,
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
    /// Addition: whether a limit of memory that is below what is in use is refused. cgroup v1
    /// always does; on cgroup v2 the kernel would kill processes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory_check_before_update: bool,
    /// The share of the processor, 2 to 262144.
    pub cpu_shares: i64,
    /// Microseconds of processor time in each period, 1000 at least; -1 for no limit.
    pub cpu_quota: i64,
    /// The period in microseconds, 1000 to 1000000.
    pub cpu_period: i64,
    /// Addition: microseconds of unused processor time that may be used beyond the quota later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_burst: Option<u64>,
    /// Addition: whether the processes run only when nothing else wants the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_idle: Option<bool>,
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
    /// Addition: the weight of block I/O of the cgroup's own processes beside its sub-cgroups, 10
    /// to 1000; cgroup v1 with a scheduler that Linux had until 5.0.
    #[serde(skip_serializing_if = "is_zero")]
    pub blkio_leaf_weight: i64,
    /// Addition: lines of `major:minor weight` for `blkio_leaf_weight`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub blkio_leaf_weight_device: String,
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
    /// Addition: limits of RDMA resources by the name of the device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// Addition: texts for files of cgroup v2, written last; one write for each line.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
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
            pids_limit: 0,
            rdma: BTreeMap::new(),
            unified: BTreeMap::new(),
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

/// A limit of RDMA resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RdmaLimit {
    /// The largest number of open handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// The largest number of objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
