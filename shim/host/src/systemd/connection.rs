//! A connection to a bus, or to systemd itself.
//!
//! Reference: the D-Bus specification, "Authentication Protocol" and "Message Bus Specification".
//! What the client has to say to a bus before its first call is sent at once: the server reads it
//! in order, and no round trip is waited for. A wait ends at the deadline of the connection.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use pidone_config::{Code, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, IoSlice};
use rustix::net::SocketType;

use super::address::Address;
use super::message::{Call, Kind, Message};
use super::value::{Malformed, Value};
use crate::unix::{connect_to, send_parts};

/// The bus itself, as the destination, the path and the interface of its methods.
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// What a client sends first. The identity is left empty, and the server takes it from the socket:
/// in a user namespace the caller does not know the number that the server has for it.
const BEGIN: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";

/// The longest line of the authentication, in bytes.
const LONGEST_LINE: usize = 1024;

/// The most signals that are kept until they are asked for. Only those of the caller's own job are
/// asked for by a match; systemd itself, without a bus, sends those of all jobs.
const MOST_SIGNALS: usize = 4096;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    path: PathBuf,
    /// Whether it leads to systemd itself, without a bus.
    pub(super) is_direct: bool,
    /// When waiting ends.
    pub(super) deadline: Instant,
    /// What was received and not yet looked at.
    received: Vec<u8>,
    signals: VecDeque<Message>,
    serial: u32,
    /// Whether descriptors can be sent; `None` until the server has said so.
    passes_descriptors: Option<bool>,
}

/// An error that the other side has returned.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its name, such as `org.freedesktop.systemd1.UnitExists`.
    pub(crate) name: String,
    /// What it says to people.
    pub(crate) text: String,
}

/// The result of a call: what the other side has returned, or its error.
pub(super) type Answer = std::result::Result<Message, Refusal>;

