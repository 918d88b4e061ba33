//! Messages of a program about itself: errors, warnings, and the details of `--debug`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use clap::ValueEnum;
use pidone_config::error::{Escaped, Step, Verb};
use pidone_config::{Error, Result};
use rustix::io::Errno;

use super::failure::{Failure, one_line};
use super::output;
use super::timestamp::timestamp;

/// The exit status for a failure of `pidone` or `nsinit` itself.
const FAILED: u8 = 1;
/// The exit status if the program of the container cannot be executed, as of env(1).
const NOT_EXECUTABLE: u8 = 126;
/// The exit status if the program of the container was not found, as of env(1).
const NOT_FOUND: u8 = 127;

/// Writes messages to standard error and to the log file.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    log: Option<File>,
    format: Format,
    debug: bool,
    /// The exit status for every failure. Without one, the status depends on the error.
    failure_status: Option<u8>,
    /// Whether messages on standard error are preceded by the name of the program.
    is_named: bool,
}

/// The format of the lines in the log: that of logrus, as in runc's logs.
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
        Self {
            program,
            log: None,
            format: Format::Text,
            debug: false,
            failure_status: None,
            is_named: true,
        }
    }

    /// Opens the log file if there is one, and sets whether details are reported.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] with the path if the file cannot be opened.
    pub(super) fn configure(&mut self, log: Option<&Path>, debug: bool) -> Result<()> {
        self.debug = debug;
        if let Some(path) = log {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            self.log = Some(file.map_err(|error| Error::path("open", path, error))?);
        }
        Ok(())
    }

    /// Sets the format of the lines in the log.
    pub(super) fn set_log_format(&mut self, format: Format) {
        self.format = format;
    }

    /// Sets the exit status for every failure from now on.
    pub(super) fn set_failure_status(&mut self, status: u8) {
        self.failure_status = Some(status);
    }

    /// Leaves the name of the program out of messages on standard error from now on. The caller is
    /// a client that puts the runtime's name before the message.
    pub(super) fn leave_out_name(&mut self) {
        self.is_named = false;
    }

    /// Whether details are reported.
    pub(super) fn is_debug(&self) -> bool {
        self.debug
    }

    /// Writes an error: one line on standard error, and one in the log.
    pub(super) fn error(&mut self, text: &dyn fmt::Display) {
        self.log("error", text);
        self.print(text);
    }

    /// Writes a detail if details are reported: to the log, or without one to standard error in the
    /// format of the log, as runc does.
    pub(super) fn debug(&mut self, text: &dyn fmt::Display) {
        if !self.debug {
            return;
        }
        match self.log {
            Some(_) => self.log("debug", text),
            None => {
                let _ = io::stderr().write_all(self.line("debug", text).as_bytes());
            }
        }
    }

    /// Writes a warning: something failed, but the program continues.
    pub(super) fn warning(&mut self, text: &dyn fmt::Display) {
        self.log("warning", text);
        self.print(text);
    }

    /// Writes a warning to the log, and to standard error only with `--debug`: standard error has
    /// one line, that of the error that caused this one.
    pub(super) fn secondary(&mut self, text: &dyn fmt::Display) {
        self.log("warning", text);
        if self.debug {
            self.print(text);
        }
    }

    /// Writes a line to standard error. If that is closed, there is nowhere to report it.
    fn print(&self, text: &dyn fmt::Display) {
        let _ = if self.is_named {
            writeln!(io::stderr(), "{}: {text}", self.program)
        } else {
            writeln!(io::stderr(), "{text}")
        };
    }

    /// Appends a line to the log.
    fn log(&mut self, level: &str, text: &dyn fmt::Display) {
        if self.log.is_none() {
            return;
        }
        let line = self.line(level, text);
        if let Some(log) = &mut self.log {
            // One write, so that lines of several programs do not mix. An error is ignored: a full
            // disk must not stop the work on a container.
            let _ = log.write_all(line.as_bytes());
        }
    }

    /// Returns a message as a line of the log.
    fn line(&self, level: &str, text: &dyn fmt::Display) -> String {
        let time = timestamp(SystemTime::now());
        let text = text.to_string();
        let mut line = match self.format {
            Format::Text => {
                let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
                format!("time=\"{time}\" level={level} msg=\"{}\"", Escaped(&quoted))
            }
            Format::Json => {
                serde_json::json!({ "level": level, "msg": text, "time": time }).to_string()
            }
        };
        line.push('\n');
        line
    }

    /// Reports a failure and returns the exit status. Help and `version` are printed here, since
    /// the parser returns them as failures.
    pub(super) fn report_failure(&mut self, failure: &Failure, version: &str) -> u8 {
        use clap::error::ErrorKind;
        match failure {
            Failure::OutputClosed => 0,
            Failure::Error(error) => {
                self.error(error);
                self.failure_status.unwrap_or_else(|| status(error))
            }
            Failure::Usage { error, caller } => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    self.print_status(output::styled(&error.render()))
                }
                ErrorKind::DisplayVersion => {
                    self.print_status(output::print(format_args!("{version}\n")))
                }
                _ => {
                    self.error(&one_line(error, caller));
                    self.failure_status.unwrap_or(FAILED)
                }
            },
        }
    }

    /// Returns the exit status after printing to standard output.
    fn print_status(&mut self, printed: std::result::Result<(), Failure>) -> u8 {
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

/// Returns the exit status for an error: 127 if the program of the container was not found, 126 if
/// it cannot be executed, else 1. Shells and schedulers tell these cases apart.
pub(super) fn status(error: &Error) -> u8 {
    match (error.step(), error.errno()) {
        (
            Step::Init { op: Verb::Exec, call: Verb::Exec, .. },
            Some(Errno::NOENT | Errno::NOTDIR),
        ) => NOT_FOUND,
        // Also a script whose interpreter is missing: the script itself was found.
        (Step::Init { op: Verb::Exec, .. }, Some(_)) => NOT_EXECUTABLE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::error::{Cause, Code, Subject};

    #[test]
    fn the_status_is_127_for_a_missing_program_and_126_for_one_that_cannot_be_executed() {
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
    fn each_message_is_one_escaped_line_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut report = Report::new("nsinit");
        report.configure(Some(&path), false).unwrap();
        report.secondary(&"a \"b\"\n\\");
        report.debug(&"not reported");
        let text = std::fs::read_to_string(&path).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("time=\"2"), "{time}");
        assert_eq!(rest, "level=warning msg=\"a \\\"b\\\"\\n\\\\\"\n");
        report.set_log_format(Format::Json);
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
