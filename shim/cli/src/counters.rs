//! What the programs print about containers that run.

use pidone::{Container, Stats, Status};
use pidone_config::{Code, Error, Result};

/// Returns the statistics of a container that runs. The library also has those of one that has
/// stopped, but clients take them as a sign that it runs, as with runc.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if it has stopped; otherwise as [`Container::stats`].
pub(crate) fn stats_of_running(container: &Container) -> Result<Stats> {
    check_runs(container, "stats")?;
    container.stats()
}

/// Returns the processes of a container that runs.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if it has stopped; otherwise as [`Container::processes`].
pub(crate) fn processes_of_running(container: &Container) -> Result<Vec<i32>> {
    check_runs(container, "processes")?;
    container.processes()
}

fn check_runs(container: &Container, verb: &'static str) -> Result<()> {
    if container.status()? == Status::Destroyed {
        let reason = "container is not running";
        return Err(Error::reason(Code::ContainerNotRunning, verb, container.id(), reason));
    }
    Ok(())
}
