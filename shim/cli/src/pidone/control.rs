//! The verbs that change what a container does: start, kill, delete, pause, resume.

use pidone::{Container, Status};
use pidone_config::config::NamespaceType;
use pidone_config::{Code, Error, Result};

use super::create::destroy;
use super::{begin, flags, notify};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;

/// Lets the process of a created container run.
///
/// # Errors
/// The container does not wait, or its program cannot be executed.
pub fn start(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Id, flags::Global) = begin(invocation, report)?;
    let factory = global.factory(flags::Global::options())?;
    let mut container = factory.load(&flags.id)?;
    let reason = match container.status()? {
        Status::Created => {
            notify::release(&mut container, factory.root())?;
            return Ok(0);
        }
        Status::Running => "cannot start an already running container",
        Status::Paused => "cannot start a container in the paused state",
        Status::Destroyed => "cannot start a container that has stopped",
    };
    Err(Error::reason(Code::ContainerNotStopped, "start", flags.id, reason).into())
}

/// Sends a signal.
///
/// # Errors
/// The container does not run, in the words that containerd looks for: `container not running`.
pub fn kill(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Kill, flags::Global) = begin(invocation, report)?;
    let mut container = global.container(&flags.id.id)?;
    // With a pid namespace the kernel kills all its processes with the first one. Without, those
    // that outlive it are the container's too.
    let kills_all =
        flags.signal == libc::SIGKILL && !container.config().has_new(NamespaceType::Pid);
    let status = container.status()?;
    let sent = match status {
        // Only a cgroup still tells which processes are the container's.
        Status::Destroyed if container.config().cgroups.is_none() => {
            Err(not_running("kill", &flags.id.id))
        }
        _ if flags.all || kills_all => container.signal_all(flags.signal),
        _ => container.signal(flags.signal),
    };
    if status == Status::Paused && flags.signal == libc::SIGKILL {
        // cgroup v1 keeps a frozen process from dying. It may have died all the same.
        let _ = container.resume();
    }
    match sent {
        // Nothing is left that could be signalled.
        Err(error) if error.code() == Code::ContainerNotRunning && flags.all => Ok(0),
        Err(error) if error.code() == Code::ContainerNotRunning => {
            Err(not_running("kill", &flags.id.id).into())
        }
        sent => Ok(sent.map(|()| 0)?),
    }
}

/// The words that containerd looks for.
pub(super) fn not_running(verb: &'static str, id: &str) -> Error {
    Error::reason(Code::ContainerNotRunning, verb, id, "container not running")
}

/// Removes a container.
///
/// # Errors
/// It runs, or something of it cannot be removed; without `--force` also if there is none.
pub fn delete(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Delete, flags::Global) = begin(invocation, report)?;
    match remove(&flags, &global, report) {
        Err(error) if flags.force && error.code() == Code::ContainerNotExists => Ok(0),
        removed => Ok(removed.map(|()| 0)?),
    }
}

fn remove(flags: &flags::Delete, global: &flags::Global, report: &mut Report) -> Result<()> {
    let mut container = global.container(&flags.id.id)?;
    if flags.force {
        // Even of one that has ended: without a pid namespace processes may be left.
        return destroy(&mut container, report);
    }
    let reason = match container.status()? {
        Status::Destroyed | Status::Created => return destroy(&mut container, report),
        Status::Running => "cannot delete a container that is not stopped: running",
        Status::Paused => "cannot delete a container that is not stopped: paused",
    };
    Err(Error::reason(Code::ContainerNotStopped, "delete", &flags.id.id, reason))
}

/// Makes the container's processes stand still.
///
/// # Errors
/// It does not run, stands still already, or does not freeze.
pub fn pause(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let mut container = container(invocation, report)?;
    match container.status()? {
        Status::Running | Status::Created => Ok(container.pause().map(|()| 0)?),
        Status::Paused => {
            let reason = "container not running or created: paused";
            Err(Error::reason(Code::ContainerPaused, "pause", container.id(), reason).into())
        }
        Status::Destroyed => Err(not_running("pause", container.id()).into()),
    }
}

/// Lets the container's processes run again.
///
/// # Errors
/// It does not stand still, or does not thaw.
pub fn resume(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let mut container = container(invocation, report)?;
    match container.status()? {
        Status::Paused => Ok(container.resume().map(|()| 0)?),
        Status::Destroyed => Err(not_running("resume", container.id()).into()),
        Status::Running | Status::Created => {
            let reason = "container not paused";
            Err(Error::reason(Code::SystemError, "resume", container.id(), reason).into())
        }
    }
}

fn container(
    invocation: &Invocation<'_>,
    report: &mut Report,
) -> std::result::Result<Container, crate::failure::Failure> {
    let (flags, global): (flags::Id, flags::Global) = begin(invocation, report)?;
    Ok(global.container(&flags.id)?)
}
