//! What a program says about its own work: errors, and what `--debug` adds.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use clap::ValueEnum;
use pidone_config::error::{Step, Verb};
use pidone_config::{Error, Result};
use rustix::io::Errno;

use super::arguments::{Program, one_line};
use super::failure::Failure;
use super::output;
use super::timestamp::timestamp;

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
    format: Format,
    debug: bool,
    /// The status for every failure; if absent it tells whether the program was found.
    failed: Option<u8>,
}

/// How a line of the log looks: as one of logrus, which tools for runc's logs read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `time="..." level=error msg="..."`.
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

impl Report {
    pub(super) fn new(program: &'static str) -> Self {
        Self { program, log: None, format: Format::Text, debug: false, failed: None }
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

    /// Sets the form of the log's lines.
    pub(super) fn format(&mut self, format: Format) {
        self.format = format;
    }

    /// Sets the exit status for every failure from here on.
    pub(super) fn fails_with(&mut self, status: u8) {
        self.failed = Some(status);
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

    /// Tells what went wrong beside the work, which goes on.
    pub(super) fn warning(&mut self, text: &dyn fmt::Display) {
        self.log("warning", text);
        let _ = writeln!(io::stderr(), "{}: {text}", self.program);
    }

    /// Tells what is worth knowing but must not stand beside the error that caused it.
    pub(super) fn aside(&mut self, text: &dyn fmt::Display) {
        self.log("warning", text);
        if self.debug {
            let _ = writeln!(io::stderr(), "{}: {text}", self.program);
        }
    }

    /// Appends a line.
    fn log(&mut self, level: &str, text: &dyn fmt::Display) {
        let Some(log) = &mut self.log else { return };
        let time = timestamp(SystemTime::now());
        let text = text.to_string();
        let mut line = match self.format {
            Format::Text => {
                let mut line = format!("time=\"{time}\" level={level} msg=\"");
                for c in text.chars() {
                    match c {
                        '"' | '\\' => line.extend(['\\', c]),
                        c if c.is_control() => line.extend(c.escape_default()),
                        c => line.push(c),
                    }
                }
                line.push('"');
                line
            }
            Format::Json => {
                serde_json::json!({ "level": level, "msg": text, "time": time }).to_string()
            }
        };
        line.push('\n');
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
                self.failed.unwrap_or_else(|| status(error))
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
                    self.failed.unwrap_or(FAILED)
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
pub(super) fn status(error: &Error) -> u8 {
    match (error.step(), error.errno()) {
        (
            Step::Init { op: Verb::Exec, call: Verb::Exec, .. },
            Some(Errno::NOENT | Errno::NOTDIR),
        ) => NOT_FOUND,
        // A script whose interpreter is missing has been found itself.
        (Step::Init { op: Verb::Exec, .. }, Some(_)) => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::error::{Cause, Code, Subject};

    #[test]
    fn the_status_tells_whether_the_program_was_there() {
        let exec = |call: &'static str, errno| {
            let step = Step::Init { op: Verb::Exec, call: call.into(), number: 9, of: 9 };
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
        report.format(Format::Json);
        report.error(&"exec: \"x\": no\u{1b}");
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["msg"], "exec: \"x\": no\u{1b}");
        assert!(line["time"].as_str().unwrap().starts_with('2'), "{line}");
        let error = report.configure(Some(directory.path()), false).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ISDIR));
    }
}
