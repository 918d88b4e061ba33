//! The verbs that print, and those that pause.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pidone_config::config::CreateOptions;
use pidone_config::{Config, Error, Result};

use super::{container, flags, source};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::output;
use crate::report::Report;

/// Prints the template for the current directory, or that of `--rootfs`, changed by the options.
///
/// # Errors
/// An option has a wrong value, or the file cannot be written.
pub fn config(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
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
    config.validate()?;
    let text = output::json(&config)?;
    match &flags.file {
        Some(path) => write(path, &text)?,
        None => output::bytes(&text)?,
    }
    Ok(0)
}

/// Writes a file that is fit to be read from a current directory: no umask lets others write.
fn write(path: &Path, text: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path);
    let mut file = file.map_err(|error| Error::path("open", path, error))?;
    file.write_all(text).map_err(|error| Error::path("write", path, error))
}

/// Prints a line for each time that the container is out of memory, until it ends.
///
/// # Errors
/// The container does not run, or has no memory cgroup.
pub fn oom(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let mut watcher = container(invocation, report)?.notify_oom()?;
    while let Some(count) = watcher.wait()? {
        for _ in 0..count {
            output::print(format_args!("OOM notification received\n"))?;
        }
    }
    Ok(0)
}

/// Makes the container's processes stand still.
///
/// # Errors
/// The container does not run, or does not freeze.
pub fn pause(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    container(invocation, report)?.pause()?;
    Ok(0)
}

/// Lets the container's processes run again.
///
/// # Errors
/// The container does not run, or does not thaw.
pub fn unpause(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    container(invocation, report)?.resume()?;
    Ok(0)
}

/// Prints what the container uses.
///
/// # Errors
/// The container does not run.
pub fn stats(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let stats = container(invocation, report)?.stats()?;
    output::bytes(&output::json(&stats)?)?;
    Ok(0)
}

/// Prints the state of the container.
///
/// # Errors
/// The container does not run.
pub fn state(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let container = container(invocation, report)?;
    output::bytes(&output::json(container.state()?)?)?;
    Ok(0)
}
