//! The second half of a plan, kept for who asks for the same program again.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compile::user_root;
use crate::config::{CapabilitySets, Config, CpuAffinity, Rlimit, Scheduler};
use crate::error::Result;
use crate::plan::Plan;
use crate::plan::parked::Model;
use crate::process::{Ids, Process, TerminalSize};
use crate::resolve::{filter, resolve_under};
use crate::user;

/// How many programs are kept.
const KNOWN: usize = 8;

/// Compiles second halves.
#[derive(Debug)]
pub(super) struct Programs {
    config: Config,
    model: Model,
    oom_score_adj: Option<i32>,
    filter: Option<(u32, Vec<u8>)>,
    /// Where users are looked up.
    root: OwnedFd,
    /// The last ones that were asked for, the newest first.
    known: Mutex<Vec<Known>>,
}

/// A program that was asked for, and its half of a plan, if there is one.
#[derive(Debug)]
struct Known {
    program: Program,
    users: user::Versions,
    plan: Option<Arc<Plan>>,
}

impl Programs {
    /// Takes a process as the model of those to come.
    pub(super) fn new(config: &Config, model: &Process) -> Result<Self> {
        let filter = filter(config)?;
        let root = user_root(config)?;
        let resolved = resolve_under(config, model, root.as_fd(), filter.clone())?;
        Ok(Self {
            config: config.clone(),
            model: Model::new(config, resolved),
            oom_score_adj: model.oom_score_adj,
            filter,
            root,
            known: Mutex::default(),
        })
    }

    /// What first halves are made for.
    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// The second half for a process; `None` if it cannot be what a parked init becomes.
    pub(super) fn plan(&self, process: &Process) -> Result<Option<Arc<Plan>>> {
        let users = user::versions(self.root.as_fd());
        let same = |known: &Known| known.users == users && known.program.is_of(process);
        if let Some(known) = self.known().iter().find(|known| same(known)) {
            return Ok(known.plan.clone());
        }
        let filter = self.filter.clone();
        let resolved = resolve_under(&self.config, process, self.root.as_fd(), filter)?;
        let plan = if process.oom_score_adj == self.oom_score_adj {
            self.model.finish(&self.config, &resolved)?.map(Arc::new)
        } else {
            None
        };
        let mut known = self.known();
        known.retain(|known| known.users == users);
        known.truncate(KNOWN - 1);
        known.insert(0, Known { program: Program::of(process), users, plan: plan.clone() });
        Ok(plan)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a process decides about its plan: all but what its descriptors are.
#[derive(Debug)]
struct Program {
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

impl Program {
    fn of(process: &Process) -> Self {
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

    fn is_of(&self, process: &Process) -> bool {
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
            own_child: _,
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
