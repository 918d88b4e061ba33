//! The host's end of the socket: it sends parts of a plan and receives reports.
//!
//! Everything that is received is untrusted: the container may have taken over the init.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use pidone_config::{Code, Error, Result};
use pidone_host::exit::{Exit, Usage};
use pidone_host::unix::{connect_to, receive, send_parts, space_for, unread_by_peer};
use pidone_plan::Part;
use pidone_proto::frame::{HEADER_LENGTH, VERSION};
use pidone_proto::{Bincode, Codec as _, FrameError, FrameType, Header, Report, Request, limits};
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, IoSlice};
use rustix::net::{AddressFamily, ReturnFlags, SocketFlags, SocketType, socketpair};

use super::image::{Codec, seal};

/// A report of the init, with the descriptor that was sent with it.
#[derive(Debug)]
pub(crate) enum Message {
    /// The init waits at the barrier with this id.
    Barrier(u32),
    /// The init has forked: the pidfd of the child, which waits.
    Forked(OwnedFd),
    /// The master side of the terminal.
    Console(OwnedFd),
    /// Timestamps in nanoseconds. `first` is the number of the first of them.
    Times { first: u32, stamps: Vec<u64> },
    /// The init executes the program next.
    Executing,
    /// The init waits for the start.
    Waiting,
    /// The notification descriptor of a seccomp filter.
    Listener(OwnedFd),
    /// The init serves requests.
    Supervising,
    /// The program of a request runs.
    Spawned { process: u32, pidfd: OwnedFd },
    /// The program of a request could not be started.
    NotSpawned(Failed),
    /// The master side of the terminal of a requested process.
    SpawnConsole(OwnedFd),
    /// A requested process has ended.
    Exited { process: u32, exit: Exit },
    /// An operation failed.
    Failed(Failed),
    /// The init has closed its end.
    End,
}

/// An operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The number of the operation, from 1.
    pub(crate) step: u32,
    /// The system call that failed.
    pub(crate) call: pidone_proto::Call,
    /// Which part of the operation failed. The meaning depends on the operation.
    pub(crate) detail: u16,
    /// The error of the system call.
    pub(crate) errno: u16,
}

/// The socket to the init.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    codec: Codec,
    sent: u32,
    received: u32,
    /// Whether the init has closed its end before it had read everything.
    refused: bool,
}

impl Channel {
    /// Creates a socket pair. Returns the host's end, and the end for the init.
    pub(crate) fn pair(codec: Codec) -> Result<(Self, OwnedFd)> {
        let fail = |errno| Error::system("socketpair", "", errno);
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(fail)?;
        // Non-blocking, so that an init that reads nothing cannot block the host, which polls.
        rustix::io::ioctl_fionbio(&ours, true).map_err(fail)?;
        Ok((Self { socket: ours, codec, sent: 0, received: 0, refused: false }, theirs))
    }

