//! The input of a plan besides the configuration: facts of the host and choices of the caller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pidone_config::Result;

use super::dropped::DroppedPrivileges;

/// The input of a plan that is not in the configuration.
pub struct Facts<'a> {
    /// The `CLONE_NEW*` flags of the new namespaces.
    pub new: u32,
    /// Whether the new network namespace is created in parallel to the clone. The init enters it.
    pub parallel_netns: bool,
    /// The namespaces to join: the `CLONE_NEW*` flag and the file of each.
    pub joined: Vec<(u32, PathBuf)>,
    /// The `CLONE_NEW*` flags of those joined namespaces that do not belong to the container's user
    /// namespace, which lacks privileges over them.
    pub foreign: u32,
    /// Whether the container is in another user namespace than the initial one.
    pub in_user_namespace: bool,
    /// Whether the host makes the device nodes of a container in a new user namespace, which it has
    /// the privilege for.
    pub makes_nodes: bool,
    /// Whether the init copies mounts of the host by their paths, since the caller lacks the
    /// privilege to copy them.
    pub by_path: bool,
    /// Whether the init sees a copy of the host's mounts, rather than of the template's.
    pub sees_host: bool,
    /// An existing directory, as the init sees it, where the root is attached.
    pub at: PathBuf,
    /// The container's cgroup on each hierarchy, by the controllers; an empty name for cgroup v2.
    pub cgroups: BTreeMap<String, PathBuf>,
    /// Whether the process enters its cgroup only while it is set up. Then the init waits for that
    /// as late as possible: before hooks, and before it looks at cgroups.
    pub awaits_cgroup: bool,
    /// Whether the init must wait for the host to finish its part of the setup.
    pub barrier: bool,
    /// Whether the program waits until the container is started.
    pub waits: bool,
    /// The name of a new session keyring.
    pub keyring: Option<String>,
    /// The privileges that a supervising init drops before it serves requests.
    pub dropped: DroppedPrivileges,
    /// The mount points of the complete procs and sysfs that the init sees, those below others
    /// first. Only needed for a container without `pivot_root(2)`.
    pub bare: Vec<PathBuf>,
    /// Returns whether a file of the host is a directory.
    pub is_directory: &'a dyn Fn(&Path) -> Result<bool>,
    /// Returns the attributes of the mount that a file of the host is on: flags of
    /// [`attribute`](pidone_config::config::mount::flags::attribute).
    pub attributes: &'a dyn Fn(&Path) -> Result<u64>,
}

impl Facts<'_> {
    /// Returns what the end of the plan depends on.
    pub(super) fn end(&self) -> End {
        End { waits: self.waits, dropped: self.dropped }
    }
}

/// The facts on which the end of a plan depends.
#[derive(Debug, Clone, Copy, Default)]
pub struct End {
    /// [`Facts::waits`].
    pub waits: bool,
    /// [`Facts::dropped`].
    pub dropped: DroppedPrivileges,
}
