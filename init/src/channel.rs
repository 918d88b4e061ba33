//! The init's end of the socket: it receives whole frames and sends reports.

use pidone_proto::codec::Decode;
use pidone_proto::frame::HEADER_LENGTH;
use pidone_proto::{Call, Codec, FrameType, Header, Report, limits};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};
use crate::kernel::socket;
use crate::slots::Slots;

/// The codec that this image was built for.
#[cfg(not(feature = "postcard"))]
pub(crate) type Wire = pidone_proto::Bincode;
/// The codec that this image was built for.
#[cfg(feature = "postcard")]
pub(crate) type Wire = pidone_proto::Postcard;

/// The space for a header and the longest report: a batch of times, and its integers.
const REPORT: usize = HEADER_LENGTH + 8 * limits::TIMES_PER_REPORT + 64;

/// The socket to the host. No call on it is interrupted (`EINTR`): this program has no handlers for
/// signals, and the socket no time limits.
pub(crate) struct Channel {
    socket: OwnedFd,
    received: u32,
    sent: u32,
}

impl Channel {
    /// Takes ownership of the socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, received: 0, sent: 0 }
    }

    /// Borrows the socket.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Moves the socket to a descriptor number that is not below `number`.
    pub(crate) fn move_above(&mut self, number: i32) -> Result {
        use rustix::fd::AsRawFd as _;
        if self.socket.as_raw_fd() < number {
            self.socket =
                rustix::io::fcntl_dupfd_cloexec(&self.socket, number).during(Call::Duplicate)?;
        }
        Ok(())
    }

    /// Counts the report that the parent of this process sent about it.
    pub(crate) fn forked(&mut self) {
        self.sent += 1;
    }

    /// Receives one message into `buffer`, its descriptors into `slots`.
    ///
    /// At end-of-file, which means that the host is gone, this fails with `EPIPE`.
    pub(crate) fn receive<'b>(
        &mut self,
        buffer: &'b mut [u8],
        slots: &mut Slots,
    ) -> Result<(Header, &'b [u8])> {
        let mut descriptors = 0;
        let mut keep = |fd| {
            slots.put_received(descriptors, fd);
            descriptors += 1;
        };
        let (length, cut) =
            socket::receive(self.socket.as_fd(), buffer, &mut keep).during(Call::Receive)?;
        if length == 0 {
            return Err(Failure::new(Call::Receive, Errno::PIPE));
        }
        if cut {
            return Err(Failure::new(Call::Receive, Errno::MSGSIZE));
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        let (header, body) =
            Header::split(bytes, descriptors, Wire::ID, self.received).map_err(|error| {
                Failure { detail: error.code(), ..Failure::new(Call::Receive, Errno::PROTO) }
            })?;
        self.received += 1;
        Ok((header, body))
    }

    /// Sends a report, with or without a descriptor.
    pub(crate) fn send(
        &mut self,
        report: &Report<'_>,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result {
        let mut message = [0; REPORT];
        let (head, body) = message.split_at_mut(HEADER_LENGTH);
        let length =
            Wire::encode(report, body).map_err(|_| Failure::new(Call::Send, Errno::MSGSIZE))?;
        let header = Header {
            frame_type: FrameType::Report,
            codec: Wire::ID,
            descriptors: u8::from(descriptor.is_some()),
            sequence: self.sent,
            // A report is far shorter than 4 GiB.
            length: u32::try_from(length).unwrap_or(u32::MAX),
        };
        head.copy_from_slice(&header.to_bytes());
        let message = message.get(..HEADER_LENGTH + length).unwrap_or_default();

        // These may be sent under the seccomp filter of the program. No others are written, since
        // an error would be a signal.
        let written = matches!(report, Report::Executing | Report::Failed { .. });
        socket::send(self.socket.as_fd(), message, descriptor, written).during(Call::Send)?;
        self.sent += 1;
        Ok(())
    }
}

