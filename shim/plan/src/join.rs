//! The plan of a further process in a running container.

use std::path::PathBuf;

use pidone_config::config::Hook;
use pidone_config::{Config, Result};
use pidone_proto::{Op, Text};

use super::barrier::BARRIER_START;
use super::container::{CLONE_NEWTIME, CLONE_NEWUSER, root_ids};
use super::process::{Done, Wait};
use super::{PROC, Plan, Process, Source, mount, strings, text, view};

/// What a process joins of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// The `CLONE_NEW*` flags of the namespaces in which the container differs from the host. The
    /// pidfd of its first process stands for all of them, so that its user namespace and those that
    /// it owns are entered together.
    pub flags: u32,
    /// The file of a time namespace that the first process enters only with its program.
    pub clocks: Option<PathBuf>,
    /// The name of its session keyring, if it has one of its own.
    pub keyring: Option<String>,
}

/// Compiles the plan of a process that joins a container's namespaces.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for what is wrong in the process.
pub fn compile(config: &Config, process: &Process, joined: &Joined) -> Result<Plan> {
    let mut plan = Plan::default();
    if let [Some(mask), _] = &process.affinity {
        plan.push(Op::Affinity { mask });
    }
    enter(&mut plan, config, joined);
    join_keyring(&mut plan, joined)?;
    if !process.labels.is_empty() {
        mount::make_proc(&mut plan, PROC);
        process.labels(&mut plan, PROC)?;
        plan.push(Op::Close { slot: PROC });
    }
    process.compile(&mut plan, config, Wait::default(), Done::default())?;
    Ok(plan)
}

/// Compiles the plan of a hook that runs as a program of the host in a container's namespaces,
/// before the root is entered: with all rights there, as who makes the container.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn create_hook(config: &Config, hook: &Hook, joined: &Joined) -> Result<Plan> {
    let mut plan = hook_inside(config, joined);
    plan.push(Op::Umask { mask: 0o022 });
    push_hook(&mut plan, hook, 0, &[])?;
    Ok(plan)
}

/// Compiles the plan of a hook that runs as a program of the container: `first` is the plan of its
/// first process, and the hook becomes what that one is about to become, but for the program.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn start_hook(config: &Config, hook: &Hook, joined: &Joined, first: &Plan) -> Result<Plan> {
    let mut plan = hook_inside(config, joined);
    join_keyring(&mut plan, joined)?;
    let behind = |op: &Op<'_>| !matches!(op, Op::Barrier { id: BARRIER_START });
    for op in first.operations().skip_while(behind).skip(1) {
        match op {
            Op::Exec { filter_flags, filter, .. } => {
                push_hook(&mut plan, hook, filter_flags, filter)?;
            }
            // It is the container that must not outlive its maker.
            Op::ParentDeath { .. } => {}
            op => plan.push(op),
        }
    }
    Ok(plan)
}

/// The beginning of a hook: the leader of a session in the container's namespaces.
fn hook_inside(config: &Config, joined: &Joined) -> Plan {
    let mut plan = Plan::default();
    enter(&mut plan, config, joined);
    plan.push(Op::Session);
    plan
}

/// The end of a hook: its program.
fn push_hook(plan: &mut Plan, hook: &Hook, filter_flags: u32, filter: &[u8]) -> Result<()> {
    let own = std::slice::from_ref(&hook.path);
    let arguments = if hook.args.is_empty() { own } else { &hook.args };
    plan.push(Op::Exec {
        candidates: view(&strings("hooks.path", own)?),
        arguments: view(&strings("hooks.args", arguments)?),
        environment: view(&strings("hooks.env", &hook.env)?),
        preserved: 0,
        filter_flags,
        filter,
    });
    Ok(())
}

/// Joins the session keyring of the first process, so that the host's is out of reach.
fn join_keyring(plan: &mut Plan, joined: &Joined) -> Result<()> {
    if let Some(name) = &joined.keyring {
        let name = text("id", name)?;
        plan.push(Op::Keyring { name: Text(&name) });
    }
    Ok(())
}

/// Enters the namespaces of a container.
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
