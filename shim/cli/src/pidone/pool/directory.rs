//! The directory of the service's socket, which nobody else may enter.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use pidone_config::{Error, Result};
use pidone_host::unix::address_in;
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, chmodat, flock, fstat, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};

/// The name of the socket.
const SOCKET: &str = "socket";

/// How many clients may wait to be attended.
const BACKLOG: i32 = 1024;

/// How long the other side may take to send a line that it has begun, or to read one.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// A directory that this process serves at: nobody else does meanwhile.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Makes the directory, or takes one that is this user's alone.
    ///
    /// # Errors
    /// It is somebody else's, others may enter it, or another service is in it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let fail = |verb: &'static str| move |errno| Error::path(verb, path, errno);
        match mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail("mkdir")(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).map_err(fail("open"))?;
        let stat = fstat(&directory).map_err(fail("stat"))?;
        let refuse = |reason| Err(Error::path("open", path, Errno::PERM).with_hint(reason));
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if stat.st_mode & 0o7777 != 0o700 {
            return refuse("others may enter it: its mode must be 0700");
        }
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(directory)),
            Err(Errno::WOULDBLOCK) => {
                Err(Error::path("lock", path, Errno::BUSY).with_hint("another service is there"))
            }
            Err(errno) => Err(fail("lock")(errno)),
        }
    }

    /// Makes the socket, in place of one that a dead service has left.
    pub(super) fn listen(&self) -> Result<OwnedFd> {
        let fail = |verb: &'static str| move |errno: Errno| Error::path(verb, SOCKET, errno);
        self.forget();
        let socket = stream().map_err(fail("socket"))?;
        let address = address_in(self.0.as_fd(), SOCKET).map_err(fail("bind"))?;
        bind(&socket, &address).map_err(fail("bind"))?;
        chmodat(&self.0, SOCKET, Mode::from_raw_mode(0o600), AtFlags::empty())
            .map_err(fail("chmod"))?;
        listen(&socket, BACKLOG).map_err(fail("listen"))?;
        Ok(socket)
    }

    /// Removes the socket: nobody finds the service any more.
    pub(super) fn forget(&self) {
        let _ = unlinkat(&self.0, SOCKET, AtFlags::empty());
    }
}

/// Connects to the service in a directory.
pub(super) fn connect_in(path: &Path) -> Result<OwnedFd> {
    let fail = |errno: Errno| {
        let error = Error::path("connect", path.join(SOCKET), errno);
        match errno {
            Errno::NOENT | Errno::CONNREFUSED => error.with_hint("no service is there"),
            _ => error,
        }
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty()).map_err(fail)?;
    let socket = stream().map_err(fail)?;
    let address = address_in(directory.as_fd(), SOCKET).map_err(fail)?;
    connect(&socket, &address).map_err(fail)?;
    Ok(socket)
}

/// Limits how long the other side of a connection may take.
pub(super) fn limit(socket: &OwnedFd) -> Result<()> {
    [Timeout::Recv, Timeout::Send]
        .into_iter()
        .try_for_each(|which| set_socket_timeout(socket, which, Some(TIMEOUT)))
        .map_err(|errno| Error::system("setsockopt", "pool", errno))
}

fn stream() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}
