//! The directory of the service's socket, which only its owner may enter.

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

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long the peer may take to send its line, or to read one.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The locked directory of this service. No other service can use it meanwhile.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Creates and locks the directory. An existing one must belong to this user and have mode
    /// 0700.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`]: `EPERM` if it belongs to another user or others may
    /// enter it, `EBUSY` if another service uses it.
    pub(super) fn lock(path: &Path) -> Result<Self> {
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

    /// Creates the socket, and replaces one that a previous service has left.
    pub(super) fn listen(&self) -> Result<OwnedFd> {
        let fail = |verb: &'static str| move |errno: Errno| Error::path(verb, SOCKET, errno);
        self.remove_socket();
        let socket = stream().map_err(fail("socket"))?;
        let address = address_in(self.0.as_fd(), SOCKET).map_err(fail("bind"))?;
        bind(&socket, &address).map_err(fail("bind"))?;
        chmodat(&self.0, SOCKET, Mode::from_raw_mode(0o600), AtFlags::empty())
            .map_err(fail("chmod"))?;
        listen(&socket, BACKLOG).map_err(fail("listen"))?;
        Ok(socket)
    }

    /// Removes the socket, so that no more clients can connect.
    pub(super) fn remove_socket(&self) {
        let _ = unlinkat(&self.0, SOCKET, AtFlags::empty());
    }
}

/// Connects to the service in a directory whose path may be of any length.
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

/// Sets [`TIMEOUT`] for sending and receiving on a connection.
pub(super) fn set_timeouts(socket: &OwnedFd) -> Result<()> {
    [Timeout::Recv, Timeout::Send]
        .into_iter()
        .try_for_each(|which| set_socket_timeout(socket, which, Some(TIMEOUT)))
        .map_err(|errno| Error::system("setsockopt", "pool", errno))
}

fn stream() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}
