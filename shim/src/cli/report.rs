//! What a program says about its own work: errors, and what `--debug` adds.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::arguments::{Program, one_line};
use super::output;
use crate::error::{Error, Result, Step};

/// Why a program ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// It could not be done.
    Error(Error),
    /// The arguments are wrong, or ask for help or the version.
    Usage {
        /// What the parser says.
        error: clap::Error,
        /// The program with the verb.
        caller: String,
    },
    /// Nobody reads standard output any more, which is no error.
    OutputClosed,
}

/// What a verb answers: the exit status.
pub type Outcome = std::result::Result<u8, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The status for a failure of the program itself.
const FAILED: u8 = 1;
/// The status when the program of the container was found and cannot be executed: `env(1)`.
const NOT_EXECUTABLE: u8 = 126;
/// The status when the program of the container was not found.
const NOT_FOUND: u8 = 127;

/// Where a program tells of its work.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    log: Option<File>,
    debug: bool,
}

impl Report {
    pub(super) fn new(program: &'static str) -> Self {
        Self { program, log: None, debug: false }
    }

    /// Opens the log file, if there is to be one, and turns the details on.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn configure(&mut self, log: Option<&Path>, debug: bool) -> Result<()> {
        self.debug = debug;
        if let Some(path) = log {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            self.log = Some(file.map_err(|error| Error::path("open", path, error))?);
        }
        Ok(())
    }

    /// Whether details are wanted.
    pub(super) fn is_debug(&self) -> bool {
        self.debug
    }

    /// Tells an error: one line on standard error, and in the log.
    pub(super) fn error(&mut self, text: &dyn fmt::Display) {
        self.log("error", text);
        // There is no other place to tell that this one is closed.
        let _ = writeln!(io::stderr(), "{}: {text}", self.program);
    }

    /// Tells a detail, if details are wanted.
    pub(super) fn debug(&mut self, text: &dyn fmt::Display) {
        if self.debug {
            self.log("debug", text);
            let _ = writeln!(io::stderr(), "{}: {text}", self.program);
        }
    }

    /// Tells what is worth knowing but must not stand beside the error that caused it.
    pub(super) fn aside(&mut self, text: &dyn fmt::Display) {
        self.log("warning", text);
        if self.debug {
            let _ = writeln!(io::stderr(), "{}: {text}", self.program);
        }
    }

    /// Appends a line in the form of logrus, which tools for runc's logs read.
    fn log(&mut self, level: &str, text: &dyn fmt::Display) {
        let Some(log) = &mut self.log else { return };
        let time = timestamp(SystemTime::now());
        let mut line = format!("time=\"{time}\" level={level} msg=\"");
        for c in text.to_string().chars() {
            match c {
                '"' | '\\' => line.extend(['\\', c]),
                c if c.is_control() => line.extend(c.escape_default()),
                c => line.push(c),
            }
        }
        line.push_str("\"\n");
        // One write, so that lines of several programs do not mix. A full disk is no reason to
        // leave a container in a worse state than without a log.
        let _ = log.write_all(line.as_bytes());
    }

    /// Tells a failure and answers the exit status.
    pub(super) fn failed(&mut self, failure: &Failure, program: &Program) -> u8 {
        use clap::error::ErrorKind;
        match failure {
            Failure::OutputClosed => 0,
            Failure::Error(error) => {
                self.error(error);
                status(error)
            }
            Failure::Usage { error, caller } => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    self.outcome(output::styled(&error.render()))
                }
                ErrorKind::DisplayVersion => {
                    self.outcome(output::print(format_args!("{}\n", program.version)))
                }
                _ => {
                    self.error(&one_line(error, caller));
                    FAILED
                }
            },
        }
    }

    fn outcome(&mut self, printed: std::result::Result<(), Failure>) -> u8 {
        match printed {
            Ok(()) | Err(Failure::OutputClosed) => 0,
            Err(Failure::Error(error)) => {
                self.error(&error);
                FAILED
            }
            Err(Failure::Usage { .. }) => FAILED,
        }
    }
}

/// The exit status for an error: whether the program was found tells shells and schedulers more
/// than that there was an error.
fn status(error: &Error) -> u8 {
    match (error.step(), error.errno()) {
        (Step::Init { op: "exec", call: "exec", .. }, Some(Errno::NOENT | Errno::NOTDIR)) => {
            NOT_FOUND
        }
        // A script whose interpreter is missing has been found itself.
        (Step::Init { op: "exec", .. }, Some(_)) => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

/// A time as in RFC 3339, in UTC.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, seconds) = (since / 86400, since % 86400);
    // Years that begin in March have their leap day at the end: 146097 days in 400 of them.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, wraps) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + wraps;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(20);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Cause, Code, Subject};

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn the_status_tells_whether_the_program_was_there() {
        let exec = |call, errno| {
            let step = Step::Init { op: "exec", call, number: 9, of: 9 };
            Error::new(Code::SystemError, step, Subject::None, Cause::Errno(errno))
        };
        assert_eq!(status(&exec("exec", Errno::NOENT)), 127);
        assert_eq!(status(&exec("exec", Errno::NOTDIR)), 127);
        assert_eq!(status(&exec("exec", Errno::ACCESS)), 126);
        assert_eq!(status(&exec("exec", Errno::NOEXEC)), 126);
        assert_eq!(status(&exec("find the interpreter of", Errno::NOENT)), 126);
        assert_eq!(status(&Error::path("open", "/x", Errno::NOENT)), 1);
    }

    #[test]
    fn the_log_has_a_line_for_each_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut report = Report::new("nsinit");
        report.configure(Some(&path), false).unwrap();
        report.aside(&"a \"b\"\n\\");
        report.debug(&"not told");
        let text = std::fs::read_to_string(&path).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("time=\"2"), "{time}");
        assert_eq!(rest, "level=warning msg=\"a \\\"b\\\"\\n\\\\\"\n");
        let error = report.configure(Some(directory.path()), false).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ISDIR));
    }
}