    /// Connects to the socket of an init that waits for the start.
    pub(crate) fn connect(path: &Path, codec: Codec) -> Result<Self> {
        let socket = connect_to(path, SocketType::SEQPACKET)?;
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| Error::path("connect", path, errno))?;
        Ok(Self { socket, codec, sent: 0, received: 0, refused: false })
    }

    /// Whether the init has closed the connection without reading the last message.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused
    }

    /// Whether the init has still to read a message.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the socket cannot report it.
    pub(crate) fn is_unread(&self) -> Result<bool> {
        unread_by_peer(self.socket.as_fd())
            .map(|bytes| bytes > 0)
            .map_err(|errno| Error::system("ioctl", "the socket of the init", errno))
    }

    /// Requests the start of the container from an init that waits for it.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.send(FrameType::Start, &[], &[]).map(drop)
    }

    /// Requests a process from a supervising init. Returns whether the socket had room for it.
    pub(crate) fn spawn(
        &mut self,
        main: bool,
        part: &Part,
        files: &[BorrowedFd<'_>],
    ) -> Result<bool> {
        #[cfg(feature = "postcard")]
        let mut recoded = Vec::new();
        let plan = match self.codec {
            Codec::Bincode => &part.bytes,
            #[cfg(feature = "postcard")]
            Codec::Postcard => {
                for operation in part.operations() {
                    pidone_proto::Postcard::append(&operation, &mut recoded)
                        .map_err(unencodable)?;
                }
                &recoded
            }
        };
        let request = Request::Spawn { tag: 0, main, operations: part.operations, plan };
        let mut body = Vec::with_capacity(HEADER_LENGTH + 32 + plan.len());
        match self.codec {
            Codec::Bincode => Bincode::append(&request, &mut body),
            #[cfg(feature = "postcard")]
            Codec::Postcard => pidone_proto::Postcard::append(&request, &mut body),
        }
        .map_err(unencodable)?;
        self.send_long([FrameType::Request, FrameType::RequestInMemfd], &body, files)
    }

    /// Sends a part of a plan with its files. Returns whether the socket had room for it.
    pub(crate) fn send_part(
        &mut self,
        part: &Part,
        head: pidone_proto::Part,
        files: &[BorrowedFd<'_>],
    ) -> Result<bool> {
        let mut body = Vec::with_capacity(HEADER_LENGTH + 32 + part.bytes.len());
        match self.codec {
            Codec::Bincode => {
                Bincode::append(&head, &mut body).map_err(unencodable)?;
                body.extend_from_slice(&part.bytes);
            }
            #[cfg(feature = "postcard")]
            Codec::Postcard => {
                pidone_proto::Postcard::append(&head, &mut body).map_err(unencodable)?;
                for operation in part.operations() {
                    pidone_proto::Postcard::append(&operation, &mut body).map_err(unencodable)?;
                }
            }
        }
        self.send_long([FrameType::Part, FrameType::PartInMemfd], &body, files)
    }

    /// Sends a message of the type `short`, or of the type `long` with the body in a memfd if it is
    /// too long for a frame.
    fn send_long(
        &mut self,
        [short, long]: [FrameType; 2],
        body: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Result<bool> {
        if HEADER_LENGTH + body.len() <= limits::FRAME {
            return self.send(short, body, files);
        }
        if body.len() > limits::PLAN {
            let size = format!("{} bytes", body.len());
            return Err(Error::config("the whole configuration", size, "larger than 16 MiB"));
        }
        let memory = seal("plan", body, MemfdFlags::NOEXEC_SEAL)?;
        let mut with_memory = vec![memory.as_fd()];
        with_memory.extend_from_slice(files);
        self.send(long, &[], &with_memory)
    }

    /// Lets the init continue after a barrier or a fork.
    pub(crate) fn proceed(&mut self) -> Result<()> {
        if self.send(FrameType::Proceed, &[], &[])? {
            return Ok(());
        }
        // An init that waits reads this message next: a full socket means that it does not.
        Err(violation("does not read while it waits"))
    }

    /// Sends a message. Returns whether the socket had room for it.
    fn send(
        &mut self,
        frame_type: FrameType,
        body: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Result<bool> {
        let count = u8::try_from(files.len()).ok().filter(|_| files.len() <= limits::DESCRIPTORS);
        let descriptors = count.ok_or_else(|| unencodable(()))?;
        let length = u32::try_from(body.len()).map_err(unencodable)?;
        let header =
            Header { frame_type, codec: self.codec.id(), descriptors, sequence: self.sent, length };
        let header = header.to_bytes();
        match send_parts(&self.socket, &[IoSlice::new(&header), IoSlice::new(body)], files) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(false),
            // The init is gone. Its last report, and its exit status, have the reason.
            Err(Errno::PIPE | Errno::CONNRESET) => self.refused = true,
            Err(errno) => return Err(Error::system("send to the init", "", errno)),
        }
        self.sent += 1;
        Ok(true)
    }

    /// Receives a report; `None` if there is none yet.
    ///
    /// # Errors
    /// [`Code::SystemError`] if receiving fails, or if the init violates the protocol.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>> {
        // The longest report is a batch of timestamps.
        let mut buffer = [0; HEADER_LENGTH + 8 * limits::TIMES_PER_REPORT + 64];
        let mut space = [MaybeUninit::uninit(); space_for(1)];
        let received = loop {
            match receive(&self.socket, &mut buffer, &mut space) {
                Ok(received) => break received,
                Err(Errno::AGAIN) => return Ok(None),
                // The init has closed its end before it had read everything. The kernel reports
                // this once, and before the reports that the init has sent.
                Err(Errno::CONNRESET) => self.refused = true,
                Err(errno) => return Err(Error::system("receive from the init", "", errno)),
            }
        };
        if received.length == 0 {
            return Ok(Some(Message::End));
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(violation("message larger than allowed"));
        }
        let bytes = buffer.get(..received.length).unwrap_or_default();
        let message = self.decode(bytes, received.files)?;
        self.received += 1;
        Ok(Some(message))
    }

    /// Decodes and checks a report.
    fn decode(&self, bytes: &[u8], files: Vec<OwnedFd>) -> Result<Message> {
        let (header, body) = Header::split(bytes, files.len(), self.codec.id(), self.received)
            .map_err(|error| match error {
                FrameError::Version(theirs) => other_version(theirs),
                other => violation(other.text()),
            })?;
        if header.frame_type != FrameType::Report {
            return Err(violation("message of an unknown type"));
        }
        let decoded = match self.codec {
            Codec::Bincode => Bincode::decode::<Report<'_>>(body),
            #[cfg(feature = "postcard")]
            Codec::Postcard => pidone_proto::Postcard::decode::<Report<'_>>(body),
        };
        let (report, length) = decoded.map_err(|_| violation("malformed report"))?;
        if length != body.len() {
            return Err(violation("trailing bytes"));
        }
        let mut files = files.into_iter();
        let message = match (report, files.next()) {
            (Report::Barrier { id }, None) => Message::Barrier(id),
            (Report::Forked, Some(pidfd)) => Message::Forked(pidfd),
            (Report::Console, Some(master)) => Message::Console(master),
            (Report::Times { first, nanoseconds }, None) => {
                let (stamps, []) = nanoseconds.as_chunks::<8>() else {
                    return Err(violation("part of a time"));
                };
                let stamps = stamps.iter().map(|stamp| u64::from_le_bytes(*stamp)).collect();
                Message::Times { first, stamps }
            }
            (Report::Executing, None) => Message::Executing,
            (Report::Waiting, None) => Message::Waiting,
            (Report::Listener, Some(listener)) => Message::Listener(listener),
            (Report::Failed { step, call, detail, errno }, None) => {
                Message::Failed(failed(step, call, detail, errno)?)
            }
            (Report::Supervising, None) => Message::Supervising,
            // A client requests one process at a time, so it does not need the tag.
            (Report::Spawned { process, .. }, Some(pidfd)) => Message::Spawned { process, pidfd },
            (Report::NotSpawned { step, call, detail, errno, .. }, None) => {
                Message::NotSpawned(failed(step, call, detail, errno)?)
            }
            (Report::SpawnConsole { .. }, Some(master)) => Message::SpawnConsole(master),
            (Report::Exited { process, .. }, None) => {
                let exit = exit(&report).ok_or_else(|| violation("malformed report"))?;
                Message::Exited { process, exit }
            }
            _ => return Err(violation("descriptor where none belongs, or none where one does")),
        };
        if files.next().is_some() { Err(violation("too many descriptors")) } else { Ok(message) }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Returns the exit of a process from its report; `None` for a value out of range.
fn exit(report: &Report<'_>) -> Option<Exit> {
    let &Report::Exited {
        code,
        signal,
        core,
        user,
        system,
        max_rss,
        minor_faults,
        major_faults,
        ..
    } = report
    else {
        return None;
    };
    let number = |number: u32| i32::try_from(number & 0xff).ok();
    Some(Exit {
        code: if signal == 0 { number(code) } else { None },
        signal: if signal == 0 { None } else { number(signal) },
        core,
        usage: Usage {
            user: Duration::from_micros(user),
            system: Duration::from_micros(system),
            max_rss,
            minor_faults,
            major_faults,
        },
    })
}

/// Returns a failed operation. An errno outside of the kernel's range violates the protocol.
fn failed(step: u32, call: pidone_proto::Call, detail: u16, errno: u16) -> Result<Failed> {
    match errno {
        1..=4095 => Ok(Failed { step, call, detail, errno }),
        _ => Err(violation("errno that is none")),
    }
}

/// Returns the error for an init that violates the protocol.
pub(crate) fn violation(reason: &'static str) -> Error {
    Error::reason(Code::SystemError, "init protocol violation", "", reason)
}

/// Returns the error for an init with another protocol version, which is in each header.
fn other_version(theirs: u8) -> Error {
    let reason = format!("speaks version {theirs} of the protocol, and the host version {VERSION}");
    Error::reason(Code::SystemError, "start the init", "", reason)
}

/// Returns the error for a message that cannot be encoded. The limits of plans rule this out.
fn unencodable<E>(_: E) -> Error {
    Error::system("encode a message", "", Errno::MSGSIZE)
}

#[cfg(test)]
mod tests {
    use pidone_proto::Call;
    use rustix::net::SendFlags;

    use super::*;

    /// Returns the message of a report.
    fn received(report: &Report<'_>) -> Result<Option<Message>> {
        received_from(VERSION, report)
    }

    /// Returns the message of a report with this protocol version in its header.
    fn received_from(version: u8, report: &Report<'_>) -> Result<Option<Message>> {
        let (mut channel, theirs) = Channel::pair(Codec::Bincode)?;
        send_report(&theirs, version, report);
        channel.receive()
    }

    /// Sends a first report as an init does.
    fn send_report(theirs: &OwnedFd, version: u8, report: &Report<'_>) {
        let mut body = Vec::new();
        Bincode::append(report, &mut body).unwrap();
        let header = Header {
            frame_type: FrameType::Report,
            codec: Bincode::ID,
            descriptors: 0,
            sequence: 0,
            length: u32::try_from(body.len()).unwrap(),
        };
        let mut message = [&header.to_bytes()[..], &body].concat();
        message[4] = version;
        rustix::net::send(theirs, &message, SendFlags::empty()).unwrap();
    }

    #[test]
    fn an_errno_out_of_range_is_refused() {
        let failed =
            |errno| received(&Report::Failed { step: 1, call: Call::Open, detail: 0, errno });
        assert!(matches!(failed(2), Ok(Some(Message::Failed(Failed { errno: 2, .. })))));
        for errno in [0, 4096, u16::MAX] {
            assert!(failed(errno).is_err(), "{errno}");
        }
    }

    #[test]
    fn the_error_for_another_version_has_both_versions() {
        assert!(matches!(received_from(1, &Report::Executing), Ok(Some(Message::Executing))));
        for version in [0, 2, 255] {
            let error = received_from(version, &Report::Executing).unwrap_err();
            let expected = format!(
                "start the init: speaks version {version} of the protocol, and the host version 1"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    /// An init may fail in an early part of its plan.
    #[test]
    fn reports_of_an_init_that_has_not_read_everything_are_received() {
        let (mut channel, theirs) = Channel::pair(Codec::Bincode).unwrap();
        channel.start().unwrap();
        send_report(&theirs, VERSION, &Report::Executing);
        drop(theirs);
        assert!(matches!(channel.receive(), Ok(Some(Message::Executing))));
        assert!(matches!(channel.receive(), Ok(Some(Message::End))));
    }

    #[test]
    fn a_report_without_its_descriptor_is_refused() {
        assert!(received(&Report::Console).is_err());
        assert!(matches!(received(&Report::Executing), Ok(Some(Message::Executing))));
    }
}
