//! The object `linux.resources` of `config.json`, which `update` reads, too.
//!
//! The types are the specification's. They are lowered to a [`Cgroup`](crate::config::Cgroup),
//! which covers both versions of cgroups.
//!
//! Reference:
//! <https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#control-groups>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::json::{map, object, objects};

mod apply;
mod path;

pub use path::{cgroup, use_directory, use_scope};

/// The limits of a container's cgroup.
///
/// A property that is absent sets no limit, and neither does 0 where 0 cannot be a limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// The device rules, in order: the last one that matches decides.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Memory limits.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// CPU limits.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The limit of processes and threads.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block I/O limits.
    #[serde(
        rename = "blockIO",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub block_io: Option<BlockIo>,
    /// Limits of huge pages.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// The class and priorities of packets; cgroup v1 only.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Limits of RDMA resources by the name of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<BTreeMap<String, Rdma>>,
    /// Values for files of cgroup v2, by the name of the file.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// A device rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Whether the rule allows; otherwise it denies.
    pub allow: bool,
    /// `c` or `b`; `a` or absent for both.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The major number; absent or -1 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The minor number; absent or -1 for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Letters of `rwm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// Memory limits in bytes; -1 for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Memory {
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The soft limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// The limit of memory and swap together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// The kernel memory limit, which current kernels do not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// The limit of kernel buffers for TCP; refused.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// The swappiness, 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Whether the OOM killer is disabled; cgroup v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Whether child cgroups count as part of the cgroup. They always do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Whether to refuse a limit below the current usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// CPU limits; times are in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// The CPU shares relative to other cgroups, 2 to 262144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// The CPU time in each period; -1 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// The unused CPU time that may later be used beyond the quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// The time of real-time scheduling in each real-time period; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The real-time period; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// The CPUs, as a list such as `0-2,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// The memory nodes, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1 for processes that run only when no other process needs the CPU, otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// The limit of processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// The maximum number; below 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Weights and limits of block I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// The weight relative to other cgroups, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own processes relative to its child cgroups; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes to read per second, by device.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes to write per second, by device.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second, by device.
    #[serde(
        rename = "throttleReadIOPSDevice",
        with = "objects",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second, by device.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        with = "objects",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// The weights for a block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// The major number.
    pub major: i64,
    /// The minor number.
    pub minor: i64,
    /// The weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// A limit for a block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// The major number.
    pub major: i64,
    /// The minor number.
    pub minor: i64,
    /// Bytes or operations per second; 0 for no limit.
    pub rate: u64,
}

/// A limit of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// The page size, such as `2MB`.
    pub page_size: String,
    /// The limit in bytes.
    pub limit: u64,
}

/// The class and priorities of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The class of the container's packets.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<InterfacePriority>,
}

/// The priority of packets that leave through an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePriority {
    /// The name of the interface.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

/// The limits of the RDMA resources of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    /// The maximum number of open handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// The maximum number of objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::config::json::parse;

    const EVERYTHING: &str = r#"{
        "devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
        "memory": {"limit": 536870912, "reservation": 536870912, "swap": 536870912, "kernel": -1,
            "kernelTCP": -1, "swappiness": 0, "disableOOMKiller": false, "useHierarchy": true,
            "checkBeforeUpdate": false},
        "cpu": {"shares": 1024, "quota": 1000000, "burst": 1000000, "period": 500000,
            "realtimeRuntime": 950000, "realtimePeriod": 1000000, "cpus": "2-3", "mems": "0-7",
            "idle": 0},
        "pids": {"limit": 32771},
        "blockIO": {"weight": 10, "leafWeight": 10,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 601}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 602}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 209715200}],
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
        "unified": {"io.max": "259:0 rbps=2097152 wiops=120\n253:0 rbps=2097152"}
    }"#;

    #[test]
    fn properties_are_unchanged_by_reading_and_writing() {
        let resources: Resources = parse(EVERYTHING.as_bytes(), "").unwrap();
        let written = serde_json::to_value(&resources).unwrap();
        let read: serde_json::Value = serde_json::from_str(EVERYTHING).unwrap();
        assert_eq!(written, read);
        assert_eq!(serde_json::to_string(&Resources::default()).unwrap(), "{}");
    }

    #[test]
    fn null_and_unknown_properties_are_ignored() {
        let json = r#"{"devices": null, "memory": null, "cpu": {"shares": null, "later": 1},
            "rdma": null, "unified": null, "hugepageLimits": null, "later": {}}"#;
        let resources: Resources = parse(json.as_bytes(), "").unwrap();
        assert_eq!(resources, Resources { cpu: Some(Cpu::default()), ..Resources::default() });
    }

    proptest! {
        #[test]
        fn arbitrary_numbers_and_text_do_not_panic(number: i64, unsigned: u64, text: String) {
            let text = serde_json::to_string(&text).unwrap();
            let json = format!(
                r#"{{"devices": [{{"allow": true, "type": {text}, "major": {number}}},
                    {{"allow": false, "major": {number}, "minor": {number}, "access": {text}}}],
                "memory": {{"limit": {number}, "swap": {number}, "swappiness": {unsigned}}},
                "cpu": {{"shares": {unsigned}, "quota": {number}, "burst": {unsigned},
                    "cpus": {text}}},
                "pids": {{"limit": {number}}},
                "blockIO": {{"throttleReadBpsDevice":
                    [{{"major": {number}, "minor": {number}, "rate": {unsigned}}}]}},
                "hugepageLimits": [{{"pageSize": {text}, "limit": {unsigned}}}],
                "rdma": {{{text}: {{"hcaHandles": 1}}}}, "unified": {{{text}: {text}}}}}"#
            );
            let resources: Resources = parse(json.as_bytes(), "").unwrap();
            if let Ok(cgroup) = cgroup(&text, "id", Some(&resources)) {
                let _ = Config { cgroups: Some(cgroup), ..Config::default() }.validate();
            }
        }
    }

    #[test]
    fn errors_have_property_and_value() {
        for (json, place) in [
            (r#"{"memory": {"limit": "1g"}}"#, "memory.limit = \"1g\""),
            (r#"{"memory": []}"#, "memory"),
            (r#"{"cpu": {"shares": -1}}"#, "cpu.shares = -1"),
            (r#"{"devices": [{"access": "rwm"}]}"#, "devices[0]"),
            (r#"{"devices": [[true]]}"#, "devices[0]"),
            (r#"{"blockIO": {"weight": 65536}}"#, "blockIO.weight = 65536"),
            (r#"{"hugepageLimits": [{"pageSize": "2MB"}]}"#, "hugepageLimits[0]"),
            (r#"{"unified": {"a.b": 1}}"#, "unified"),
        ] {
            let text = parse::<Resources>(json.as_bytes(), "").unwrap_err().to_string();
            assert!(text.contains(place), "{json}: {text}");
        }
    }
}
