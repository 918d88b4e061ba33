//! The init's end of the socket: whole frames in, reports out.

use core::mem::MaybeUninit;

use pidone_proto::frame::HEADER;
use pidone_proto::{Call, Codec, FrameType, Header, Report, limits};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::failure::{Context, Failure, Result};
use crate::slots::Slots;

/// The codec that this image was built for.
#[cfg(not(feature = "postcard"))]
pub(crate) type Wire = pidone_proto::Bincode;
/// The codec that this image was built for.
#[cfg(feature = "postcard")]
pub(crate) type Wire = pidone_proto::Postcard;

/// Room for a header and the longest report: a batch of times, and its integers.
const REPORT: usize = HEADER + 4 * limits::TIMES_PER_REPORT + 64;

/// The socket to the host.
pub(crate) struct Channel {
    socket: OwnedFd,
    received: u32,
    sent: u32,
}

impl Channel {
    /// Takes the socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, received: 0, sent: 0 }
    }

    /// The socket.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Counts the report that the parent of this process sent about it.
    pub(crate) fn forked(&mut self) {
        self.sent += 1;
    }

    /// Receives one message into `buffer`, its descriptors into `slots`.
    ///
    /// End-of-file is the errno `EPIPE`: the host is gone.
    pub(crate) fn receive<'b>(
        &mut self,
        buffer: &'b mut [u8],
        slots: &mut Slots,
    ) -> Result<(FrameType, &'b [u8])> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(limits::DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut iov = [IoSliceMut::new(&mut *buffer)];
            match recvmsg(&self.socket, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                other => break other.during(Call::Receive)?,
            }
        };
        let mut descriptors = 0;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    slots.put_received(descriptors, fd);
                    descriptors += 1;
                }
            }
        }
        if message.bytes == 0 {
            return Err(Failure::new(Call::Receive, Errno::PIPE));
        }
        if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(Failure::new(Call::Receive, Errno::MSGSIZE));
        }
        let bytes = buffer.get(..message.bytes).unwrap_or_default();
        let (header, body) =
            Header::split(bytes, descriptors, Wire::ID, self.received).map_err(|error| {
                Failure { detail: error.code(), ..Failure::new(Call::Receive, Errno::PROTO) }
            })?;
        self.received += 1;
        Ok((header.frame_type, body))
    }

    /// Sends a report, with a descriptor or without.
    pub(crate) fn send(
        &mut self,
        report: &Report<'_>,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result {
        let mut message = [0; REPORT];
        let (head, body) = message.split_at_mut(HEADER);
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
        let message = message.get(..HEADER + length).unwrap_or_default();

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if let Some(fd) = descriptor.as_ref() {
            ancillary.push(SendAncillaryMessage::ScmRights(core::slice::from_ref(fd)));
        }
        let _whole = loop {
            // The host may be gone: an error then, not a signal.
            let sent = sendmsg(
                &self.socket,
                &[IoSlice::new(message)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            );
            match sent {
                Err(Errno::INTR) => {}
                other => break other.during(Call::Send)?,
            }
        };
        self.sent += 1;
        Ok(())
    }
}
