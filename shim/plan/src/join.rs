//! Plans of further processes and of hooks that join a running container.

use std::path::PathBuf;

use pidone_config::config::Hook;
use pidone_config::{Config, Result};
use pidone_proto::{Op, Text};

use super::barrier::{BARRIER_CONSOLE, BARRIER_START};
use super::container::{CLONE_NEWTIME, CLONE_NEWUSER, root_ids};
use super::process::{Done, Wait};
use super::{PROC, Plan, Process, Source, mount, strings, text, view};

/// The namespaces and the keyring of a container that a process joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// The `CLONE_NEW*` flags of the namespaces in which the container differs from the host. They
    /// are joined through the pidfd of its first process in one call, so that its user namespace
    /// and the namespaces that it owns are entered together.
    pub flags: u32,
    /// The file of a time namespace that the first process enters only at exec.
    pub clocks: Option<PathBuf>,
    /// The name of the container's session keyring, if it has its own.
    pub keyring: Option<String>,
}

/// Compiles the plan of a process that joins a container's namespaces.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for an invalid field of the process.
pub fn compile(config: &Config, process: &Process, joined: &Joined) -> Result<Plan> {
    let mut plan = Plan::default();
    if let [Some(mask), _] = &process.affinity {
        plan.push(Op::Affinity { mask });
    }
    enter(&mut plan, config, joined);
    join_keyring(&mut plan, joined)?;
    if !process.labels.is_empty() {
        mount::push_private_proc(&mut plan, PROC);
        process.labels(&mut plan, PROC)?;
        plan.push(Op::Close { slot: PROC });
    }
    let wait = Wait { for_modes: Some(BARRIER_CONSOLE), ..Wait::default() };
    process.compile(&mut plan, config, wait, Done::default())?;
    Ok(plan)
}

/// Compiles the plan of a `createContainer` hook: a program of the host that runs in the
/// container's namespaces before the root is entered, with full privileges there.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn create_hook(config: &Config, hook: &Hook, joined: &Joined) -> Result<Plan> {
    let mut plan = enter_for_hook(config, joined);
    plan.push(Op::Umask { mask: 0o022 });
    push_hook(&mut plan, hook, 0, &[])?;
    Ok(plan)
}

/// Compiles the plan of a `startContainer` hook, which runs as a program of the container.
///
/// `first` is the plan of the container's first process. The hook runs its operations after
/// [`BARRIER_START`], so it gets the same user, capabilities and filter, and executes its own
/// program.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn start_hook(config: &Config, hook: &Hook, joined: &Joined, first: &Plan) -> Result<Plan> {
    let mut plan = enter_for_hook(config, joined);
    join_keyring(&mut plan, joined)?;
    let before_barrier = |op: &Op<'_>| !matches!(op, Op::Barrier { id: BARRIER_START });
    for op in first.operations().skip_while(before_barrier).skip(1) {
        match op {
            Op::Exec { filter_flags, filter, .. } => {
                push_hook(&mut plan, hook, filter_flags, filter)?;
            }
            // Only the container must not outlive the process that started it.
            Op::ParentDeath { .. } => {}
            op => plan.push(op),
        }
    }
    Ok(plan)
}

/// Returns the first operations of a hook: it enters the container's namespaces and leads a
/// session.
fn enter_for_hook(config: &Config, joined: &Joined) -> Plan {
    let mut plan = Plan::default();
    enter(&mut plan, config, joined);
    plan.push(Op::Session);
    plan
}

/// Appends the exec of a hook's program.
fn push_hook(plan: &mut Plan, hook: &Hook, filter_flags: u32, filter: &[u8]) -> Result<()> {
    let path = std::slice::from_ref(&hook.path);
    let arguments = if hook.args.is_empty() { path } else { &hook.args };
    plan.push(Op::Exec {
        candidates: view(&strings("hooks.path", path)?),
        arguments: view(&strings("hooks.args", arguments)?),
        environment: view(&strings("hooks.env", &hook.env)?),
        preserved: 0,
        filter_flags,
        filter,
    });
    Ok(())
}

/// Appends the join of the first process's session keyring, which makes the host's inaccessible.
fn join_keyring(plan: &mut Plan, joined: &Joined) -> Result<()> {
    if let Some(name) = &joined.keyring {
        let name = text("id", name)?;
        plan.push(Op::Keyring { name: Text(&name) });
    }
    Ok(())
}

/// Appends the entry into the namespaces of a container.
fn enter(plan: &mut Plan, config: &Config, joined: &Joined) {
    let flags = joined.flags;
    if flags != 0 {
        let target = plan.source(Source::Container);
        plan.push(Op::SetNamespaces { target, flags });
    }
    if let Some(clocks) = &joined.clocks {
        let target = plan.source(Source::Namespace(clocks.clone()));
        plan.push(Op::SetNamespaces { target, flags: CLONE_NEWTIME });
    }
    plan.push(Op::Fork { flags: 0 });
    if flags & CLONE_NEWUSER != 0 {
        plan.push(root_ids(config));
    }
}
