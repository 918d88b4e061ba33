//! The messages between clients and the service: lines of JSON.
//!
//! `manual/pool.roff` documents them for other programs. Change both together.

use std::time::Duration;

use pidone_config::{Code, Error, Result};
use pidone_host::exit::Exit;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::status;
use crate::signals;

/// The longest line, in bytes.
pub(super) const LONGEST: usize = 1024 * 1024;

/// The most file descriptors with a request.
pub(super) const DESCRIPTORS: usize = 64;

/// The first line from a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Run a program. The descriptors that are sent with the line become 0, 1, 2 and so on; without
    /// descriptors, 0 to 2 are the null device.
    Run(Program),
    /// Run a further program in the container of another client's program, named by `id`.
    Exec(Program),
    /// Send the status of the pool.
    Status {},
    /// Send the counters of the pool in Prometheus' text format.
    Metrics {},
    /// Remove the ready containers and accept no more clients.
    Drain {},
}

/// A program, as far as it differs from that of the bundle.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Program {
    /// The name of the bundle of a container; not of a further program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bundle: Option<String>,
    /// The container in which a further program runs, as `started` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// The program and its arguments, or empty for those of the bundle.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) args: Vec<String>,
    /// Environment variables, which are added to those of the bundle or replace them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) env: Vec<String>,
    /// The working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cwd: Option<String>,
    /// The user and group: `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// The seconds after which the program is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<f64>,
    /// The most memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<u64>,
    /// The most processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pids: Option<u64>,
    /// The most CPU time, in processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpus: Option<f64>,
    /// Whether the service sends what the program writes to standard output and error, for clients
    /// that cannot pass descriptors.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) output: bool,
    /// The rows and columns of a new terminal, whose master comes with `started`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) terminal: Option<[u16; 2]>,
    /// Whether line feeds to the terminal stay as they are, and get no carriage return.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) keep_newlines: bool,
}

impl Program {
    /// Checks the limits.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for one that is no positive number.
    pub(super) fn check_limits(&self) -> Result<()> {
        for (field, number) in [("timeout", self.timeout), ("cpus", self.cpus)] {
            if let Some(number) = number.filter(|number| !(number.is_finite() && *number > 0.0)) {
                return Err(Error::config(field, number, "must be more than 0"));
            }
        }
        for (field, number) in [("memory", self.memory), ("pids", self.pids)] {
            if number == Some(0) {
                return Err(Error::config(field, 0, "must be more than 0"));
            }
        }
        Ok(())
    }

    /// Whether the program has other limits of the cgroup than the bundle.
    pub(super) fn has_limits(&self) -> bool {
        self.memory.is_some() || self.pids.is_some() || self.cpus.is_some()
    }
}

/// A further line from a client while its program runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Control {
    /// Send this signal: its number, or text with its name or number. Number 0 sends none, and is
    /// answered by [`Response::Running`].
    Signal(Value),
}

/// A line from the service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Response {
    /// The program has been started.
    Started {
        /// The ID of the container.
        id: String,
        /// The process ID of the program on the host.
        pid: i32,
        /// Whether the container was ready before the request.
        warm: bool,
    },
    /// The program has exited. This is the last line.
    Exited {
        /// The exit status, or 128 plus the signal.
        status: i32,
        /// The exit status, unless a signal killed the program.
        code: Option<i32>,
        /// The signal that killed it.
        signal: Option<i32>,
        /// Whether it was killed since its time was over.
        timed_out: bool,
        /// How many processes of the container the kernel has killed for lack of memory.
        oom_kills: u64,
        /// What the program used.
        usage: Usage,
    },
    /// What the program has written, if the request asks for it.
    Output {
        /// The descriptor: 1 or 2.
        fd: u8,
        /// The bytes.
        base64: String,
    },
    /// The program runs, as a client has asked by signal 0.
    Running {},
    /// The status of the pool.
    Status(Value),
    /// The counters, in Prometheus' text format.
    Metrics(String),
    /// The pool is drained.
    Drained {},
    /// The request failed. This is the last line, unless `running` is set.
    Error {
        /// The reason, on one line.
        message: String,
        /// The exit status of `pidone pool run`: 127 if the program is not found, 126 if it cannot
        /// be executed, else 125.
        status: u8,
        /// Whether only an order was refused, and the program runs on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        running: bool,
    },
}

