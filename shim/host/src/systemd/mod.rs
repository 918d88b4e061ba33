//! The service manager systemd, over D-Bus: transient scopes, their properties and their end.
//!
//! A scope is a unit of systemd for processes that another program has started. A client is one
//! connection, over which the caller sends one request after the other. It is made for one unit:
//! the only signals that the bus sends it are those about the end of this unit's jobs.
//!
//! ```text
//! address      where the buses listen       value     the types of D-Bus and their encoding
//! connection   authentication, calls        message   calls, replies, errors, signals
//! text         values in annotations
//! ```
//!
//! References: the D-Bus specification; `org.freedesktop.systemd1(5)`.

mod address;
mod connection;
mod message;
mod text;
mod value;

use std::fmt::Write as _;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};

use crate::privilege;
use connection::{Answer, Connection};
use message::{Call, Kind, Message};

pub(crate) use connection::Refusal;
pub(crate) use text::parse as parse_text;
pub(crate) use value::Value;

/// How long systemd may take for everything that one client asks.
const TIMEOUT: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The service manager that has the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// That of the host.
    System,
    /// That of a user's session.
    User,
}

impl Manager {
    /// Returns the manager that the caller may ask: that of the host for its root user, and that of
    /// the session for everyone else, also for root of a user namespace.
    #[must_use]
    pub fn of_caller() -> Self {
        if privilege::is_host_root() { Self::System } else { Self::User }
    }
}

/// A property of a unit: its name, and a value of the type that systemd documents.
pub(crate) type Property = (String, Value);

/// A job that systemd has begun.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its object path.
    path: String,
    /// The name of systemd on the bus: signals of anyone else are not about the job. `None`
    /// without a bus.
    owner: Option<String>,
}

/// A connection to systemd for requests about one unit.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
    unit: String,
}

impl Client {
    /// Connects for requests about `unit`. Nothing is waited for yet.
    ///
    /// # Errors
    /// [`Code::SystemError`] with the path of the socket if nothing listens there.
    pub(crate) fn connect(manager: Manager, unit: &str) -> Result<Self> {
        let deadline = Instant::now() + TIMEOUT;
        let mut connection = Connection::open(&address::of(manager)?, deadline)?;
        connection.add_match(&format!(
            "type='signal',sender='{SYSTEMD}',path='{SYSTEMD_PATH}',interface='{MANAGER}',\
             member='JobRemoved',arg2='{unit}'"
        ))?;
        Ok(Self { connection, unit: unit.to_owned() })
    }

    /// Returns the name of the unit.
    pub(crate) fn unit(&self) -> &str {
        &self.unit
    }

    /// Whether descriptors can be sent with a request.
    pub(crate) fn passes_descriptors(&mut self) -> Result<bool> {
        self.connection.passes_descriptors()
    }

    /// Returns the cgroup of the manager itself, below which its slices are.
    pub(crate) fn control_group(&mut self) -> Result<PathBuf> {
        self.group_of(SYSTEMD_PATH, MANAGER)
    }

