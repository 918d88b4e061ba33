//! Sockets of the host that listen at a path: those of seccomp agents and service managers.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use pidone_config::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, IoSlice};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};

/// How long whoever listens may take to accept, and to make room for what is sent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to a socket at a path of any length; a path that starts with `@` is a name without a
/// file: unix(7), "Address format".
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path.
pub fn connect_to(path: &Path, socket_type: SocketType) -> Result<OwnedFd> {
    let fail = |errno: Errno| Error::path("connect", path, errno);
    let socket =
        socket_with(AddressFamily::UNIX, socket_type, SocketFlags::CLOEXEC, None).map_err(fail)?;
    set_socket_timeout(&socket, Timeout::Send, Some(TIMEOUT)).map_err(fail)?;
    let bytes = path.as_os_str().as_bytes();
    let file;
    let address = if let Some(name) = bytes.strip_prefix(b"@") {
        SocketAddrUnix::new_abstract_name(name)
    } else {
        // An address has room for 108 bytes.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        file = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
        SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
    };
    match connect(&socket, &address.map_err(fail)?) {
        Ok(()) => Ok(socket),
        // What the send timeout is called here.
        Err(Errno::AGAIN) => Err(fail(Errno::TIMEDOUT)),
        Err(errno) => Err(fail(errno)),
    }
}

/// Sends a message, and a descriptor with it; answers how much of a stream's message was taken.
pub fn send(
    socket: &OwnedFd,
    message: &[u8],
    file: Option<BorrowedFd<'_>>,
) -> std::result::Result<usize, Errno> {
    let files: Vec<_> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
            result => return result,
        }
    }
}
