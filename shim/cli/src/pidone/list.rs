//! `pidone state` and `pidone list`: print the state of one or all containers.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd as _;
use std::path::Path;

use pidone::{Container, Status};
use pidone_config::error::Escaped;
use pidone_config::{Code, Config, Error, Result};
use serde::Serialize;

use super::{begin, flags};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;
use crate::{output, timestamp};

/// The state of a container: the fields of the specification, and those that runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    /// The ID of the first process on the host, or 0 if the container has stopped.
    pid: i32,
    status: &'static str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

impl<'a> State<'a> {
    fn new(container: &'a Container, config: &'a Config) -> Result<Self> {
        let status = container.status()?;
        let directory = rustix::fs::fstat(container.as_fd())
            .map_err(|errno| Error::system("stat", container.id(), errno))?;
        Ok(Self {
            oci_version: "1.3.0",
            id: container.id(),
            pid: if status == Status::Destroyed { 0 } else { container.pid() },
            status: match status {
                Status::Creating => "creating",
                Status::Created => "created",
                Status::Running => "running",
                Status::Paused => "paused",
                Status::Destroyed => "stopped",
            },
            bundle: &config.bundle,
            rootfs: &config.rootfs,
            created: timestamp::precise(container.created()),
            annotations: &config.annotations,
            owner: user_name(directory.st_uid),
        })
    }
}

/// Returns the name of a user of the host, or `#` and the ID if it has no name.
fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.map_or_else(|| format!("#{uid}"), str::to_owned)
}

/// Prints the state of a container.
///
/// # Errors
/// [`Code::ContainerNotExists`] if no container has the ID.
pub(super) fn state(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Id, flags::Global) = begin(invocation, report)?;
    let container = global.container(&flags.id)?;
    output::bytes(&output::indented(&State::new(&container, &container.config())?, b"  ")?)?;
    Ok(0)
}

/// Prints all containers.
///
/// # Errors
/// [`Code::SystemError`] if the directory with their state cannot be read. A container that cannot
/// be loaded is only a warning.
pub(super) fn list(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::List, flags::Global) = begin(invocation, report)?;
    let factory = global.factory(flags::Global::options())?;
    let mut containers = Vec::new();
    for id in factory.list()? {
        match factory.load(&id) {
            Ok(container) => containers.push(container),
            Err(error) => warn_skipped(report, &error),
        }
    }
    let configs: Vec<_> = containers.iter().map(Container::config).collect();
    let mut states = Vec::new();
    for (container, config) in containers.iter().zip(&configs) {
        match State::new(container, config) {
            Ok(state) => states.push(state),
            Err(error) => warn_skipped(report, &error),
        }
    }
    if flags.quiet {
        states.iter().try_for_each(|state| output::print(format_args!("{}\n", state.id)))?;
    } else if flags.format == flags::Format::Json {
        output::bytes(&output::line(&states)?)?;
    } else {
        output::print(format_args!("{}", Table(&states)))?;
    }
    Ok(0)
}

/// Warns about a container that cannot be loaded, unless another process has just deleted it.
fn warn_skipped(report: &mut Report, error: &Error) {
    if error.code() != Code::ContainerNotExists {
        report.warning(error);
    }
}

/// The states in columns, laid out like those of runc by Go's tabwriter.
struct Table<'a>(&'a [State<'a>]);

/// The minimum width of a column.
const WIDTH: usize = 12;
/// The minimum space between two columns.
const SPACE: usize = 3;

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
        let rows = self.0.iter().map(|state| {
            [
                state.id.to_owned(),
                state.pid.to_string(),
                state.status.to_owned(),
                Escaped(&state.bundle.to_string_lossy()).to_string(),
                state.created.clone(),
                state.owner.clone(),
            ]
        });
        let rows: Vec<_> = std::iter::once(title).chain(rows).collect();
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                if column + 1 == row.len() {
                    writeln!(f, "{cell}")?;
                } else {
                    let longest = rows.iter().map(|row| row[column].chars().count()).max();
                    let width = WIDTH.max(longest.unwrap_or(0) + SPACE);
                    write!(f, "{cell:width$}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_laid_out_like_those_of_runc() {
        let annotations = BTreeMap::new();
        let state = |id, bundle| State {
            oci_version: "1.3.0",
            id,
            pid: 7,
            status: "running",
            bundle: Path::new(bundle),
            rootfs: Path::new("/r"),
            created: "2024-01-01T00:00:00Z".to_owned(),
            annotations: &annotations,
            owner: "root".to_owned(),
        };
        let states = [state("a", "/b"), state("longer-than-that", "/x\u{1b}y")];
        assert_eq!(
            Table(&states).to_string(),
            "ID                 PID         STATUS      BUNDLE      CREATED                OWNER\n\
             a                  7           running     /b          2024-01-01T00:00:00Z   root\n\
             longer-than-that   7           running     /x\\u{1b}y   2024-01-01T00:00:00Z   root\n"
        );
        assert_eq!(Table(&[]).to_string().lines().count(), 1);
    }

    #[test]
    fn an_owner_without_a_name_is_printed_as_a_number() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(u32::MAX), "#4294967295");
    }
}
