//! The state of a container, as hooks are given it and `state` prints it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::VERSION;

/// The state of a container: the specification's properties, and those that runc adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Its first process, in the namespace of who asks; absent where the specification has none.
    /// runc says 0 for a stopped container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Where it is in its life.
    pub status: Status,
    /// The absolute path of the bundle.
    pub bundle: String,
    /// runc's: the absolute path of the root file system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rootfs: String,
    /// runc's: when it was made, in the form of RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// What the container's maker wants to be remembered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// runc's: the name of the user who made it; empty if the id has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It is made, and its program waits.
    Created,
    /// Its program runs.
    Running,
    /// Its processes stand still: runc's addition.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl State {
    /// The state in the specification's properties.
    #[must_use]
    pub fn new(
        id: &str,
        status: Status,
        pid: Option<i32>,
        bundle: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        Self {
            oci_version: VERSION.to_owned(),
            id: id.to_owned(),
            pid,
            status,
            bundle: bundle.to_owned(),
            rootfs: String::new(),
            created: String::new(),
            annotations: annotations.clone(),
            owner: None,
        }
    }
}