/// Decodes a message from the front of a body, and returns its length.
pub(crate) fn decode<'b, T: Decode<'b>>(bytes: &'b [u8]) -> Result<(T, usize)> {
    Wire::decode(bytes).map_err(|_| Failure::unexpected(Call::Decode))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use pidone_proto::Slot;
    use rustix::io::{FdFlags, fcntl_getfd};

    use super::*;
    use crate::peer::{Peer, is_closed, pipe};

    /// Receives the next message: its type and the length of its body.
    fn receive(channel: &mut Channel, slots: &mut Slots) -> Result<(FrameType, usize)> {
        let mut buffer = vec![0; limits::FRAME];
        let (header, body) = channel.receive(&mut buffer, slots)?;
        Ok((header.frame_type, body.len()))
    }

    /// Returns how a message is refused.
    fn refusal(bytes: &[u8], files: &[BorrowedFd<'_>]) -> Failure {
        let (peer, mut channel) = Peer::pair();
        peer.send_bytes(bytes, files).unwrap();
        receive(&mut channel, &mut Slots::new()).unwrap_err()
    }

    fn refused(errno: Errno, detail: u16) -> Failure {
        Failure { detail, ..Failure::new(Call::Receive, errno) }
    }

    /// A valid `Proceed`.
    fn proceed() -> [u8; HEADER_LENGTH] {
        let header = Header {
            frame_type: FrameType::Proceed,
            codec: Wire::ID,
            descriptors: 0,
            sequence: 0,
            length: 0,
        };
        header.to_bytes()
    }

    /// The same with one byte changed.
    fn changed(place: usize, byte: u8) -> [u8; HEADER_LENGTH] {
        let mut bytes = proceed();
        bytes[place] = byte;
        bytes
    }

    #[test]
    fn messages_are_received_in_their_order() {
        let (mut peer, mut channel) = Peer::pair();
        let mut slots = Slots::new();
        peer.send(FrameType::Part, b"one", &[]);
        peer.send(FrameType::Proceed, b"", &[]);
        peer.send(FrameType::PartInMemfd, &[7; limits::FRAME - HEADER_LENGTH], &[]);
        let mut received = || receive(&mut channel, &mut slots).unwrap();
        assert_eq!(received(), (FrameType::Part, 3));
        assert_eq!(received(), (FrameType::Proceed, 0));
        assert_eq!(received(), (FrameType::PartInMemfd, limits::FRAME - HEADER_LENGTH));
    }

    #[test]
    fn descriptors_take_the_first_slots_and_do_not_survive_exec() {
        let (mut peer, mut channel) = Peer::pair();
        let mut slots = Slots::new();
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..3).map(|_| pipe()).unzip();
        let theirs: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        peer.send(FrameType::Part, b"", &theirs);
        receive(&mut channel, &mut slots).unwrap();
        for (slot, end) in (0..3).zip(&ours) {
            let fd = slots.get(Slot(slot)).unwrap();
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
            rustix::io::write(fd, &[u8::try_from(slot).unwrap()]).unwrap();
            let mut byte = [9];
            rustix::io::read(end, &mut byte).unwrap();
            assert_eq!(u16::from(byte[0]), slot, "the order is that of the message");
        }
        assert!(slots.get(Slot(3)).is_err());
    }

    #[test]
    fn as_many_descriptors_as_the_kernel_carries_come() {
        let (mut peer, mut channel) = Peer::pair();
        let mut slots = Slots::new();
        let (_ours, theirs) = pipe();
        let many = vec![theirs.as_fd(); limits::DESCRIPTORS];
        peer.send(FrameType::Part, b"", &many);
        receive(&mut channel, &mut slots).unwrap();
        assert!(slots.get(Slot(252)).is_ok());
        assert!(slots.get(Slot(253)).is_err());
    }

    #[test]
    fn headers_are_refused_for_their_reason() {
        let proto = |code| refused(Errno::PROTO, code);
        assert_eq!(refusal(&proceed()[..15], &[]), proto(1));
        assert_eq!(refusal(b"p", &[]), proto(1));
        assert_eq!(refusal(&changed(0, b'P'), &[]), proto(2));
        assert_eq!(refusal(&changed(3, b'2'), &[]), proto(2));
        assert_eq!(refusal(&changed(4, 2), &[]), proto(3));
        assert_eq!(refusal(&changed(5, Wire::ID + 1), &[]), proto(4));
        assert_eq!(refusal(&changed(6, 9), &[]), proto(5));
        assert_eq!(refusal(&changed(12, 1), &[]), proto(6));
        assert_eq!(refusal(&[&proceed()[..], b"x"].concat(), &[]), proto(6));
        assert_eq!(refusal(&changed(7, 1), &[]), proto(7));
        assert_eq!(refusal(&changed(8, 1), &[]), proto(8));
        assert_eq!(refusal(&changed(11, 0x80), &[]), proto(8));
    }

    #[test]
    fn a_repeated_sequence_number_is_refused() {
        let (peer, mut channel) = Peer::pair();
        let mut slots = Slots::new();
        peer.send_bytes(&proceed(), &[]).unwrap();
        peer.send_bytes(&proceed(), &[]).unwrap();
        receive(&mut channel, &mut slots).unwrap();
        let failure = receive(&mut channel, &mut slots).unwrap_err();
        assert_eq!(failure, refused(Errno::PROTO, 8));
    }

    #[test]
    fn descriptors_not_in_the_header_are_refused_and_closed() {
        let (ours, theirs) = pipe();
        assert_eq!(refusal(&proceed(), &[theirs.as_fd()]), refused(Errno::PROTO, 7));
        let two = [theirs.as_fd(), theirs.as_fd()];
        assert_eq!(refusal(&changed(7, 1), &two), refused(Errno::PROTO, 7));
        drop(theirs);
        assert!(is_closed(&ours));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        assert_eq!(refusal(&vec![0; limits::FRAME + 1], &[]), refused(Errno::MSGSIZE, 0));
        let (mut peer, mut channel) = Peer::pair();
        peer.send(FrameType::Proceed, b"x", &[]);
        let mut short = [0; HEADER_LENGTH];
        let failure = channel.receive(&mut short, &mut Slots::new()).unwrap_err();
        assert_eq!(failure, refused(Errno::MSGSIZE, 0));
    }

    #[test]
    fn an_empty_message_is_end_of_file() {
        assert_eq!(refusal(b"", &[]), refused(Errno::PIPE, 0));
        let (ours, theirs) = pipe();
        assert_eq!(refusal(b"", &[theirs.as_fd()]), refused(Errno::PIPE, 0));
        drop(theirs);
        assert!(is_closed(&ours), "a descriptor of an empty message is closed");
        let (peer, mut channel) = Peer::pair();
        drop(peer);
        let failure = receive(&mut channel, &mut Slots::new()).unwrap_err();
        assert_eq!(failure, refused(Errno::PIPE, 0));
    }

    #[test]
    fn reports_are_numbered_and_carry_their_descriptor() {
        let (peer, mut channel) = Peer::pair();
        let (_ours, theirs) = pipe();
        channel.send(&Report::Barrier { id: 7 }, None).unwrap();
        channel.send(&Report::Console, Some(theirs.as_fd())).unwrap();
        // The parent sent a report that the child must count.
        channel.forked();
        channel.send(&Report::Executing, None).unwrap();
        let barrier = peer.receive();
        assert_eq!((barrier.header.sequence, barrier.files.len()), (0, 0));
        assert_eq!(barrier.report(), Report::Barrier { id: 7 });
        let console = peer.receive();
        assert_eq!((console.header.sequence, console.files.len()), (1, 1));
        assert_eq!(console.report(), Report::Console);
        let executing = peer.receive();
        assert_eq!((executing.header.sequence, executing.files.len()), (3, 0));
        assert_eq!(executing.report(), Report::Executing);
    }

    #[test]
    fn the_longest_report_fits() {
        let (peer, mut channel) = Peer::pair();
        let nanoseconds = [0xff; 8 * limits::TIMES_PER_REPORT];
        let report = Report::Times { first: u32::MAX, nanoseconds: &nanoseconds };
        channel.send(&report, None).unwrap();
        let received = peer.receive();
        assert_eq!(received.report(), report);
        assert!(HEADER_LENGTH + received.body.len() <= REPORT);
        let longer = [0; REPORT];
        let report = Report::Times { first: 1, nanoseconds: &longer };
        let failure = channel.send(&report, None).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Send, Errno::MSGSIZE));
    }

    #[test]
    fn sending_to_a_host_that_is_gone_fails() {
        let (peer, mut channel) = Peer::pair();
        drop(peer);
        let failure = channel.send(&Report::Executing, None).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Send, Errno::PIPE));
    }
}
