//! The host's end of the socket, for tests: it sends whatever they need.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::mem::MaybeUninit;
use std::vec;
use std::vec::Vec;

use pidone_proto::frame::HEADER_LENGTH;
use pidone_proto::{Codec, FrameType, Header, Report, limits};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::channel::{Channel, Wire};

/// The host.
pub(crate) struct Peer {
    socket: OwnedFd,
    sent: u32,
}

/// A received report with its descriptors.
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    pub(crate) files: Vec<OwnedFd>,
}

impl Received {
    pub(crate) fn report(&self) -> Report<'_> {
        assert_eq!(self.header.frame_type, FrameType::Report);
        let (report, length) = Wire::decode(&self.body).unwrap();
        assert_eq!(length, self.body.len());
        report
    }
}

impl Peer {
    /// Makes both ends of a socket.
    pub(crate) fn pair() -> (Self, Channel) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Self { socket: ours, sent: 0 }, Channel::new(theirs))
    }

    /// Sends a valid message.
    pub(crate) fn send(&mut self, frame_type: FrameType, body: &[u8], files: &[BorrowedFd<'_>]) {
        let header = Header {
            frame_type,
            codec: Wire::ID,
            descriptors: u8::try_from(files.len()).unwrap(),
            sequence: self.sent,
            length: u32::try_from(body.len()).unwrap(),
        };
        self.sent += 1;
        self.send_bytes(&[&header.to_bytes(), body].concat(), files).unwrap();
    }

    /// Sends any bytes.
    pub(crate) fn send_bytes(
        &self,
        bytes: &[u8],
        files: &[BorrowedFd<'_>],
    ) -> Result<usize, Errno> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(files)));
        }
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty())
    }

    /// Receives a message of the init.
    pub(crate) fn receive(&self) -> Received {
        let mut buffer = vec![0; limits::FRAME];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags)
                .unwrap();
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                files.extend(received);
            }
        }
        let sequence = u32::from_le_bytes(*buffer[8..].first_chunk().unwrap());
        let bytes = &buffer[..message.bytes];
        let (header, body) = Header::split(bytes, files.len(), Wire::ID, sequence).unwrap();
        assert_eq!(bytes.len(), HEADER_LENGTH + body.len());
        Received { header, body: body.to_vec(), files }
    }
}

/// Makes a connected pair: each end shows whether the other is still open.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}

/// Returns whether the other end is closed.
pub(crate) fn is_closed(end: &OwnedFd) -> bool {
    let mut byte = [0];
    match rustix::net::recv(end, &mut byte, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => true,
        Err(Errno::AGAIN) => false,
        other => panic!("{other:?}"),
    }
}
