//! The object `linux`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Resources, find};
use crate::config::json::{list, map, object, objects};
use crate::config::mount::flags;
use crate::config::{self, Config, NamespaceType, Network};
use crate::error::{Error, Result};
use crate::oci::linux::seccomp::Seccomp;
use crate::text::quoted;

mod device;
mod intel_rdt;
mod memory_policy;
mod namespace;
pub mod seccomp;

pub use device::Device;
pub use intel_rdt::IntelRdt;
pub use memory_policy::{FLAGS as MEMORY_FLAGS, MODES as MEMORY_MODES, MemoryPolicy};
pub(super) use namespace::id_maps;
pub use namespace::{IdMapping, Namespace, TYPES as NAMESPACES, TimeOffset};

/// The Linux section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// The user id map of a new user namespace.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// The group id map of a new user namespace.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Sysctls by name.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// The limits of the container's cgroup.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The path of the cgroup: see [`resources::cgroup`](super::resources::cgroup).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroups_path: String,
    /// The namespaces that are new or joined. The container shares all others with the caller.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes in addition to those that every container has.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Network interfaces of the host to move into the container, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// The seccomp profile.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// The propagation of the root: `private`, `rslave`...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_propagation: String,
    /// The paths to hide.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// The paths to make read-only.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// The SELinux label of files and mounts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
    /// Intel Resource Director Technology.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// The execution domain.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// The offsets of the clocks of a new time namespace, by the name of the clock.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// The NUMA memory policy.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
}

/// A network interface to move into the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetDevice {
    /// The name in the container; unchanged if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// The execution domain: personality(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Personality {
    /// One of [`DOMAINS`].
    pub domain: String,
    /// Flags, of which the specification defines none; refused.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// The execution domains by the specification's name: `linux/personality.h`.
pub const DOMAINS: [(&str, u32); 2] = [("LINUX", 0), ("LINUX32", 8)];

impl Linux {
    /// Lowers everything except the cgroup into the configuration.
    pub(super) fn apply(&self, config: &mut Config) -> Result<()> {
        config.intel_rdt = self.intel_rdt.as_ref().map(IntelRdt::group);
        self.apply_namespaces(config)?;
        self.apply_root(config)?;
        for (name, device) in &self.net_devices {
            let inside = if device.name.is_empty() { name } else { &device.name };
            config.net_devices.insert(name.clone(), inside.clone());
        }
        config.system_properties.clone_from(&self.sysctl);
        if let Some(seccomp) = &self.seccomp {
            // The filter is compiled later, when errors no longer know the path of the property in
            // `config.json`.
            seccomp.profile()?;
            config.seccomp_profile = Some(seccomp.clone());
        }
        config.personality = self.personality.as_ref().map(Personality::domain).transpose()?;
        config.memory_policy = self.memory_policy.as_ref().map(MemoryPolicy::policy).transpose()?;
        Ok(())
    }

    fn apply_namespaces(&self, config: &mut Config) -> Result<()> {
        namespace::apply(&self.namespaces, config)?;
        if config.has_new(NamespaceType::Network) {
            config.networks = vec![Network::loopback()];
        }
        match config.namespace(NamespaceType::User).filter(|user| !user.path.is_empty()) {
            // Clients repeat the maps of a namespace that is joined.
            Some(user) => {
                for (field, file, maps) in [
                    ("linux.uidMappings", "uid_map", &self.uid_mappings),
                    ("linux.gidMappings", "gid_map", &self.gid_mappings),
                ] {
                    if !maps.is_empty() && namespace::differs(&user.path, file, maps) {
                        let reason = "is not the map of the user namespace that is joined";
                        return Err(Error::config(field, "", reason));
                    }
                }
            }
            None => {
                config.uid_mappings = id_maps(&self.uid_mappings);
                config.gid_mappings = id_maps(&self.gid_mappings);
            }
        }
        let offsets = self.time_offsets.iter();
        config.time_offsets =
            offsets.map(|(clock, given)| (clock.clone(), given.offset())).collect();
        Ok(())
    }