impl Connection {
    /// Connects to the first of the addresses that listens, and sends the authentication and the
    /// greeting.
    ///
    /// # Errors
    /// [`Code::SystemError`] with the path if none of them can be connected to.
    pub(super) fn open(addresses: &[Address], deadline: Instant) -> Result<Self> {
        let mut failed = None;
        for address in addresses {
            match connect_to(&address.path, SocketType::STREAM) {
                Ok(socket) => return Self::greet(socket, address, deadline),
                // The first one is the usual one, so its error says most.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let error = failed.unwrap_or_else(|| Error::system("connect", "", Errno::DESTADDRREQ));
        Err(error.with_hint("the systemd cgroup driver needs a running systemd and its bus"))
    }

    fn greet(socket: OwnedFd, address: &Address, deadline: Instant) -> Result<Self> {
        fcntl_setfl(&socket, OFlags::NONBLOCK)
            .map_err(|errno| Error::path("fcntl", &address.path, errno))?;
        let mut connection = Self {
            socket,
            path: address.path.clone(),
            is_direct: address.is_direct,
            deadline,
            received: Vec::new(),
            signals: VecDeque::new(),
            serial: 0,
            passes_descriptors: None,
        };
        let mut first = BEGIN.to_vec();
        if !connection.is_direct {
            let hello = Call {
                destination: BUS,
                path: BUS_PATH,
                interface: BUS,
                method: "Hello",
                arguments: &[],
                descriptors: 0,
            };
            first.extend(hello.encode(connection.next_serial(), false));
        }
        connection.write(&first, &[])?;
        Ok(connection)
    }

    /// Asks the bus for the signals of a rule. Its answer is not waited for: the calls that follow
    /// are handled after it.
    pub(super) fn add_match(&mut self, rule: &str) -> Result<()> {
        if self.is_direct {
            return Ok(());
        }
        let arguments = [Value::text(rule)];
        self.send(
            &Call {
                destination: BUS,
                path: BUS_PATH,
                interface: BUS,
                method: "AddMatch",
                arguments: &arguments,
                descriptors: 0,
            },
            &[],
        )
        .map(drop)
    }

    /// Whether descriptors can be sent. Waits for the end of the authentication.
    pub(super) fn passes_descriptors(&mut self) -> Result<bool> {
        if let Some(passes) = self.passes_descriptors {
            return Ok(passes);
        }
        let mut accepted = false;
        loop {
            let line = self.line()?;
            match line.split(|&byte| byte == b' ').next().unwrap_or_default() {
                // It asks for the identity, which was sent empty.
                b"DATA" => {}
                b"OK" => accepted = true,
                b"AGREE_UNIX_FD" if accepted => return Ok(*self.passes_descriptors.insert(true)),
                b"ERROR" if accepted => return Ok(*self.passes_descriptors.insert(false)),
                b"REJECTED" => return Err(self.error("the server refuses this user")),
                _ => return Err(self.error("an unknown line in the authentication")),
            }
        }
    }

    /// Sends a call with descriptors, and returns its serial.
    pub(super) fn send(&mut self, call: &Call<'_>, files: &[BorrowedFd<'_>]) -> Result<u32> {
        // A server may refuse descriptors that arrive while it still authenticates. systemd itself
        // leaves a message unread that arrives together with the authentication.
        if self.is_direct || !files.is_empty() {
            self.passes_descriptors()?;
        }
        let serial = self.next_serial();
        let message = call.encode(serial, self.is_direct);
        self.write(&message, files)?;
        Ok(serial)
    }

    /// Waits for the answer to a call. Signals that come first are kept.
    pub(super) fn answer(&mut self, serial: u32) -> Result<Answer> {
        loop {
            let message = self.receive()?;
            match &message.kind {
                Kind::Return(to) if *to == serial => return Ok(Ok(message)),
                Kind::Error(to, name) => {
                    let text = message.arguments().map_err(|error| self.malformed(error))?;
                    let text = text.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                    if *to == serial {
                        return Ok(Err(Refusal { name: name.clone(), text }));
                    }
                    // The greeting or the match, whose results nobody waits for.
                    let path = self.path.to_string_lossy();
                    return Err(Error::reason(Code::SystemError, "D-Bus", path, text));
                }
                Kind::Signal { .. } => self.keep(message)?,
                Kind::Return(_) | Kind::Other => {}
            }
        }
    }

    /// Returns the next signal.
    pub(super) fn signal(&mut self) -> Result<Message> {
        if let Some(message) = self.signals.pop_front() {
            return Ok(message);
        }
        loop {
            let message = self.receive()?;
            if matches!(message.kind, Kind::Signal { .. }) {
                return Ok(message);
            }
        }
    }

    fn keep(&mut self, signal: Message) -> Result<()> {
        if self.signals.len() == MOST_SIGNALS {
            return Err(self.error("more signals than can be kept"));
        }
        self.signals.push_back(signal);
        Ok(())
    }

    /// Receives a message.
    fn receive(&mut self) -> Result<Message> {
        self.passes_descriptors()?;
        loop {
            let length = Message::length(&self.received).map_err(|error| self.malformed(error))?;
            if let Some(length) = length.filter(|&length| length <= self.received.len()) {
                let message = Message::decode(&self.received[..length]);
                self.received.drain(..length);
                return message.map_err(|error| self.malformed(error));
            }
            self.read_more()?;
        }
    }

    /// Receives a line of the authentication, and returns it without its end.
    fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line = self.received.drain(..end + 2).take(end).collect();
                return Ok(line);
            }
            if self.received.len() > LONGEST_LINE {
                return Err(self.error("a line of the authentication is too long"));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => return Err(self.error("the connection was closed")),
                Ok(length) => {
                    self.received.extend(&buffer[..length]);
                    return Ok(());
                }
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::path("read", &self.path, errno)),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], files: &[BorrowedFd<'_>]) -> Result<()> {
        let mut files = files;
        while !bytes.is_empty() {
            match send_parts(&self.socket, &[IoSlice::new(bytes)], files) {
                Ok(sent) => {
                    bytes = &bytes[sent.min(bytes.len())..];
                    files = &[];
                }
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(errno) => return Err(Error::path("write", &self.path, errno)),
            }
        }
        Ok(())
    }

    /// Waits until the socket can be read or written, at most until the deadline.
    fn wait(&self, flags: PollFlags) -> Result<()> {
        let mut polled = [PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left)
                .map_err(|_| Error::path("poll", &self.path, Errno::INVAL))?;
            match poll(&mut polled, Some(&left)) {
                Ok(0) => return Err(Error::path("wait for systemd", &self.path, Errno::TIMEDOUT)),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::path("poll", &self.path, errno)),
            }
        }
    }

    fn next_serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn error(&self, reason: &'static str) -> Error {
        Error::reason(Code::SystemError, "D-Bus", self.path.to_string_lossy(), reason)
    }

    pub(super) fn malformed(&self, error: Malformed) -> Error {
        self.error(error.0)
    }
}
