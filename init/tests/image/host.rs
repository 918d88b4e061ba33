//! A host by hand: it starts the image and sends it whatever a test wants.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use pidone_proto::{Bincode, Call, Codec, FrameType, Header, Op, Part, Report, limits};
use pidone_tests::{DEADLINE, eventually};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, IoSlice, IoSliceMut, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The file of the image, from the build script.
const IMAGE: &str = env!("PIDONE_INIT_IMAGE");

/// Descriptors without close-on-exec must not reach the children of other tests.
static SPAWN: Mutex<()> = Mutex::new(());

/// Starts the image with a descriptor that it inherits, and its number in the arguments.
pub(crate) fn spawn(inherited: OwnedFd, output: Stdio) -> Child {
    let _alone = SPAWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Behind stdio and one more that a program may be given.
    let inherited = rustix::io::fcntl_dupfd_cloexec(&inherited, 4).unwrap();
    fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
    Command::new(IMAGE)
        .arg(format!("--control={}", inherited.as_raw_fd()))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for a child; one that does not end fails the test.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("the init hangs");
    })
}

/// A failure, as the init reports it: step, call, detail, errno.
pub(crate) type Failed = (u32, Call, u16, i32);

/// An init and the host's end of its socket.
pub(crate) struct Init {
    pub(crate) child: Child,
    pub(crate) socket: OwnedFd,
    sent: u32,
    received: u32,
}

/// What the init sent, or the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Barrier(u32),
    Forked,
    Console,
    Times(u32, usize),
    Waiting,
    Listener,
    Executing,
    Failed(Failed),
    End,
}

impl Init {
    /// Starts the image.
    pub(crate) fn start() -> Self {
        Self::start_with(Stdio::null())
    }

    /// Starts the image with an output.
    pub(crate) fn start_with(output: Stdio) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        Self { child: spawn(theirs, output), socket: ours, sent: 0, received: 0 }
    }

    /// A header for the next message.
    pub(crate) fn header(&mut self, frame_type: FrameType, body: &[u8], files: usize) -> Header {
        let header = Header {
            frame_type,
            codec: Bincode::ID,
            descriptors: u8::try_from(files).unwrap(),
            sequence: self.sent,
            length: u32::try_from(body.len()).unwrap(),
        };
        self.sent += 1;
        header
    }

    /// Sends a message as it should be.
    pub(crate) fn send(&mut self, frame_type: FrameType, body: &[u8], files: &[BorrowedFd<'_>]) {
        let header = self.header(frame_type, body, files.len()).to_bytes();
        self.send_bytes(&[&header, body].concat(), files);
    }

    /// Sends any bytes.
    pub(crate) fn send_bytes(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(files)));
        }
        let message = [IoSlice::new(bytes)];
        sendmsg(&self.socket, &message, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
    }

    /// Sends a whole plan.
    pub(crate) fn plan(&mut self, ops: &[Op<'_>]) {
        self.send(FrameType::Part, &part(1, ops, false), &[]);
    }

    /// Lets the init go on.
    pub(crate) fn proceed(&mut self) {
        self.send(FrameType::Proceed, b"", &[]);
    }

    /// Receives what the init says next, and the descriptor with it.
    pub(crate) fn receive(&mut self) -> (Said, Option<OwnedFd>) {
        self.await_message();
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut iov = [IoSliceMut::new(&mut buffer)];
        let message = match recvmsg(&self.socket, &mut iov, &mut ancillary, flags) {
            Ok(message) => message,
            // Closed by an init that had not read everything.
            Err(rustix::io::Errno::CONNRESET) => return (Said::End, None),
            Err(errno) => panic!("{errno}"),
        };
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        if message.bytes == 0 {
            return (Said::End, None);
        }
        let bytes = &buffer[..message.bytes];
        let (header, body) = Header::split(bytes, files.len(), Bincode::ID, self.received).unwrap();
        self.received += 1;
        assert_eq!(header.frame_type, FrameType::Report);
        let (report, length) = Bincode::decode(body).unwrap();
        assert_eq!(length, body.len(), "trailing bytes");
        let said = match report {
            Report::Barrier { id } => Said::Barrier(id),
            Report::Forked => Said::Forked,
            Report::Console => Said::Console,
            Report::Times { first, nanoseconds } => Said::Times(first, nanoseconds.len() / 8),
            Report::Executing => Said::Executing,
            Report::Waiting => Said::Waiting,
            Report::Listener => Said::Listener,
            Report::Failed { step, call, detail, errno } => {
                Said::Failed((step, call, detail, errno.into()))
            }
            // The image does not supervise.
            other => panic!("{other:?}"),
        };
        (said, files.pop())
    }

    /// Fails the test if nothing comes.
    fn await_message(&self) {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        assert_ne!(poll(&mut fds, Some(&timeout)).unwrap(), 0, "the init says nothing");
    }

    /// What the init says next, which comes without a descriptor.
    pub(crate) fn said(&mut self) -> Said {
        let (said, file) = self.receive();
        assert!(file.is_none(), "a descriptor with {said:?}");
        said
    }

    /// How the init ends: with its failure, and status 125.
    pub(crate) fn failed(mut self) -> Failed {
        let Said::Failed(failed) = self.said() else { panic!("no failure") };
        assert_eq!(self.said(), Said::End);
        self.ends();
        failed
    }

    /// The init has ended with status 125, and not by a signal.
    pub(crate) fn ends(mut self) {
        let status = wait(&mut self.child);
        assert_eq!((status.code(), status.signal()), (Some(125), None));
    }

    /// The init becomes the program, which ends with a status.
    pub(crate) fn executes(mut self) -> Option<i32> {
        assert_eq!(self.said(), Said::Executing);
        assert_eq!(self.said(), Said::End);
        wait(&mut self.child).code()
    }

    /// The same, and what the program wrote.
    pub(crate) fn output(mut self) -> String {
        assert_eq!(self.said(), Said::Executing);
        assert_eq!(self.said(), Said::End);
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(wait(&mut self.child).code(), Some(0));
        text
    }
}

/// A part that is not timed.
pub(crate) fn part(first: u32, ops: &[Op<'_>], more: bool) -> Vec<u8> {
    let operations = u32::try_from(ops.len()).unwrap();
    let head = Part { first, operations, more, timed: false };
    body(head, ops)
}

/// A head and operations.
pub(crate) fn body(head: Part, ops: &[Op<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Bincode::append(&head, &mut bytes).unwrap();
    for op in ops {
        Bincode::append(op, &mut bytes).unwrap();
    }
    bytes
}

/// The end of a pipe whose other end reports when it is closed.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}

/// Waits until all other ends are closed.
pub(crate) fn await_close(end: &OwnedFd) {
    let mut fds = [PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)];
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    assert_ne!(poll(&mut fds, Some(&timeout)).unwrap(), 0, "still open");
    assert_eq!(rustix::io::read(end, &mut [0]).unwrap(), 0);
}

/// Whether another end is open still.
pub(crate) fn is_open(end: &OwnedFd) -> bool {
    rustix::net::recv(end, &mut [0], RecvFlags::DONTWAIT) == Err(rustix::io::Errno::AGAIN)
}
