//! Unix sockets: addresses of paths longer than `sun_path`, and messages with descriptors.
//!
//! The address of a socket has room for a path of 108 bytes: unix(7), "Address format". A longer
//! path is given by a descriptor of its directory or of the socket itself below `/proc/self/fd`.
#![allow(unsafe_code, reason = "ioctl(2) for which rustix has no function")]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pidone_config::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, recvmsg, sendmsg, socket_with,
};

/// How long a listener may take to accept a connection, and a receiver to make room for a message.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most descriptors of one message: `SCM_MAX_FD` of the kernel.
pub const MAX_DESCRIPTORS: usize = 253;

/// Returns a short path of a socket in an open directory, however long the path of the directory
/// is. It is valid while the directory is open.
pub fn path_in(directory: BorrowedFd<'_>, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into()
}

/// Returns the address of a socket in an open directory, for bind(2) or connect(2).
///
/// # Errors
/// `ENAMETOOLONG` for a name of more than about 80 bytes.
pub fn address_in(
    directory: BorrowedFd<'_>,
    name: &str,
) -> std::result::Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(path_in(directory, name))
}

/// Connects to the socket at a path of any length. A path that starts with `@` is a name in the
/// abstract namespace.
///
/// The connection has a send timeout of 10 seconds, which [`send`] reports as `ETIMEDOUT`.
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
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        file = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
        SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))
    };
    match connect(&socket, &address.map_err(fail)?) {
        Ok(()) => Ok(socket),
        // connect(2) reports the send timeout as EAGAIN.
        Err(Errno::AGAIN) => Err(fail(Errno::TIMEDOUT)),
        Err(errno) => Err(fail(errno)),
    }
}

/// Returns how many bytes of what was sent the other end has not read yet: `SIOCOUTQ` of a Unix
/// socket, 0 or more than what was sent.
///
/// # Errors
/// As for `ioctl(2)`.
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    let mut unread: libc::c_int = 0;
    // SAFETY: the kernel writes one integer, which lives through the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    if answer < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(u64::try_from(unread).unwrap_or(0))
}

/// Sends a message of several parts with descriptors, and returns how many bytes a stream socket
/// took. A signal does not interrupt it, and a closed peer raises no `SIGPIPE`.
///
/// # Errors
/// The errno of sendmsg(2); `E2BIG` for more than [`MAX_DESCRIPTORS`].
pub fn send_parts(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    files: &[BorrowedFd<'_>],
) -> std::result::Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        match sendmsg(&socket, parts, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Sends a message, with a descriptor if there is one, over a socket that has a send timeout.
/// Returns how many bytes a stream socket took.
///
/// # Errors
/// The errno of sendmsg(2); `ETIMEDOUT` after the timeout.
pub fn send(
    socket: &OwnedFd,
    message: &[u8],
    file: Option<BorrowedFd<'_>>,
) -> std::result::Result<usize, Errno> {
    match send_parts(socket, &[IoSlice::new(message)], file.as_slice()) {
        Err(Errno::AGAIN) => Err(Errno::TIMEDOUT),
        result => result,
    }
}

/// A message that [`receive`] has received.
#[derive(Debug)]
pub struct Received {
    /// The length of the message in the buffer; 0 at the end of the connection.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec.
    pub files: Vec<OwnedFd>,
    /// Whether the message was longer than the buffer, or had more descriptors than there was room
    /// for: `MSG_TRUNC` and `MSG_CTRUNC`.
    pub flags: ReturnFlags,
}

/// Returns how many bytes of space [`receive`] needs for a number of descriptors. Because of the
/// alignment a few more descriptors may find room.
pub const fn space_for(descriptors: usize) -> usize {
    rustix::cmsg_space!(ScmRights(descriptors))
}

/// Receives a message with the descriptors that fit in `space`, whose length comes from
/// [`space_for`]. A signal does not interrupt it.
///
/// The descriptors are owned before the caller sees the message, so that none is leaked.
///
/// # Errors
/// The errno of recvmsg(2).
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    space: &mut [MaybeUninit<u8>],
) -> std::result::Result<Received, Errno> {
    let mut ancillary = RecvAncillaryBuffer::new(space);
    let message = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    Ok(Received { length: message.bytes, files, flags: message.flags })
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen, socketpair};

    use super::*;

    fn pair(socket_type: SocketType) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, socket_type, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn what_the_peer_has_not_read_is_counted() {
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (ours, theirs) = pair.unwrap();
        assert_eq!(unread_by_peer(ours.as_fd()), Ok(0));
        send_parts(&ours, &[IoSlice::new(b"request")], &[]).unwrap();
        assert!(unread_by_peer(ours.as_fd()).unwrap() > 0);
        rustix::io::read(&theirs, &mut [0; 16]).unwrap();
        assert_eq!(unread_by_peer(ours.as_fd()), Ok(0));
    }

    #[test]
    fn a_socket_in_a_directory_with_a_long_path_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("d".repeat(200));
        std::fs::create_dir(&path).unwrap();
        let directory = OwnedFd::from(std::fs::File::open(&path).unwrap());
        let flags = SocketFlags::CLOEXEC;
        let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let listener = socket();
        let address = address_in(directory.as_fd(), "socket").unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 2).unwrap();
        connect(socket(), &address).unwrap();
        connect_to(&path.join("socket"), SocketType::STREAM).unwrap();
        let error = connect_to(&path.join("none"), SocketType::STREAM).unwrap_err().to_string();
        assert!(error.ends_with("none`: No such file or directory"), "{error}");
    }

    #[test]
    fn parts_and_descriptors_arrive_together() {
        let (ours, theirs) = pair(SocketType::SEQPACKET);
        let parts = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
        assert_eq!(send_parts(&ours, &parts, &[ours.as_fd(), theirs.as_fd()]), Ok(5));
        let mut buffer = [0; 10];
        let mut space = [MaybeUninit::uninit(); space_for(2)];
        let received = receive(&theirs, &mut buffer, &mut space).unwrap();
        assert_eq!(&buffer[..received.length], b"hello");
        assert_eq!(received.files.len(), 2);
        assert!(received.flags.is_empty() || received.flags == ReturnFlags::CMSG_CLOEXEC);
    }

    #[test]
    fn what_has_no_room_is_reported() {
        let (ours, theirs) = pair(SocketType::SEQPACKET);
        let files = [ours.as_fd(); 20];
        assert_eq!(send_parts(&ours, &[IoSlice::new(b"hello")], &files), Ok(5));
        let mut space = [MaybeUninit::uninit(); space_for(1)];
        let received = receive(&theirs, &mut [0; 2], &mut space).unwrap();
        assert!(received.flags.contains(ReturnFlags::TRUNC | ReturnFlags::CTRUNC));
        assert!(received.files.len() < 20);
        let files = vec![ours.as_fd(); MAX_DESCRIPTORS + 20];
        assert_eq!(send_parts(&ours, &[IoSlice::new(b"x")], &files), Err(Errno::TOOBIG));
    }

    #[test]
    fn a_closed_connection_is_a_message_of_no_bytes() {
        let (ours, theirs) = pair(SocketType::STREAM);
        drop(ours);
        let received = receive(&theirs, &mut [0; 2], &mut []).unwrap();
        assert_eq!((received.length, received.files.len()), (0, 0));
        assert_eq!(send(&theirs, b"x", None), Err(Errno::PIPE));
    }
}