/// The resources that a program used.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Usage {
    /// The CPU time in user mode, in microseconds.
    user_us: u64,
    /// The CPU time in the kernel, in microseconds.
    system_us: u64,
    /// The largest resident set size of one of its processes, in KiB.
    max_rss_kib: u64,
}

impl Control {
    /// Returns the number of the signal.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] if there is no such signal.
    pub(super) fn signal(self) -> Result<i32> {
        let Self::Signal(name) = self;
        let text = match name {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text,
            other => {
                return Err(Error::config("signal", other, "must be a name or a number"));
            }
        };
        signals::parse(&text).map_err(|reason| Error::config("signal", text, reason))
    }
}

impl Response {
    /// Returns the response for an exit. `killed_for` is the signal instead of which the service
    /// sent SIGKILL.
    pub(super) fn exited(
        exit: &Exit,
        killed_for: Option<i32>,
        timed_out: bool,
        oom_kills: u64,
    ) -> Self {
        let signal = match exit.signal {
            Some(libc::SIGKILL) => killed_for.or(exit.signal),
            signal => signal,
        };
        let status = signal.map_or_else(|| exit.status(), |signal| 128 + signal);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let usage = Usage {
            user_us: micros(exit.usage.user),
            system_us: micros(exit.usage.system),
            max_rss_kib: exit.usage.max_rss,
        };
        Self::Exited { status, code: exit.code, signal, timed_out, oom_kills, usage }
    }

    /// Returns the response for an error.
    pub(super) fn error(error: &Error) -> Self {
        const FAILED: u8 = 125;
        let status = match status(error) {
            1 => FAILED,
            status => status,
        };
        Self::Error { message: error.to_string(), status, running: false }
    }

    /// Returns the response for an order that was refused, while the program runs on.
    pub(super) fn refused(error: &Error) -> Self {
        Self::Error { message: error.to_string(), status: 125, running: true }
    }
}

/// Parses a line. `what` names it in the error.
///
/// # Errors
/// [`Code::ConfigInvalid`] if it is not a valid message.
pub(super) fn decode<'a, T: Deserialize<'a>>(line: &'a [u8], what: &'static str) -> Result<T> {
    serde_json::from_slice(line)
        .map_err(|error| Error::reason(Code::ConfigInvalid, what, "", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Request> {
        decode(text.as_bytes(), "request")
    }

    #[test]
    fn unknown_fields_and_several_requests_are_refused() {
        assert!(matches!(request(r#"{"status":{}}"#), Ok(Request::Status {})));
        let Ok(Request::Run(program)) = request(r#"{"run":{"args":["a"],"cwd":"/x"}}"#) else {
            panic!("refused");
        };
        assert_eq!((program.args.len(), program.cwd.as_deref()), (1, Some("/x")));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"run":{"arg":["a"]}}"#,
            r#"{"run":{},"status":{}}"#,
            r#"{"walk":{}}"#,
            r#"{"run":{"args":"a"}}"#,
        ] {
            assert!(request(bad).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(request(&deep).is_err());
    }

    #[test]
    fn signals_have_a_name_or_number() {
        let number = |text: &str| {
            let control: Control = decode(text.as_bytes(), "order")?;
            control.signal()
        };
        assert_eq!(number(r#"{"signal":"15"}"#).unwrap(), 15);
        assert_eq!(number(r#"{"signal":"SIGHUP"}"#).unwrap(), 1);
        assert_eq!(number(r#"{"signal":9}"#).unwrap(), 9);
        assert_eq!(number(r#"{"signal":0}"#).unwrap(), 0);
        for bad in [
            r#"{"signal":"65"}"#,
            r#"{"signal":-1}"#,
            r#"{"signal":1.5}"#,
            r#"{"signal":"X"}"#,
            "{}",
        ] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
