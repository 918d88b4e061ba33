//! Plans of further processes and of hooks that join a running container.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pidone_config::config::Hook;
use pidone_config::{Config, Result};
use pidone_proto::{Op, Strings, Text};

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
    enter(&mut plan, config, joined, None)?;
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
/// `root` is where the container's root is mounted, its working directory. `env` is the environment
/// of the container's program, which it gets unless it has its own.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn create_hook(
    config: &Config,
    hook: &Hook,
    joined: &Joined,
    root: &Path,
    env: &[OsString],
) -> Result<Plan> {
    let mut plan = enter_for_hook(config, joined, Some(root))?;
    plan.push(Op::Umask { mask: 0o022 });
    let env = match &hook.env {
        Some(own) => strings("hooks.env", own)?,
        None => strings("env", env)?,
    };
    push_hook(&mut plan, hook, view(&env), (0, &[]))?;
    Ok(plan)
}

/// Compiles the plan of a `startContainer` hook, which runs as a program of the container.
///
/// `first` is the plan of the container's first process. The hook runs its operations after
/// [`BARRIER_START`], so it gets the same user, capabilities and filter, and executes its own
/// program. It gets the same environment unless it has its own.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a string with a NUL byte.
pub fn start_hook(config: &Config, hook: &Hook, joined: &Joined, first: &Plan) -> Result<Plan> {
    let mut plan = enter_for_hook(config, joined, None)?;
    join_keyring(&mut plan, joined)?;
    let before_barrier = |op: &Op<'_>| !matches!(op, Op::Barrier { id: BARRIER_START });
    for op in first.operations().skip_while(before_barrier).skip(1) {
        match op {
            Op::Exec { environment, filter_flags, filter, .. } => {
                let own = hook.env.as_ref().map(|env| strings("hooks.env", env)).transpose()?;
                let env = own.as_deref().map_or(environment, view);
                push_hook(&mut plan, hook, env, (filter_flags, filter))?;
            }
            // Only the container must not outlive the process that started it.
            Op::ParentDeath { .. } => {}
            op => plan.push(op),
        }
    }
    Ok(plan)
}

/// Returns the first operations of a hook: it enters the container's namespaces, and a working
/// directory there, and leads a session.
fn enter_for_hook(config: &Config, joined: &Joined, cwd: Option<&Path>) -> Result<Plan> {
    let mut plan = Plan::default();
    enter(&mut plan, config, joined, cwd)?;
    plan.push(Op::Session);
    Ok(plan)
}

/// Appends the exec of a hook's program.
fn push_hook(
    plan: &mut Plan,
    hook: &Hook,
    environment: Strings<'_>,
    (filter_flags, filter): (u32, &[u8]),
) -> Result<()> {
    let path = std::slice::from_ref(&hook.path);
    let arguments = if hook.args.is_empty() { path } else { &hook.args };
    plan.push(Op::Exec {
        candidates: view(&strings("hooks.path", path)?),
        arguments: view(&strings("hooks.args", arguments)?),
        environment,
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

/// Appends the entry into the namespaces of a container, and into a working directory.
fn enter(plan: &mut Plan, config: &Config, joined: &Joined, cwd: Option<&Path>) -> Result<()> {
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
    if let Some(cwd) = cwd {
        // Before the ids: only the caller's user may be able to reach the directory of the host.
        let cwd = text("rootfs", cwd)?;
        plan.push(Op::ChangeDirectory { path: Text(&cwd) });
    }
    if flags & CLONE_NEWUSER != 0 {
        plan.push(root_ids(config));
    }
    Ok(())
}
