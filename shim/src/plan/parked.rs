//! The plan of a container whose program is told later, in two halves.
//!
//! Together they are the plan of [`super::container::compile`]. What stands in the first half may
//! depend on the program as little as possible: what does is the model's, and [`finish`] answers
//! nothing for a process that the first half does not fit.

use pidone_proto::{Op, Text};

use super::container::{BARRIER_PARKED, BARRIER_START, Facts, enter, furnish, set_up};
use super::process::{Done, Wait};
use super::{Plan, Process, Source, clean, text};
use crate::config::Config;
use crate::error::Result;
use crate::seccomp::{always_allows, flag};

/// System calls that an init makes between its two halves and its exec. Under a filter that refuses
/// one of them it could not become its program.
const CALLS: &[libc::c_long] = &[
    libc::SYS_capset,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup3,
    libc::SYS_execve,
    libc::SYS_exit_group,
    libc::SYS_fchdir,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_mkdirat,
    libc::SYS_mmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_umask,
];

/// The process that first halves are made for, as far as they depend on one.
#[derive(Debug)]
pub(crate) struct Model {
    process: Process,
    done: Done,
}

impl Model {
    /// Takes a process as the model of those to come.
    pub(crate) fn new(config: &Config, process: Process) -> Self {
        // Hooks in the container become what the process is about to become, by its plan.
        let alone = config.hooks.start_container.is_empty();
        let filter = process.seccomp.as_ref().is_some_and(|(flags, filter)| {
            flags & flag::NEW_LISTENER == 0 && is_plain(&process, config) && allows_the_init(filter)
        });
        let done = Done {
            session: process.terminal.is_none(),
            bounding: alone.then_some(process.capabilities.bounding),
            filter: alone && filter,
            root: false,
        };
        Self { process, done }
    }

    /// Compiles what is done before the program is known. Its last operation is a barrier.
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub(crate) fn begin(&self, config: &Config, facts: &Facts<'_>) -> Result<Plan> {
        let Self { process, done } = self;
        let mut plan = Plan::default();
        set_up(&mut plan, config, process, facts)?;
        if done.session {
            plan.push(Op::Session);
        }
        if let Some(keep) = done.bounding {
            plan.push(Op::Bounding { keep });
        }
        if let Some((flags, filter)) = process.seccomp.as_ref().filter(|_| done.filter) {
            if process.no_new_privileges {
                plan.push(Op::NoNewPrivileges);
            }
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
        plan.push(Op::Barrier { id: BARRIER_PARKED });
        Ok(plan)
    }

    /// Compiles what makes a parked init a process, with stdio and what follows it lent from 0 up;
    /// `None` if that process needs another first half than the model's.
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub(crate) fn finish(&self, config: &Config, process: &Process) -> Result<Option<Plan>> {
        let Self { process: model, done } = self;
        if !fits(process, model, config, *done) {
            return Ok(None);
        }
        let mut plan = Plan::default();
        take_descriptors(&mut plan, process);
        if process.make_cwd && !(model.make_cwd && process.cwd == model.cwd) {
            let path = text("cwd", clean(&process.cwd))?;
            plan.push(Op::MakeDirectory { path: Text(&path), mode: 0o755 });
        }
        process.compile(&mut plan, config, wait(config), *done)?;
        // Descriptors become the program's together.
        Ok((plan.parts().len() == 1).then_some(plan))
    }
}

/// Compiles the first half of a plan whose root is told later, too: the namespaces alone.
pub(crate) fn enter_only(config: &Config, facts: &Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    enter(&mut plan, config, facts);
    plan.push(Op::Barrier { id: BARRIER_PARKED });
    plan
}

/// Compiles the second half of such a plan, with stdio and what follows it lent from 0 up; `None` if
/// there are more descriptors than come together.
///
/// # Errors
/// As [`super::container::compile`].
pub(crate) fn furnish_later(
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<Option<Plan>> {
    let mut plan = Plan::default();
    furnish(&mut plan, config, process, facts)?;
    // They take the first slots of their part.
    plan.begin_part();
    let before = plan.parts().len();
    take_descriptors(&mut plan, process);
    process.compile(&mut plan, config, wait(config), Done::default())?;
    Ok((plan.parts().len() == before).then_some(plan))
}

/// Appends how descriptors that came with the program become its own.
fn take_descriptors(plan: &mut Plan, process: &Process) {
    if process.terminal.is_some() && process.preserved == 0 {
        return;
    }
    let count = 3 + process.preserved;
    for place in 0..count {
        plan.source(Source::Lent(usize::try_from(place).unwrap_or(usize::MAX)));
    }
    plan.push(Op::Stdio { count });
    plan.push(Op::ReopenNull);
}

fn wait(config: &Config) -> Wait {
    let hooks = !config.hooks.start_container.is_empty();
    Wait { for_start: false, for_hooks: hooks.then_some(BARRIER_START) }
}

/// Whether a filter lets the init do what is left.
pub(super) fn allows_the_init(filter: &[u8]) -> bool {
    let mut numbers = CALLS.iter().map(|number| u32::try_from(*number));
    numbers.all(|number| number.is_ok_and(|number| always_allows(filter, number)))
}

/// Whether all that is left are [`CALLS`].
pub(super) fn is_plain(process: &Process, config: &Config) -> bool {
    let Process { terminal, scheduler, io_priority, affinity, .. } = process;
    terminal.is_none()
        && scheduler.is_none()
        && io_priority.is_none()
        && matches!(affinity, [_, None])
        && config.personality.is_none()
        && config.memory_policy.is_none()
}

/// Whether a first half that was made for the model does for a process.
fn fits(process: &Process, model: &Process, config: &Config, done: Done) -> bool {
    let dropped = done.bounding.map_or(0, |bounding| !bounding);
    // It was made while the root could still be written to.
    let directory =
        !process.make_cwd || (model.make_cwd && process.cwd == model.cwd) || !config.readonlyfs;
    let filtered = !done.filter
        || (is_plain(process, config)
            && process.seccomp == model.seccomp
            && (process.no_new_privileges || !model.no_new_privileges));
    process.labels == model.labels
        && process.affinity[0] == model.affinity[0]
        && process.capabilities.bounding & dropped == 0
        && directory
        && filtered
}
