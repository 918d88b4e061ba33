//! What a handle knows about its container: the state, as read from its files, and caches.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use pidone_config::{Config, Result};
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::resolve::Filter;

use crate::container::exec::running_init::RunningInit;
use crate::container::state::journal::Journal;
use crate::container::state::{State, Version};

/// What a handle knows about its container. Threads that share the handle work on copies, and
/// change it only while they hold the [`Lock`](super::Lock).
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) state: Arc<State>,
    /// The version of the file that `state` was read from or written to.
    pub(super) version: Option<Version>,
    /// The compiled seccomp filter, cached for further processes.
    pub(super) filter: Arc<Filter>,
    /// The first process, with caches for further ones, if this handle has used it.
    pub(super) init: Option<Arc<RunningInit>>,
    /// Whether neither the state nor the journal says what there is on the host.
    pub(super) is_damaged: bool,
}

impl Snapshot {
    /// Returns what is known from the files of a state, with nothing cached.
    pub(super) fn new((state, is_damaged): (State, bool), version: Option<Version>) -> Self {
        let state = Arc::new(state);
        Self { state, version, filter: Arc::default(), init: None, is_damaged }
    }
}

/// The configuration of a container, as it was when
/// [`Container::config`](crate::Container::config) returned it.
#[derive(Debug)]
pub struct ConfigRef(Arc<State>);

impl ConfigRef {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self(state)
    }
}

impl Deref for ConfigRef {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0.config
    }
}

impl PartialEq<&Config> for ConfigRef {
    fn eq(&self, other: &&Config) -> bool {
        **self == **other
    }
}

/// Reads a container's state. What it lacks comes from the journal, which is written first. Returns
/// too whether neither of them says which processes and cgroups the container has.
pub(super) fn read_state(directory: BorrowedFd<'_>, id: &str) -> Result<(State, bool)> {
    let read = State::read(directory);
    let state = match read {
        Ok(Some(state)) if state.init_process_pid > 0 => return Ok((state, false)),
        Ok(state) => state,
        Err(_) => None,
    };
    let whole = state.is_some();
    let journal = Journal::read(directory)?;
    let is_damaged = journal.is_damaged() && state.is_none();
    // A missing or damaged state is replaced by one that suffices to clean up.
    let mut state = state.unwrap_or_else(|| State {
        id: id.to_owned(),
        init_process_pid: 0,
        init_process_start: 0,
        boot_id: String::new(),
        cgroup_paths: journal.cgroups.unwrap_or_default(),
        namespace_paths: BTreeMap::new(),
        created: 0,
        host_links: journal.host_links,
        dropped: DroppedPrivileges::default(),
        creating: false,
        config: Config::default(),
    });
    // An interrupted start may have left its process running.
    if let Some(process) = journal.process {
        state.set_first(&process);
        // The process is in the state once the container is created.
        state.creating = whole;
    }
    Ok((state, is_damaged))
}
