//! The plan of a process that the init of a container starts, where that one stays process 1.

use pidone_proto::{Op, Slot};

use super::container::BARRIER_START;
use super::process::{Done, Wait};
use super::{PROC, Plan, Process, Source, mount};
use crate::config::Config;
use crate::error::{Error, Result};

/// What comes along with the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spawn {
    /// Descriptors for the program: the first that are [lent](Source::Lent).
    pub descriptors: usize,
    /// Files of cgroups to be written to, the lent ones behind.
    pub cgroups: usize,
    /// Whether it is the container's first program and waits for the start.
    pub waits: bool,
}

/// Compiles the plan: a child of the init is in all namespaces already, and becomes the program.
///
/// # Errors
/// [`crate::Code::ConfigInvalid`] for what is wrong in the process, and for more descriptors than a
/// message carries.
pub fn compile(config: &Config, process: &Process, spawn: Spawn) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut lent = (0..).map(Source::Lent);
    let mut take = |plan: &mut Plan, count: usize| -> Vec<Slot> {
        lent.by_ref().take(count).map(|source| plan.source(source)).collect()
    };
    take(&mut plan, spawn.descriptors);
    if let [Some(mask), _] = &process.affinity {
        plan.push(Op::Affinity { mask });
    }
    for procs in take(&mut plan, spawn.cgroups) {
        plan.push(Op::JoinCgroup { procs });
    }
    let count = u32::try_from(spawn.descriptors).unwrap_or(u32::MAX);
    plan.push(Op::Stdio { count });
    plan.push(Op::ReopenNull);
    if !process.labels.is_empty() {
        mount::make_proc(&mut plan, PROC);
        process.labels(&mut plan, PROC)?;
        plan.push(Op::Close { slot: PROC });
    }
    let hooks = spawn.waits && !config.hooks.start_container.is_empty();
    let wait = Wait { for_start: spawn.waits, for_hooks: hooks.then_some(BARRIER_START) };
    process.compile(&mut plan, config, wait, Done::default())?;
    if plan.parts().len() > 1 {
        let reason = "more than a request to the init carries";
        return Err(Error::config("extra files", spawn.descriptors.saturating_sub(3), reason));
    }
    Ok(plan)
}
