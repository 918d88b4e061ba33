//! `pidone ps`: lists the processes of a container.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use pidone_config::{Code, Error, Result};

use super::exec::split_line;
use super::{begin, flags};
use crate::arguments::Invocation;
use crate::counters::processes_of_running;
use crate::failure::Outcome;
use crate::output;
use crate::report::Report;

/// Prints the processes of a container: their IDs as JSON, or their lines from ps(1) of the host. A
/// container that has stopped has none.
///
/// # Errors
/// [`Code::SystemError`] if ps(1) fails or prints no column `PID`.
pub(super) fn ps(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Ps, flags::Global) = begin(invocation, report)?;
    let (id, options) = split_line(&flags.line)?;
    let pids = match processes_of_running(&global.container(id)?) {
        // It has no process.
        Err(error) if error.code() == Code::ContainerNotRunning => Vec::new(),
        pids => pids?,
    };
    if flags.format == flags::Format::Json {
        output::bytes(&output::line(&pids)?)?;
        return Ok(0);
    }
    if pids.is_empty() {
        return Ok(0);
    }
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    }
    let output = command
        .args(options)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::system("exec", "ps", error))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::reason(Code::SystemError, "exec", "ps", message).into());
    }
    output::print(format_args!(
        "{}",
        select_lines(&String::from_utf8_lossy(&output.stdout), &pids)?
    ))?;
    Ok(0)
}

/// Returns the title of a list of ps(1), and the lines of these processes.
fn select_lines(list: &str, pids: &[i32]) -> Result<String> {
    let refuse = |reason| Error::reason(Code::SystemError, "read", "ps", reason);
    let title = list.lines().next().unwrap_or_default();
    let column = title.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| refuse("its list has no column PID"))?;
    let mut selected = String::new();
    let _ = writeln!(selected, "{title}");
    for line in list.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        let pid = pid.ok_or_else(|| refuse("its list has a line without a number for PID"))?;
        if pids.contains(&pid) {
            let _ = writeln!(selected, "{line}");
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_processes_of_the_container_are_listed() {
        let list = "UID   PID  PPID CMD\nroot    1     0 init 7\nroot    7     1 sh -c PID\n\n";
        assert_eq!(
            select_lines(list, &[7, 9]).unwrap(),
            "UID   PID  PPID CMD\nroot    7     1 sh -c PID\n"
        );
        assert!(select_lines("CMD\nsh\n", &[1]).is_err());
        assert!(select_lines("PID\nx\n", &[1]).is_err());
        assert!(select_lines("", &[1]).is_err());
    }
}
