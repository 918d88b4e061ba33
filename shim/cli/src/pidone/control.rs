//! The verbs that control a container: `start`, `kill`, `delete`, `pause` and `resume`.

use pidone::{Container, Status};
use pidone_config::config::NamespaceType;
use pidone_config::{Code, Error, Result};

use super::create::destroy;
use super::{begin, flags, notify};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;

/// Starts the process of a created container.
///
/// # Errors
/// [`Code::ContainerNotStopped`] if the container is not in the created state, and
/// [`Code::SystemError`] if its program cannot be executed.
pub(super) fn start(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Id, flags::Global) = begin(invocation, report)?;
    let factory = global.factory(flags::Global::options())?;
    let mut container = factory.load(&flags.id)?;
    let reason = match container.status()? {
        Status::Created => {
            let released = notify::release(&mut container, factory.root());
            // A hook has failed, and the container was destroyed.
            for error in container.poststop_failures() {
                report.warning(&error);
            }
            return Ok(released.map(|()| 0)?);
        }
        Status::Creating => "cannot start a container that is being created",
        Status::Running => "cannot start an already running container",
        Status::Paused => "cannot start a container in the paused state",
        Status::Destroyed => "cannot start a container that has stopped",
    };
    Err(Error::reason(Code::ContainerNotStopped, "start", flags.id, reason).into())
}

/// Sends a signal to a container.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if it has stopped. containerd looks for that message.
pub(super) fn kill(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Kill, flags::Global) = begin(invocation, report)?;
    let container = global.container(&flags.id.id)?;
    // The kernel kills all processes of a PID namespace with the first one. Without a namespace,
    // the other processes of the container would survive.
    let kills_all =
        flags.signal == libc::SIGKILL && !container.config().has_new(NamespaceType::Pid);
    let status = container.status()?;
    let sent = match status {
        // After the first process has exited, only the cgroup identifies the other processes.
        Status::Destroyed if container.config().cgroups.is_none() => {
            Err(not_running("kill", &flags.id.id))
        }
        _ if flags.all || kills_all => container.signal_all(flags.signal),
        _ => container.signal(flags.signal),
    };
    if status == Status::Paused && flags.signal == libc::SIGKILL {
        // On cgroup v1 a frozen process does not die before it is resumed. Elsewhere it may be dead
        // already, so ignore an error.
        let _ = container.resume();
    }
    match sent {
        // No process is left to send the signal to.
        Err(error) if error.code() == Code::ContainerNotRunning && flags.all => Ok(0),
        Err(error) if error.code() == Code::ContainerNotRunning => {
            Err(not_running("kill", &flags.id.id).into())
        }
        sent => Ok(sent.map(|()| 0)?),
    }
}

/// Returns the error whose message containerd looks for.
pub(super) fn not_running(verb: &'static str, id: &str) -> Error {
    Error::reason(Code::ContainerNotRunning, verb, id, "container not running")
}

/// Deletes a container.
///
/// # Errors
/// [`Code::ContainerNotStopped`] if it is running or paused, and [`Code::ContainerNotExists`] if it
/// does not exist, both only without `--force`. [`Code::SystemError`] if a part of it cannot be
/// removed.
pub(super) fn delete(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Delete, flags::Global) = begin(invocation, report)?;
    match delete_container(&flags, &global, report) {
        Err(error) if flags.force && error.code() == Code::ContainerNotExists => Ok(0),
        removed => Ok(removed.map(|()| 0)?),
    }
}

fn delete_container(
    flags: &flags::Delete,
    global: &flags::Global,
    report: &mut Report,
) -> Result<()> {
    let mut container = global.container(&flags.id.id)?;
    if flags.force {
        // Also if it has stopped: without a PID namespace some processes may be left.
        return destroy(&mut container, report);
    }
    if container.is_damaged() {
        let reason = "the state is damaged: its processes and cgroups cannot be found";
        return Err(Error::reason(Code::SystemError, "delete", &flags.id.id, reason)
            .with_hint("--force removes the state alone"));
    }
    let reason = match container.status()? {
        Status::Destroyed | Status::Created => return destroy(&mut container, report),
        Status::Creating => "cannot delete a container that is not stopped: creating",
        Status::Running => "cannot delete a container that is not stopped: running",
        Status::Paused => "cannot delete a container that is not stopped: paused",
    };
    Err(Error::reason(Code::ContainerNotStopped, "delete", &flags.id.id, reason))
}

/// Suspends all processes of a container.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if it has stopped, [`Code::ContainerPaused`] if it is paused
/// already, and [`Code::SystemError`] if the kernel does not freeze it.
pub(super) fn pause(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let container = container(invocation, report)?;
    match container.status()? {
        Status::Running | Status::Created => Ok(container.pause().map(|()| 0)?),
        Status::Paused => {
            let reason = "container not running or created: paused";
            Err(Error::reason(Code::ContainerPaused, "pause", container.id(), reason).into())
        }
        Status::Creating | Status::Destroyed => Err(not_running("pause", container.id()).into()),
    }
}

/// Resumes all processes of a paused container.
///
/// # Errors [`Code::ContainerNotRunning`] if it has stopped, and [`Code::SystemError`] if it is not
/// paused or the kernel does not thaw it.
pub(super) fn resume(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let container = container(invocation, report)?;
    match container.status()? {
        Status::Paused => Ok(container.resume().map(|()| 0)?),
        Status::Destroyed => Err(not_running("resume", container.id()).into()),
        Status::Creating | Status::Running | Status::Created => {
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
