//! A `NETLINK_ROUTE` socket, for requests and the kernel's replies.
//!
//! References: `netlink(7)`, `rtnetlink(7)` and the kernel's `userspace-api/netlink/intro`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer, NetlinkMessage, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use pidone_config::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// The longest datagram that is accepted, in bytes. A reply about one link has 1 to 2 KiB, and the
/// kernel sends no datagram longer than 32 KiB.
const DATAGRAM_MAX: usize = 32 * 1024;

/// How long to wait for a reply. The kernel executes a request inside `send(2)`, so the reply is
/// usually available at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A socket that belongs to the network namespace in which it was opened.
pub(super) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

/// Why a request failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The kernel refused the request: its errno, and its explanation if it gave one.
    Refused(Errno, Option<String>),
    /// The socket failed. It is unknown whether the request was executed.
    Unanswered(Errno),
}

impl Failure {
    /// Returns an error with the step and the object.
    pub(super) fn at(self, step: &'static str, object: impl Into<String>) -> Error {
        match self {
            Self::Refused(errno, Some(explanation)) => {
                Error::system(step, object, errno).with_hint(explanation)
            }
            Self::Refused(errno, None) | Self::Unanswered(errno) => {
                Error::system(step, object, errno)
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Unanswered(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self> {
        let open = || {
            let inner = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            // A connected netlink socket accepts messages only from its peer. Otherwise every
            // process with CAP_NET_ADMIN in the namespace, also in the container, could fill it.
            inner.connect(&SocketAddr::new(0, 0))?;
            // Errors have an explanation, and no copy of the request before it.
            inner.set_ext_ack(true)?;
            inner.set_cap_ack(true)?;
            Ok(inner)
        };
        let socket =
            open().map_err(|error: io::Error| Error::system("socket", "netlink", error))?;
        let socket =
            Self { inner: socket, sequence: 0, datagram: Vec::with_capacity(DATAGRAM_MAX) };
        set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))
            .map_err(|errno| Error::system("setsockopt", "SO_RCVTIMEO", errno))?;
        Ok(socket)
    }

    /// Opens a socket in another network namespace, and the file of the namespace.
    ///
    /// `netns` is a pidfd of a process in the namespace, or a file of the namespace: `setns(2)`
    /// with `CLONE_NEWNET` accepts both. Only a new thread enters the namespace, and ends there. So
    /// the caller's thread never leaves its namespace, whatever fails.
    pub(super) fn open_in(netns: BorrowedFd<'_>) -> Result<(Self, OwnedFd)> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".to_owned());
            let inside = thread
                .spawn_scoped(scope, || enter(netns))
                .map_err(|error| Error::system("clone", "netns", error))?;
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sends a request and waits for its acknowledgement.
    ///
    /// `reply` is called with the payload of every message before the acknowledgement.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut reply: impl FnMut(&[u8]),
    ) -> std::result::Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        uninterrupted(|| self.inner.send(&bytes, 0))?;
        loop {
            self.datagram.clear();
            let (length, sender) =
                uninterrupted(|| self.inner.recv_from(&mut self.datagram, libc::MSG_TRUNC))?;
            // A message that arrived before connect(2), which also binds the socket, had set the
            // peer may be forged. Only the kernel has port 0.
            if sender.port_number() != 0 {
                continue;
            }
            if length > self.datagram.len() {
                return Err(Failure::Unanswered(Errno::MSGSIZE));
            }
            if let Some(result) = read(&self.datagram, self.sequence, &mut reply) {
                return result;
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

fn enter(netns: BorrowedFd<'_>) -> Result<(Socket, OwnedFd)> {
    move_into_thread_name_spaces(netns, ThreadNameSpaceType::NETWORK)
        .map_err(|errno| Error::system("setns", "network namespace", errno))?;
    Ok((Socket::open()?, own_namespace()?))
}

/// Opens the file of the network namespace of the calling thread.
pub(super) fn own_namespace() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Parses one datagram. Returns the result of the request if the datagram has it, `None` if more
/// datagrams follow.
fn read(
    datagram: &[u8],
    sequence: u32,
    reply: &mut impl FnMut(&[u8]),
) -> Option<std::result::Result<(), Failure>> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            return Some(Err(Failure::Unanswered(Errno::BADMSG)));
        };
        // Another number belongs to a late reply, after the timeout of its request.
        if message.sequence_number() == sequence {
            match message.message_type() {
                NLMSG_ERROR | NLMSG_DONE => return Some(verdict(&message)),
                NLMSG_OVERRUN => return Some(Err(Failure::Unanswered(Errno::OVERFLOW))),
                NLMSG_NOOP => {}
                _ => reply(message.payload()),
            }
        }
        // The length is at most that of the datagram, as checked above.
        let length = message.length() as usize;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// Parses an acknowledgement: a negative errno or 0, the header of the request, and attributes.
fn verdict(message: &NetlinkBuffer<&[u8]>) -> std::result::Result<(), Failure> {
    const ATTRIBUTES: usize = 4 + 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let payload = message.payload();
    let Some(code) = payload.first_chunk() else {
        return Err(Failure::Unanswered(Errno::BADMSG));
    };
    let errno = match i32::from_ne_bytes(*code) {
        0 => return Ok(()),
        code @ -4095..0 => Errno::from_raw_os_error(-code),
        _ => return Err(Failure::Unanswered(Errno::BADMSG)),
    };
    let text = NLM_F_CAPPED | NLM_F_ACK_TLVS;
    let attributes = payload.get(ATTRIBUTES..).filter(|_| message.flags() & text == text);
    let explanation = NlasIterator::new(attributes.unwrap_or_default())
        .map_while(std::result::Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value()).trim_end_matches(['\0', '.']).to_owned()
        });
    Err(Failure::Refused(errno, explanation))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a netlink message with the padding of the kernel.
    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(16 + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Returns an acknowledgement with the header of its request and an explanation.
    fn acknowledgement(sequence: u32, code: i32, text: &str) -> Vec<u8> {
        let mut payload = code.to_ne_bytes().to_vec();
        payload.extend([0; 16]);
        let attribute = u16::try_from(4 + text.len() + 1).unwrap();
        payload.extend(attribute.to_ne_bytes());
        payload.extend(1_u16.to_ne_bytes());
        payload.extend(text.as_bytes());
        payload.push(0);
        message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, sequence, &payload)
    }

    fn outcome(datagram: &[u8]) -> (Option<std::result::Result<(), Failure>>, Vec<Vec<u8>>) {
        let mut replies = Vec::new();
        let result = read(datagram, 7, &mut |payload| replies.push(payload.to_owned()));
        (result, replies)
    }

    #[test]
    fn a_refusal_has_an_errno_and_an_explanation() {
        let datagram = acknowledgement(7, -101, "Nexthop has invalid gateway.");
        let explanation = "Nexthop has invalid gateway".to_owned();
        let failure = Failure::Refused(Errno::NETUNREACH, Some(explanation));
        assert_eq!(outcome(&datagram), (Some(Err(failure)), vec![]));
        let (result, _) = outcome(&datagram);
        assert_eq!(
            result.unwrap().unwrap_err().at("route add", "default via 10.0.0.1").to_string(),
            "route add `default via 10.0.0.1`: Network is unreachable (Nexthop has invalid gateway)"
        );
        let bare = message(NLMSG_ERROR, NLM_F_CAPPED, 7, &(-1_i32).to_ne_bytes());
        assert_eq!(outcome(&bare).0, Some(Err(Failure::Refused(Errno::PERM, None))));
    }

    #[test]
    fn replies_come_before_the_acknowledgement() {
        let mut datagram = message(16, 0, 7, b"first");
        datagram.extend(message(NLMSG_NOOP, 0, 7, b""));
        datagram.extend(message(16, 0, 7, b"next"));
        assert_eq!(outcome(&datagram), (None, vec![b"first".to_vec(), b"next".to_vec()]));
        datagram.extend(acknowledgement(7, 0, ""));
        assert_eq!(outcome(&datagram).0, Some(Ok(())));
    }

    #[test]
    fn a_multipart_reply_ends_with_done() {
        let mut datagram = message(16, 2, 7, b"part");
        datagram.extend(message(NLMSG_DONE, 2, 7, &0_i32.to_ne_bytes()));
        assert_eq!(outcome(&datagram), (Some(Ok(())), vec![b"part".to_vec()]));
        let failed = message(NLMSG_DONE, 2, 7, &(-4_i32).to_ne_bytes());
        assert_eq!(outcome(&failed).0, Some(Err(Failure::Refused(Errno::INTR, None))));
    }

    #[test]
    fn replies_to_other_requests_are_ignored() {
        let mut datagram = acknowledgement(6, -17, "");
        datagram.extend(message(16, 0, 6, b"late"));
        assert_eq!(outcome(&datagram), (None, vec![]));
        datagram.extend(acknowledgement(7, 0, ""));
        assert_eq!(outcome(&datagram).0, Some(Ok(())));
    }

    #[test]
    fn truncated_and_invalid_messages_are_refused() {
        let malformed = Some(Err(Failure::Unanswered(Errno::BADMSG)));
        let whole = acknowledgement(7, -17, "File exists");
        for length in 1..whole.len() - 4 {
            assert_eq!(outcome(&whole[..length]).0, malformed, "{length}");
        }
        for payload in [&[][..], &[1, 2], &1_i32.to_ne_bytes(), &i32::MIN.to_ne_bytes()] {
            let datagram = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 7, payload);
            assert_eq!(outcome(&datagram).0, malformed, "{payload:?}");
        }
        assert_eq!(outcome(&[0; 64]).0, malformed);
        let overrun = Some(Err(Failure::Unanswered(Errno::OVERFLOW)));
        assert_eq!(outcome(&message(NLMSG_OVERRUN, 0, 7, b"")).0, overrun);
    }

    #[test]
    fn an_invalid_explanation_is_ignored() {
        let mut payload = (-22_i32).to_ne_bytes().to_vec();
        payload.extend([0; 16]);
        for attributes in [&[0xff, 0xff, 1, 0][..], &[2, 0, 1, 0], &[1], &[5, 0, 9, 0, 0]] {
            let mut payload = payload.clone();
            payload.extend(attributes);
            let datagram = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 7, &payload);
            let refused = Some(Err(Failure::Refused(Errno::INVAL, None)));
            assert_eq!(outcome(&datagram).0, refused, "{attributes:?}");
        }
    }
}
