//! The object `linux.resources` of `config.json`, which is also what `update` is given.
//!
//! The types are the specification's. What they ask for becomes a
//! [`Cgroup`](crate::config::Cgroup), which knows both versions of cgroups.
//!
//! Reference: <https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#control-groups>.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::json::{map, object, objects};

mod apply;
mod path;

pub use path::cgroup;

/// What the container may use of the machine.
///
/// What is absent, and a number of 0 where it could not be meant as a limit, asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Rules about devices in their order: the last one that fits decides.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Memory.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The processor.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Processes and threads.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(
        rename = "blockIO",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Marks and priorities of packets; cgroup v1 only.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// RDMA resources by the name of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<BTreeMap<String, Rdma>>,
    /// Texts for files of cgroup v2 by the name of the file.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// A rule about devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Whether it allows, otherwise it denies.
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

/// Limits of memory, in bytes; -1 for none.
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
    /// The limit of the kernel's memory, which kernels have no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// The limit of the kernel's buffers for TCP; refused.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// How eagerly the kernel swaps, 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Whether the OOM killer is off; cgroup v1 only.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Whether sub-cgroups count as part of the cgroup; they always do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Whether a limit below what is in use is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// Limits of the processor; times are in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cpu {
    /// The share beside other cgroups, 2 to 262144.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Processor time in each period; -1 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Unused processor time that may be used beyond the quota later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Time of real-time scheduling in each of its periods; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The period of real-time scheduling; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// The processors, as a list like `0-2,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// The memory nodes, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1 for processes that run only when nothing else wants the processor, or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// A limit of processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// The largest number; below 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Weights and limits of block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIo {
    /// The weight beside other cgroups, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own processes beside its sub-cgroups; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights for single devices.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes that may be read in a second.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes that may be written in a second.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads in a second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        with = "objects",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes in a second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        with = "objects",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// The weights for one block device.
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

/// The limit for one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// The major number.
    pub major: i64,
    /// The minor number.
    pub minor: i64,
    /// Bytes or operations in a second; 0 for no limit.
    pub rate: u64,
}

/// A limit of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// The size of the pages, as in `2MB`.
    pub page_size: String,
    /// The limit in bytes.
    pub limit: u64,
}

/// Marks and priorities of packets.
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

/// The priority of packets leaving through an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePriority {
    /// The interface.
    pub name: String,
    /// The priority.
    pub priority: u32,
}

/// A limit of RDMA resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rdma {
    /// The largest number of open handles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// The largest number of objects.
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
    fn every_property_is_read_and_written_again() {
        let resources: Resources = parse(EVERYTHING.as_bytes(), "").unwrap();
        let written = serde_json::to_value(&resources).unwrap();
        let read: serde_json::Value = serde_json::from_str(EVERYTHING).unwrap();
        assert_eq!(written, read);
        assert_eq!(serde_json::to_string(&Resources::default()).unwrap(), "{}");
    }

    #[test]
    fn null_is_absent_and_the_unknown_is_left_alone() {
        let json = r#"{"devices": null, "memory": null, "cpu": {"shares": null, "later": 1},
            "rdma": null, "unified": null, "hugepageLimits": null, "later": {}}"#;
        let resources: Resources = parse(json.as_bytes(), "").unwrap();
        assert_eq!(resources, Resources { cpu: Some(Cpu::default()), ..Resources::default() });
    }

    proptest! {
        #[test]
        fn no_number_and_no_text_panics(number: i64, unsigned: u64, text: String) {
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
    fn a_wrong_value_is_named_by_its_place() {
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