    /// Returns the cgroup of the scope; empty if it has none.
    pub(crate) fn scope_group(&mut self) -> Result<PathBuf> {
        // Object paths have only letters and digits, and `_` before the number of any other byte.
        let mut path = format!("{SYSTEMD_PATH}/unit/");
        for (at, &byte) in self.unit.as_bytes().iter().enumerate() {
            if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
                path.push(byte.into());
            } else {
                let _ = write!(path, "_{byte:02x}");
            }
        }
        self.group_of(&path, "org.freedesktop.systemd1.Scope")
    }

    fn group_of(&mut self, path: &str, interface: &str) -> Result<PathBuf> {
        let arguments = [Value::text(interface), Value::text("ControlGroup")];
        let serial = self.connection.send(
            &Call {
                destination: SYSTEMD,
                path,
                interface: "org.freedesktop.DBus.Properties",
                method: "Get",
                arguments: &arguments,
                descriptors: 0,
            },
            &[],
        )?;
        let answer = self.connection.answer(serial)?;
        let message = answer.map_err(|refusal| self.error("Get ControlGroup", &refusal))?;
        match self.arguments(&message)?.as_slice() {
            [Value::Variant(group)] => group.as_text().map(PathBuf::from),
            _ => None,
        }
        .ok_or_else(|| self.connection.error("an answer of another type"))
    }

    /// Asks for a new scope, and returns the serial of the request.
    pub(crate) fn send_start(
        &mut self,
        properties: &[Property],
        files: &[BorrowedFd<'_>],
    ) -> Result<u32> {
        let arguments = [
            Value::text(&self.unit),
            Value::text("replace"),
            array(properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        self.send("StartTransientUnit", &arguments, files)
    }

    /// Waits for the answer to [`Client::send_start`]: the job, or systemd's error.
    pub(crate) fn started(&mut self, serial: u32) -> Result<std::result::Result<Job, Refusal>> {
        let answer = self.connection.answer(serial)?;
        self.job(answer)
    }

    /// Waits for the end of a job of the unit, and returns its result: `done` is success.
    pub(crate) fn result_of(&mut self, job: &Job) -> Result<String> {
        loop {
            let message = self.connection.signal()?;
            if message.sender != job.owner || !is_job_removed(&message.kind) {
                continue;
            }
            match self.arguments(&message)?.as_slice() {
                [_, Value::ObjectPath(path), Value::Text(_), Value::Text(result)]
                    if *path == job.path =>
                {
                    return Ok(result.clone());
                }
                _ => {}
            }
        }
    }

    /// Changes properties of the unit until the next boot.
    pub(crate) fn set_properties(
        &mut self,
        properties: &[Property],
    ) -> Result<std::result::Result<(), Refusal>> {
        let arguments = [Value::text(&self.unit), Value::Bool(true), array(properties)];
        let serial = self.send("SetUnitProperties", &arguments, &[])?;
        Ok(self.connection.answer(serial)?.map(drop))
    }

    /// Moves a process into the cgroup of the unit, or into one below it.
    pub(crate) fn attach(&mut self, below: &str, pid: u32) -> Result<()> {
        let pids = Value::Array("u".into(), vec![Value::Uint32(pid)]);
        let arguments = [Value::text(&self.unit), Value::text(below), pids];
        let serial = self.send("AttachProcessesToUnit", &arguments, &[])?;
        let answer = self.connection.answer(serial)?;
        answer.map(drop).map_err(|refusal| self.error("AttachProcessesToUnit", &refusal))
    }

    /// Ends the unit, waits until it has ended, and makes systemd forget a failure of it. A unit
    /// that does not exist has ended.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let arguments = [Value::text(&self.unit), Value::text("replace")];
        let serial = self.send("StopUnit", &arguments, &[])?;
        let answer = self.connection.answer(serial)?;
        match self.job(answer)? {
            Ok(job) => {
                // Whatever the result is: what is left is looked for by the caller.
                self.result_of(&job)?;
            }
            Err(refusal) if refusal.is("NoSuchUnit") => return Ok(()),
            Err(refusal) => return Err(self.error("StopUnit", &refusal)),
        }
        self.reset_failed()
    }

    /// Makes systemd forget that the unit has failed, which frees its name.
    pub(crate) fn reset_failed(&mut self) -> Result<()> {
        let serial = self.send("ResetFailedUnit", &[Value::text(&self.unit)], &[])?;
        match self.connection.answer(serial)? {
            Err(refusal) if !refusal.is("NoSuchUnit") => {
                Err(self.error("ResetFailedUnit", &refusal))
            }
            _ => Ok(()),
        }
    }

    /// Returns the error for a request that systemd has refused.
    pub(crate) fn error(&self, request: &'static str, refusal: &Refusal) -> Error {
        let reason = format!("systemd: {} ({})", refusal.text, refusal.name);
        Error::reason(Code::SystemError, request, &self.unit, reason)
    }

    fn send(&mut self, method: &str, arguments: &[Value], files: &[BorrowedFd<'_>]) -> Result<u32> {
        let call = Call {
            destination: SYSTEMD,
            path: SYSTEMD_PATH,
            interface: MANAGER,
            method,
            arguments,
            descriptors: u32::try_from(files.len()).unwrap_or(u32::MAX),
        };
        self.connection.send(&call, files)
    }

    /// Returns the job that an answer names.
    fn job(&self, answer: Answer) -> Result<std::result::Result<Job, Refusal>> {
        let message = match answer {
            Ok(message) => message,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match self.arguments(&message)?.into_iter().next() {
            Some(Value::ObjectPath(path)) => Ok(Ok(Job { path, owner: message.sender })),
            _ => Err(self.connection.error("an answer of another type")),
        }
    }

    fn arguments(&self, message: &Message) -> Result<Vec<Value>> {
        message.arguments().map_err(|error| self.connection.malformed(error))
    }
}

impl Refusal {
    /// Whether this is one of systemd's errors, by the last part of its name.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.strip_prefix(SYSTEMD).and_then(|rest| rest.strip_prefix('.')) == Some(name)
    }
}

fn is_job_removed(kind: &Kind) -> bool {
    matches!(kind, Kind::Signal { interface, member } if interface == MANAGER && member == "JobRemoved")
}

/// Returns properties as an argument.
fn array(properties: &[Property]) -> Value {
    let one =
        |(name, value): &Property| Value::Struct(vec![Value::text(name), value.clone().variant()]);
    Value::Array("(sv)".into(), properties.iter().map(one).collect())
}