    fn apply_root(&self, config: &mut Config) -> Result<()> {
        // Without a new mount namespace the container has the devices of the namespace that it
        // shares.
        if config.has_new(NamespaceType::Mount) || !self.devices.is_empty() {
            config.devices = device::nodes(&self.devices)?;
        }
        if !self.rootfs_propagation.is_empty() {
            let place = "linux.rootfsPropagation";
            let unknown =
                || Error::config(place, quoted(&self.rootfs_propagation), "unknown propagation");
            config.root_propagation =
                flags::find_propagation(&self.rootfs_propagation).ok_or_else(unknown)?;
        }
        config.mask_paths.clone_from(&self.masked_paths);
        config.readonly_paths.clone_from(&self.readonly_paths);
        config.mount_label.clone_from(&self.mount_label);
        Ok(())
    }
}

impl Personality {
    fn domain(&self) -> Result<u32> {
        if let Some(flag) = self.flags.first() {
            let place = "linux.personality.flags[0]";
            return Err(Error::config(place, quoted(flag), "unknown flag"));
        }
        find(&DOMAINS, &self.domain, "linux.personality.domain", "unknown domain")
    }
}

/// The names that fields of [`Config`] have in `config.json`, for the errors of validation.
pub(super) const NAMES: config::Names = config::Names {
    first: &[
        ("rootfs", "root.path"),
        ("readonlyfs", "root.readonly"),
        ("mount_label", "linux.mountLabel"),
        ("namespaces", "linux.namespaces"),
        ("devices", "linux.devices"),
        ("uid_mappings", "linux.uidMappings"),
        ("gid_mappings", "linux.gidMappings"),
        ("mask_paths", "linux.maskedPaths"),
        ("readonly_paths", "linux.readonlyPaths"),
        ("system_properties", "linux.sysctl"),
        ("net_devices", "linux.netDevices"),
        ("time_offsets", "linux.timeOffsets"),
        ("root_propagation", "linux.rootfsPropagation"),
        ("memory_policy", "linux.memoryPolicy"),
        ("intel_rdt", "linux.intelRdt"),
        ("cgroups", "linux.resources"),
        ("rlimits", "process.rlimits"),
        ("capabilities", "process.capabilities.permitted"),
        ("apparmor_profile", "process.apparmorProfile"),
        ("process_label", "process.selinuxLabel"),
    ],
    inner: &[
        ("device", "type"),
        ("flags", "options"),
        ("data", "options"),
        ("cleared", "options"),
        ("propagation", "options"),
        ("recursive_set", "options"),
        ("recursive_clear", "options"),
        ("copy_up", "options"),
        ("id_map", ""),
        ("uid_mappings", "uidMappings"),
        ("gid_mappings", "gidMappings"),
        ("clos_id", "closID"),
        ("container_id", "containerID"),
        ("host_id", "hostID"),
        ("file_mode", "fileMode"),
        ("memory", "memory.limit"),
        ("memory_reservation", "memory.reservation"),
        ("memory_swap", "memory.swap"),
        ("kernel_memory", "memory.kernel"),
        ("memory_swappiness", "memory.swappiness"),
        ("cpu_shares", "cpu.shares"),
        ("cpu_quota", "cpu.quota"),
        ("cpu_period", "cpu.period"),
        ("cpu_burst", "cpu.burst"),
        ("cpu_rt_runtime", "cpu.realtimeRuntime"),
        ("cpu_rt_period", "cpu.realtimePeriod"),
        ("cpuset_cpus", "cpu.cpus"),
        ("cpuset_mems", "cpu.mems"),
        ("pids_limit", "pids.limit"),
        ("blkio_weight", "blockIO.weight"),
        ("blkio_leaf_weight", "blockIO.leafWeight"),
        ("blkio_weight_device", "blockIO.weightDevice"),
        ("device_rules", "devices"),
        ("permissions", "access"),
        ("hugetlb_limit", "hugepageLimits"),
        ("page_size", "pageSize"),
        ("net_prio_ifpriomap", "network.priorities"),
    ],
    whole: &[
        ("linux.resources.name", "linux.cgroupsPath"),
        ("linux.resources.parent", "linux.cgroupsPath"),
    ],
};
