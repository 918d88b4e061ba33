//! The verbs other than `exec`: they print, pause and resume.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pidone_config::config::CreateOptions;
use pidone_config::{Config, Error, Result};

use super::{container, flags, source};
use crate::arguments::Invocation;
use crate::counters::stats_of_running;
use crate::failure::Outcome;
use crate::output;
use crate::report::Report;

/// Prints the template for `--rootfs` or the current directory, with the options applied.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if an option is wrong, and
/// [`pidone_config::Code::SystemError`] with the path if the file cannot be written.
pub(super) fn config(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let flags: flags::Config = invocation.parse()?;
    report.configure(flags.global.log_file.as_deref(), flags.global.debug)?;
    let rootfs = match &flags.create.rootfs {
        Some(rootfs) => {
            std::path::absolute(rootfs).map_err(|error| Error::path("open", rootfs, error))?
        }
        None => source::current_directory()?,
    };
    let mut config = Config::template(rootfs);
    CreateOptions::from(flags.create).apply(&mut config)?;
    source::name_after_root(&mut config);
    config.validate()?;
    let text = output::json(&config)?;
    match &flags.file {
        Some(path) => write(path, &text)?,
        None => output::bytes(&text)?,
    }
    Ok(0)
}

/// Writes a file that `nsinit exec` accepts in the current directory: others cannot write to it,
/// whatever the umask.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path);
    let mut file = file.map_err(|error| Error::path("open", path, error))?;
    file.write_all(text).map_err(|error| Error::path("write", path, error))
}

/// Prints a line each time the container runs out of memory, until it stops.
///
/// # Errors
/// [`pidone_config::Code::ContainerNotRunning`] if it has stopped, and
/// [`pidone_config::Code::SystemError`] if it has no memory cgroup.
pub(super) fn oom(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let mut watcher = container(invocation, report)?.notify_oom()?;
    while let Some(count) = watcher.wait()? {
        for _ in 0..count {
            output::print(format_args!("OOM notification received\n"))?;
        }
    }
    Ok(0)
}

/// Suspends all processes of the container.
///
/// # Errors
/// [`pidone_config::Code::ContainerNotRunning`] if it has stopped, and
/// [`pidone_config::Code::SystemError`] if the kernel does not freeze it.
pub(super) fn pause(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    container(invocation, report)?.pause()?;
    Ok(0)
}

/// Resumes all processes of the container.
///
/// # Errors
/// [`pidone_config::Code::ContainerNotRunning`] if it has stopped, and
/// [`pidone_config::Code::SystemError`] if the kernel does not thaw it.
pub(super) fn unpause(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    container(invocation, report)?.resume()?;
    Ok(0)
}

/// Prints the resource usage of the container.
///
/// # Errors
/// [`pidone_config::Code::ContainerNotRunning`] if it has stopped.
pub(super) fn stats(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let stats = stats_of_running(&container(invocation, report)?)?;
    output::bytes(&output::json(&stats)?)?;
    Ok(0)
}

/// Prints the state of the container.
///
/// # Errors
/// [`pidone_config::Code::ContainerNotRunning`] if it has stopped.
pub(super) fn state(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let container = container(invocation, report)?;
    output::bytes(&output::json(&*container.state()?)?)?;
    Ok(0)
}
