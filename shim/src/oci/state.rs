//! The state of a container as the specification has it: "State" in `runtime.md`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;

/// The version of the specification that this runtime keeps to.
pub const VERSION: &str = "1.3.0";

/// What a container does, in the specification's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It is made, and its program waits for the start.
    Created,
    /// Its program runs.
    Running,
    /// Its processes stand still. Not of the specification, but of every runtime.
    Paused,
    /// Its program has ended.
    Stopped,
}

/// The state of a container, as hooks and agents read it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "is_none")]
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

fn is_none(pid: &i32) -> bool {
    *pid == 0
}

impl<'a> State<'a> {
    /// The state of a container with this configuration; `pid` is 0 if none of it runs.
    #[must_use]
    pub fn new(id: &'a str, status: Status, pid: i32, config: &'a Config) -> Self {
        let Config { bundle, annotations, .. } = config;
        Self { oci_version: VERSION, id, status, pid, bundle, annotations }
    }
}
