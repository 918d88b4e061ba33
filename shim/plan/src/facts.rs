//! What a plan depends on besides the configuration: facts of the host and choices of the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pidone_config::Result;

use super::dropped::DroppedPrivileges;

/// What the plan depends on and the configuration does not say.
pub struct Facts<'a> {
    /// The namespaces that are new.
    pub new: u32,
    /// Whether the new network namespace is made beside the clone, and the init enters it.
    pub parallel_netns: bool,
    /// The namespaces that are joined, and their files.
    pub joined: Vec<(u32, PathBuf)>,
    /// Whether the container has a user namespace that is not the host's.
    pub in_user_namespace: bool,
    /// Whether the init copies mounts of the host by their path, since the host's side may not.
    pub by_path: bool,
    /// Whether the init sees a copy of the host's mounts, and not a template's.
    pub sees_host: bool,
    /// An existing directory, as the init sees it, where the root is attached.
    pub at: PathBuf,
    /// The container's cgroup on each hierarchy: controllers, or nothing for v2.
    pub cgroups: BTreeMap<String, PathBuf>,
    /// Whether the host acts while the init runs, and the init must wait for it.
    pub barrier: bool,
    /// Whether the program waits until the container is started.
    pub waits: bool,
    /// The name of a new session keyring.
    pub keyring: Option<String>,
    /// What an init that stays gives up when it begins to serve.
    pub dropped: DroppedPrivileges,
    /// Tells whether a file of the host is a directory.
    pub is_directory: &'a dyn Fn(&Path) -> Result<bool>,
}
