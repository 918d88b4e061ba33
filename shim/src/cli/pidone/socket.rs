//! Unix sockets of the caller that are sent a descriptor: of a terminal, or of a process.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};

use crate::error::{Error, Result};

/// The longest path that fits into an address: unix(7).
const LONGEST: usize = 107;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: OwnedFd,
    path: PathBuf,
}

impl Receiver {
    /// Connects to the socket with a path, however long that is.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let fail = |verb| move |errno: Errno| Error::path(verb, path, errno);
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(fail("socket"))?;
        if path.as_os_str().len() <= LONGEST {
            let address = SocketAddrUnix::new(path).map_err(fail("connect"))?;
            connect(&socket, &address).map_err(fail("connect"))?;
        } else {
            let directory = path.parent().unwrap_or(Path::new("."));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(CWD, directory, flags, Mode::empty()).map_err(fail("open"))?;
            let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
                .join(path.file_name().unwrap_or_default());
            let address = SocketAddrUnix::new(&short).map_err(fail("connect"))?;
            connect(&socket, &address).map_err(fail("connect"))?;
        }
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Sends a descriptor with its name, as runc does.
    pub(super) fn send(self, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
        let files = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let message = [IoSlice::new(name.as_bytes())];
        loop {
            match sendmsg(&self.socket, &message, &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::path("send to", &self.path, errno)),
            }
        }
    }
}
