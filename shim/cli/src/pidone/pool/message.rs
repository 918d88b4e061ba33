//! What clients and the service say to each other: JSON, a value on a line.

use pidone::pool::Status;
use pidone_config::{Code, Error, Result};
use pidone_host::exit::Exit;
use serde::{Deserialize, Serialize};

use crate::report::status;
use crate::signals;

/// The longest line, in bytes.
pub(super) const LONGEST: usize = 1024 * 1024;

/// The most descriptors that come with a request.
pub(super) const DESCRIPTORS: usize = 64;

/// The first line of a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// A container for a program. The descriptors that come along are its stdio and those behind
    /// it; without any, stdio is the null device.
    Run(Program),
    /// What the pool has.
    Status {},
    /// No more containers.
    Drain {},
}

/// A program, as far as it is another than that of the bundle.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Program {
    /// The program and its arguments; empty for the bundle's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) args: Vec<String>,
    /// Variables besides the bundle's, or in place of those of the same name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) env: Vec<String>,
    /// The working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cwd: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

/// A further line of a client whose program runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Order {
    /// A signal for it, by its name or number.
    Signal(String),
}

/// A line of the service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The program runs.
    Started {
        /// The id of the container.
        id: String,
        /// The program's process id on the host.
        pid: i32,
        /// Whether the container had waited for it.
        warm: bool,
    },
    /// It has ended.
    Exited {
        /// The code, or 128 and the signal.
        status: i32,
        /// The code, if it has exited.
        code: Option<i32>,
        /// The signal that killed it.
        signal: Option<i32>,
    },
    /// What the pool has.
    Status(serde_json::Value),
    /// There will be no more containers.
    Drained {},
    /// It cannot be done. Nothing follows.
    Error {
        /// In one line.
        message: String,
        /// What `pidone pool run` exits with: 127 if there is no such program, 126 if it cannot be
        /// executed, else 125.
        status: u8,
    },
}

impl Order {
    /// The number of a signal.
    pub(super) fn signal(self) -> Result<i32> {
        let Self::Signal(text) = self;
        signals::parse(&text).map_err(|reason| Error::config("signal", text, reason))
    }
}

impl Answer {
    /// How a program ended; `killed_for` is the signal in whose place it was killed.
    pub(super) fn exited(exit: &Exit, killed_for: Option<i32>) -> Self {
        let signal = match exit.signal {
            Some(libc::SIGKILL) => killed_for.or(exit.signal),
            signal => signal,
        };
        let status = signal.map_or_else(|| exit.status(), |signal| 128 + signal);
        Self::Exited { status, code: exit.code, signal }
    }

    /// Why something cannot be done.
    pub(super) fn error(error: &Error) -> Self {
        const FAILED: u8 = 125;
        let status = match status(error) {
            1 => FAILED,
            status => status,
        };
        Self::Error { message: error.to_string(), status }
    }

    pub(super) fn status(status: &Status) -> Self {
        Self::Status(serde_json::to_value(status).unwrap_or_default())
    }
}

/// Reads a line of a client.
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
    fn requests_are_strict() {
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
    fn signals_are_names_or_numbers() {
        let number = |text: &str| {
            let order: Order = decode(text.as_bytes(), "order")?;
            order.signal()
        };
        assert_eq!(number(r#"{"signal":"15"}"#).unwrap(), 15);
        assert_eq!(number(r#"{"signal":"SIGHUP"}"#).unwrap(), 1);
        for bad in [r#"{"signal":"65"}"#, r#"{"signal":1}"#, r#"{"signal":"X"}"#, "{}"] {
            assert!(number(bad).is_err(), "{bad}");
        }
    }
}
