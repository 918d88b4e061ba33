//! A cache of what was compiled for recent processes, for repeated starts of the same one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pidone_config::config::{CapabilitySets, CpuAffinity, Rlimit, Scheduler};
use pidone_config::{Ids, Process, Result, TerminalSize};
use pidone_host::user;

/// The maximum number of entries.
const MOST: usize = 8;

/// A cache for processes of one configuration, most recent first.
#[derive(Debug)]
pub(crate) struct ExecCache<T>(Mutex<Vec<Entry<T>>>);

/// A value that was made for a process, with the user files of the container at that time.
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
    /// Returns the value that was made for an equal process under the same versions of the user
    /// files. If there is none, makes and stores it. Without versions, the cache is not used.
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
        // The list is consistent between statements, so a panic does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fields of a process on which its plan depends: all but the descriptors themselves.
#[derive(Debug)]
struct ProcessKey {
    args: Vec<OsString>,
    env: Vec<OsString>,
    cwd: String,
    make_cwd: bool,
    user: String,
    extra_files: usize,
    closed_numbers: BTreeSet<u32>,
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
    keep_newlines: bool,
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
            closed_numbers: process.closed_numbers.clone(),
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
            keep_newlines: process.keep_newlines,
            no_new_privileges: process.no_new_privileges,
        }
    }

    fn matches(&self, process: &Process) -> bool {
        // Every field is named, so that a new one cannot be forgotten.
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
            closed_numbers,
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
            // Plans of processes with sub-cgroups are not stored.
            sub_cgroups: _,
            terminal,
            keep_newlines,
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
            && self.closed_numbers == *closed_numbers
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
            && self.keep_newlines == *keep_newlines
            && self.no_new_privileges == *no_new_privileges
    }
}
