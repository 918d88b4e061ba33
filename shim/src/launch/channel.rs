//! The host's end of the socket: parts of a plan out, reports in.
//!
//! Everything that comes in is hostile: the init may have been taken over by the container.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use pidone_config::{Code, Error, Result};
use pidone_host::exit::{Exit, Usage};
use pidone_host::unix::{connect_to, receive, send_parts, space_for};
use pidone_plan::Part;
use pidone_proto::frame::{HEADER_LENGTH, VERSION};
use pidone_proto::{Bincode, Codec as _, FrameError, FrameType, Header, Report, Request, limits};
use rustix::fs::MemfdFlags;
use rustix::io::{Errno, IoSlice};
use rustix::net::{AddressFamily, ReturnFlags, SocketFlags, SocketType, socketpair};

use super::image::{Codec, seal};

/// A report with its strings copied, and the descriptor that came along.
#[derive(Debug)]
pub(crate) enum Message {
    /// The init waits.
    Barrier(u32),
    /// The child that the init forked, which waits.
    Forked(OwnedFd),
    /// The master of the terminal.
    Console(OwnedFd),
    /// Stamps in nanoseconds from the one with this number on.
    Times { first: u32, stamps: Vec<u64> },
    /// Exec is next.
    Executing,
    /// The init waits for the start.
    Waiting,
    /// What answers for the system calls of a seccomp filter.
    Listener(OwnedFd),
    /// The init serves requests.
    Supervising,
    /// The program of a request runs.
    Spawned { process: u32, pidfd: OwnedFd },
    /// It does not.
    NotSpawned(Failed),
    /// The master of its terminal.
    SpawnConsole(OwnedFd),
    /// A process that was asked for has ended.
    Exited { process: u32, exit: Exit },
    /// An operation failed.
    Failed(Failed),
    /// The other end is closed.
    End,
}

/// An operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Its number.
    pub(crate) step: u32,
    /// The system call.
    pub(crate) call: pidone_proto::Call,
    /// What it was about, by the operation.
    pub(crate) detail: u16,
    /// Its errno.
    pub(crate) errno: u16,
}

/// The socket to the init.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    codec: Codec,
    sent: u32,
    received: u32,
}

impl Channel {
    /// Makes a pair: this end, and the one that the init gets.
    pub(crate) fn pair(codec: Codec) -> Result<(Self, OwnedFd)> {
        let fail = |errno| Error::system("socketpair", "", errno);
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(fail)?;
        // An init that reads nothing must not hold the host; it is waited for by poll.
        rustix::io::ioctl_fionbio(&ours, true).map_err(fail)?;
        Ok((Self { socket: ours, codec, sent: 0, received: 0 }, theirs))
    }

