//! What was made for the processes that were asked for last, kept for who asks for the same again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pidone_config::config::{CapabilitySets, CpuAffinity, Rlimit, Scheduler};
use pidone_config::{Ids, Process, Result, TerminalSize};
use pidone_host::user;

/// How many are kept.
const MOST: usize = 8;

/// What was made for processes of one configuration, the newest first.
#[derive(Debug)]
pub(crate) struct ExecCache<T>(Mutex<Vec<Entry<T>>>);

/// What was made for a process that runs as the files of the container said at that time.
#[derive(Debug)]
struct Entry<T> {
    key: ProcessKey,
    users: user::Versions,
    made: T,
}

impl<T> Default for ExecCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ExecCache<T> {
    /// What was made for such a process while the files of users were as they are, else what is made
    /// now. Without the versions of these files nothing is found or kept.
    pub(crate) fn get(
        &self,
        process: &Process,
        users: Option<user::Versions>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let Some(users) = users else { return make() };
        let same = |entry: &&Entry<T>| entry.users == users && entry.key.matches(process);
        if let Some(entry) = self.entries().iter().find(same) {
            return Ok(entry.made.clone());
        }
        let made = make()?;
        let key = ProcessKey::from_process(process);
        let mut entries = self.entries();
        entries.retain(|entry| entry.users == users);
        entries.truncate(MOST - 1);
        entries.insert(0, Entry { key, users, made: made.clone() });
        Ok(made)
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry<T>>> {
        // What is in it is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a process decides about its plan: all but what its descriptors are.
#[derive(Debug)]
struct ProcessKey {
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    make_cwd: bool,
    user: String,
    extra_files: usize,
    capabilities: Option<Vec<String>>,
    capability_sets: Option<CapabilitySets>,
    ids: Option<Ids>,
    rlimits: Option<Vec<Rlimit>>,
    apparmor_profile: Option<String>,
    label: Option<String>,
    oom_score_adj: Option<i32>,
    scheduler: Option<Scheduler>,
    io_priority: Option<u32>,
    affinity: Option<CpuAffinity>,
    terminal: Option<TerminalSize>,
    no_new_privileges: bool,
}

impl ProcessKey {
    fn from_process(process: &Process) -> Self {
        Self {
            args: process.args.clone(),
            env: process.env.clone(),
            cwd: process.cwd.clone(),
            make_cwd: process.make_cwd,
            user: process.user.clone(),
            extra_files: process.extra_files.len(),
            capabilities: process.capabilities.clone(),
            capability_sets: process.capability_sets.clone(),
            ids: process.ids.clone(),
            rlimits: process.rlimits.clone(),
            apparmor_profile: process.apparmor_profile.clone(),
            label: process.label.clone(),
            oom_score_adj: process.oom_score_adj,
            scheduler: process.scheduler,
            io_priority: process.io_priority,
            affinity: process.affinity.clone(),
            terminal: process.terminal,
            no_new_privileges: process.no_new_privileges,
        }
    }

    fn matches(&self, process: &Process) -> bool {
        // Named one by one, so that a new one is not forgotten.
        let Process {
            args,
            env,
            cwd,
            make_cwd,
            user,
            stdin: _,
            stdout: _,
            stderr: _,
            extra_files,
            capabilities,
            capability_sets,
            ids,
            rlimits,
            apparmor_profile,
            label,
            oom_score_adj,
            scheduler,
            io_priority,
            affinity,
            // For a further process.
            sub_cgroups: _,
            terminal,
            no_new_privileges,
            ignore_paused: _,
            as_child: _,
        } = process;
        self.args == *args
            && self.env == *env
            && self.cwd == *cwd
            && self.make_cwd == *make_cwd
            && self.user == *user
            && self.extra_files == extra_files.len()
            && self.capabilities == *capabilities
            && self.capability_sets == *capability_sets
            && self.ids == *ids
            && self.rlimits == *rlimits
            && self.apparmor_profile == *apparmor_profile
            && self.label == *label
            && self.oom_score_adj == *oom_score_adj
            && self.scheduler == *scheduler
            && self.io_priority == *io_priority
            && self.affinity == *affinity
            && self.terminal == *terminal
            && self.no_new_privileges == *no_new_privileges
    }
}
