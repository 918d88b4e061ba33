//! The wait between a container that is made and its start.

use pidone_proto::{Call, FrameType, Report, Slot};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::channel::Channel;
use crate::failure::{Context, Result};
use crate::interpret::Init;

/// Lets the host go and waits until somebody starts the container.
///
/// Whoever joins the container meanwhile must find nothing of the host's in this process, so that
/// all is closed but the socket, and the namespaces hold what was made.
pub(crate) fn wait(init: &mut Init, listener: Slot) -> Result {
    let listener = init.slots.take(listener)?;
    init.forget();
    init.channel.send(&Report::Waiting, None)?;
    // Who starts it is told the rest.
    #[cfg(feature = "supervise")]
    if let Some(shared) = &mut init.shared {
        shared.executing = None;
    }
    // In its place, so that the connection to the host closes.
    init.channel = Channel::new(listener);
    init.channel = loop {
        let socket = accept(init.channel.as_fd())?;
        let mut channel = Channel::new(socket);
        // One that was killed before it could send, or sends something else, is not the one.
        let mut buffer = [0; pidone_proto::frame::HEADER];
        let received = channel.receive(&mut buffer, &mut init.slots);
        if received.is_ok_and(|(header, _)| header.frame_type == FrameType::Start) {
            break channel;
        }
        init.forget();
    };
    Ok(())
}

/// Accepts a connection.
fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            other => return other.during(Call::Accept),
        }
    }
}
