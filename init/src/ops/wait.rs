//! Waiting: at a barrier, and between the creation of a container and its start.

use pidone_proto::{Call, FrameType, Report, Slot};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::channel::Channel;
use crate::failure::{Context, Result};
use crate::state::Init;

/// Reports a barrier to the host, and waits until the host lets the init proceed.
pub(crate) fn wait_at_barrier(init: &mut Init, id: u32) -> Result {
    init.channel.send(&Report::Barrier { id }, None)?;
    init.wait()
}

/// Waits until the container is started, without a connection to the host.
///
/// A process that joins the container meanwhile must not find a descriptor of the host here. So
/// everything except the socket is closed; the namespaces keep what was made in them.
pub(crate) fn await_start(init: &mut Init, listener: Slot) -> Result {
    let listener = init.slots.take(listener)?;
    init.close_all();
    init.channel.send(&Report::Waiting, None)?;
    // Later reports go to the process that starts the container.
    #[cfg(feature = "supervise")]
    if let Some(shared) = &mut init.shared {
        shared.executing = None;
    }
    // This replaces the connection to the host, which is closed.
    init.channel = Channel::new(listener);
    init.channel = loop {
        let socket = accept(init.channel.as_fd())?;
        let mut channel = Channel::new(socket);
        // A peer that is killed before it sends, or sends anything else, does not start it.
        let mut buffer = [0; pidone_proto::frame::HEADER_LENGTH];
        let received = channel.receive(&mut buffer, &mut init.slots);
        if received.is_ok_and(|(header, _)| header.frame_type == FrameType::Start) {
            break channel;
        }
        init.close_all();
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
