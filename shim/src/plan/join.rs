//! The plan of a further process in a running container.

use pidone_proto::Op;

use super::container::{CLONE_NEWUSER, root_ids};
use super::process::Wait;
use super::{PROC, Plan, Process, Source, mount, strings, view};
use crate::config::{Config, Hook};
use crate::error::Result;

/// Compiles the plan of a process that joins a container's namespaces.
///
/// `flags` are the `CLONE_NEW*` flags of the namespaces in which the container differs from the
/// host; the pidfd of its first process stands for all of them, so that its user namespace and
/// those that it owns are entered together.
///
/// # Errors
/// [`crate::Code::ConfigInvalid`] for what is wrong in the process.
pub fn compile(config: &Config, process: &Process, flags: u32) -> Result<Plan> {
    let mut plan = Plan::default();
    if let [Some(mask), _] = &process.affinity {
        plan.push(Op::Affinity { mask });
    }
    if flags != 0 {
        let target = plan.source(Source::Container);
        plan.push(Op::SetNamespaces { target, flags });
    }
    plan.push(Op::Fork { flags: 0 });
    if flags & CLONE_NEWUSER != 0 {
        plan.push(root_ids(config));
    }
    if !process.labels.is_empty() {
        mount::make_proc(&mut plan, PROC);
        process.labels(&mut plan, PROC)?;
        plan.push(Op::Close { slot: PROC });
    }
    process.compile(&mut plan, config, Wait::default())?;
    Ok(plan)
}

/// Compiles the plan of a hook that runs as a program of the host in a container's namespaces,
/// before the root is entered: with all rights there, as who makes the container.
///
/// # Errors
/// [`crate::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn hook(config: &Config, hook: &Hook, flags: u32) -> Result<Plan> {
    let mut plan = Plan::default();
    if flags != 0 {
        let target = plan.source(Source::Container);
        plan.push(Op::SetNamespaces { target, flags });
    }
    plan.push(Op::Fork { flags: 0 });
    if flags & CLONE_NEWUSER != 0 {
        plan.push(root_ids(config));
    }
    plan.push(Op::Session);
    plan.push(Op::Umask { mask: 0o022 });
    let own = std::slice::from_ref(&hook.path);
    let arguments = if hook.args.is_empty() { own } else { &hook.args };
    plan.push(Op::Exec {
        candidates: view(&strings("hooks.path", own)?),
        arguments: view(&strings("hooks.args", arguments)?),
        environment: view(&strings("hooks.env", &hook.env)?),
        preserved: 0,
        filter_flags: 0,
        filter: &[],
    });
    Ok(plan)
}