    /// Connects to an init that waits for the start, by the name of its socket.
    pub(crate) fn connect(path: &Path, codec: Codec) -> Result<Self> {
        let socket = connect_to(path, SocketType::SEQPACKET)?;
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| Error::path("connect", path, errno))?;
        Ok(Self { socket, codec, sent: 0, received: 0 })
    }

    /// Starts the container whose init this is connected to.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.send(FrameType::Start, &[], &[]).map(drop)
    }

    /// Asks an init that supervises to start a process; answers whether there was room.
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

    /// Sends a part of a plan; `first` is the number of its first operation.
    ///
    /// Answers whether there was room for it.
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

    /// Sends one message, as the first type or, if it is too long for one, in a memfd as the other.
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

    /// Lets the init go on.
    pub(crate) fn proceed(&mut self) -> Result<()> {
        if self.send(FrameType::Proceed, &[], &[])? {
            return Ok(());
        }
        // It reads nothing else while it waits.
        Err(violation("does not read while it waits"))
    }

    /// Sends one message; answers whether there was room.
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
            // The init is gone; what it said last, and its status, tell why.
            Err(Errno::PIPE | Errno::CONNRESET) => {}
            Err(errno) => return Err(Error::system("send to the init", "", errno)),
        }
        self.sent += 1;
        Ok(true)
    }

    /// Receives one report; `None` if there is none yet.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>> {
        // The longest report is a batch of times.
        let mut buffer = [0; HEADER_LENGTH + 8 * limits::TIMES_PER_REPORT + 64];
        let mut space = [MaybeUninit::uninit(); space_for(1)];
        let received = loop {
            match receive(&self.socket, &mut buffer, &mut space) {
                Ok(received) => break received,
                Err(Errno::AGAIN) => return Ok(None),
                // Closed by an init that had not read everything: told once, and before what it
                // had said.
                Err(Errno::CONNRESET) => {}
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
            // A client asks for one process at a time, and has no need of the tag.
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

/// How a process ended, as the init says.
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

/// A failure, if its errno is in the range of the kernel's.
fn failed(step: u32, call: pidone_proto::Call, detail: u16, errno: u16) -> Result<Failed> {
    match errno {
        1..=4095 => Ok(Failed { step, call, detail, errno }),
        _ => Err(violation("errno that is none")),
    }
}

/// The init does not keep to the protocol.
pub(crate) fn violation(reason: &'static str) -> Error {
    Error::reason(Code::SystemError, "init protocol violation", "", reason)
}

/// The init is of another version of the wire than this library, and says so in each header.
fn other_version(theirs: u8) -> Error {
    let reason = format!("speaks version {theirs} of the protocol, and the host version {VERSION}");
    Error::reason(Code::SystemError, "start the init", "", reason)
}

/// A message that cannot be written; plans and limits are made so that this does not happen.
fn unencodable<E>(_: E) -> Error {
    Error::system("encode a message", "", Errno::MSGSIZE)
}

#[cfg(test)]
mod tests {
    use pidone_proto::Call;
    use rustix::net::SendFlags;

    use super::*;

    /// What the host makes of a report.
    fn received(report: &Report<'_>) -> Result<Option<Message>> {
        received_from(VERSION, report)
    }

    /// What it makes of one with a version in its header.
    fn received_from(version: u8, report: &Report<'_>) -> Result<Option<Message>> {
        let (mut channel, theirs) = Channel::pair(Codec::Bincode)?;
        say(&theirs, version, report);
        channel.receive()
    }

    /// Sends a first report, as an init would.
    fn say(theirs: &OwnedFd, version: u8, report: &Report<'_>) {
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
    fn an_errno_that_is_none_is_refused() {
        let failed =
            |errno| received(&Report::Failed { step: 1, call: Call::Open, detail: 0, errno });
        assert!(matches!(failed(2), Ok(Some(Message::Failed(Failed { errno: 2, .. })))));
        for errno in [0, 4096, u16::MAX] {
            assert!(failed(errno).is_err(), "{errno}");
        }
    }

    #[test]
    fn another_version_is_named_with_the_own() {
        assert!(matches!(received_from(1, &Report::Executing), Ok(Some(Message::Executing))));
        for version in [0, 2, 255] {
            let error = received_from(version, &Report::Executing).unwrap_err();
            let expected = format!(
                "start the init: speaks version {version} of the protocol, and the host version 1"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    /// It may have failed at an early part of its plan.
    #[test]
    fn what_was_said_is_heard_although_not_all_was_read() {
        let (mut channel, theirs) = Channel::pair(Codec::Bincode).unwrap();
        channel.start().unwrap();
        say(&theirs, VERSION, &Report::Executing);
        drop(theirs);
        assert!(matches!(channel.receive(), Ok(Some(Message::Executing))));
        assert!(matches!(channel.receive(), Ok(Some(Message::End))));
    }

    #[test]
    fn a_descriptor_that_was_promised_must_come() {
        assert!(received(&Report::Console).is_err());
        assert!(matches!(received(&Report::Executing), Ok(Some(Message::Executing))));
    }
}
