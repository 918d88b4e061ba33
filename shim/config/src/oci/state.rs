//! The state of a container, which hooks receive and `state` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::VERSION;

/// The state of a container: the specification's properties, and those that runc adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The id of the container.
    pub id: String,
    /// The id of the first process in the caller's pid namespace; absent in states for which the
    /// specification does not require it. runc prints 0 for a stopped container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The status of the container.
    pub status: Status,
    /// The absolute path of the bundle.
    pub bundle: String,
    /// The absolute path of the root file system. An addition of runc's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rootfs: String,
    /// The time of creation, in the format of RFC 3339. An addition of runc's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// The annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who created the container; empty if the user id has no name. An
    /// addition of runc's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// The status of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The container is being created.
    Creating,
    /// The container is created, and its program has not been started.
    Created,
    /// The program runs.
    Running,
    /// The processes are suspended. An addition of runc's.
    Paused,
    /// The first process has exited.
    Stopped,
}

impl State {
    /// Returns a state with the specification's properties only.
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
