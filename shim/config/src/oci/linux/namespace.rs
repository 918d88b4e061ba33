//! The properties `namespaces`, `uidMappings`, `gidMappings` and `timeOffsets`.

use std::fs;

use serde::{Deserialize, Serialize};

use super::find;
use crate::config::{self, Config, IdMap, NamespaceType};
use crate::error::{Error, Result};
use crate::text::quoted;

/// The types of namespaces by the specification's name.
pub const TYPES: [(&str, NamespaceType); 8] = [
    ("cgroup", NamespaceType::Cgroup),
    ("ipc", NamespaceType::Ipc),
    ("mount", NamespaceType::Mount),
    ("network", NamespaceType::Network),
    ("pid", NamespaceType::Pid),
    ("time", NamespaceType::Time),
    ("user", NamespaceType::User),
    ("uts", NamespaceType::Uts),
];

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// One of [`TYPES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The absolute path of a namespace to join; empty for a new namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first id on the host.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// The number of ids.
    pub size: u32,
}

/// The offset of a clock from the initial namespace's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, less than a second.
    pub nanosecs: u32,
}

impl TimeOffset {
    pub(super) fn offset(self) -> config::TimeOffset {
        config::TimeOffset { secs: self.secs, nanosecs: self.nanosecs }
    }
}

/// Lowers the ranges of a map.
pub(in crate::oci) fn id_maps(mappings: &[IdMapping]) -> Vec<IdMap> {
    let map = |given: &IdMapping| IdMap {
        container_id: given.container_id,
        host_id: given.host_id,
        size: given.size,
    };
    mappings.iter().map(map).collect()
}

/// Returns whether a user namespace is known to have another map.
///
/// The map can be read only if the path is `/proc/PID/ns/user`; for any other path the result is
/// false.
pub(super) fn differs(path: &str, file: &str, mappings: &[IdMapping]) -> bool {
    let process = path.strip_suffix("/ns/user").filter(|process| process.starts_with("/proc/"));
    let Some(Ok(text)) = process.map(|process| fs::read_to_string(format!("{process}/{file}")))
    else {
        return false;
    };
    let numbers = |line: &str| -> Vec<u32> {
        line.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    let mut found: Vec<Vec<u32>> = text.lines().map(numbers).collect();
    let line = |given: &IdMapping| vec![given.container_id, given.host_id, given.size];
    let mut given: Vec<Vec<u32>> = mappings.iter().map(line).collect();
    found.sort_unstable();
    given.sort_unstable();
    found != given
}

/// Lowers the namespaces into the configuration.
pub(super) fn apply(namespaces: &[Namespace], config: &mut Config) -> Result<()> {
    for (index, given) in namespaces.iter().enumerate() {
        let place = format!("linux.namespaces[{index}].type");
        let kind = find(&TYPES, &given.kind, &place, "unknown namespace")?;
        if config.namespace(kind).is_some() {
            return Err(Error::config(place, quoted(&given.kind), "stands more than once"));
        }
        config.set_namespace(kind, &given.path);
    }
    Ok(())
}
