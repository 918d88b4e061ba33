//! The sockets on which an init waits: for the start of its container, and for what is asked of one
//! that stays process 1; and what is left of the plan of a container that waits for its start.
//!
//! They are in the container's directory, which is its owner's alone. That the first is there says
//! that the container waits; who starts it removes it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use pidone_config::{Error, Result};
use pidone_host::unix::address_in;
use pidone_plan::Plan;
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen as listen_on, socket_with};

/// The name of the socket on which the container is started.
pub(crate) const START: &str = "start";
/// The name of the socket on which an init that stays process 1 is asked.
pub(crate) const SUPERVISOR: &str = "init";
/// The name of the file with the rest of the plan.
const REMAINING_PLAN: &str = "start.plan";
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// The rest is not read beyond this size, in bytes.
const LARGEST: u64 = pidone_proto::limits::PLAN as u64 + 16;

/// Makes a socket.
pub(crate) fn listen(directory: BorrowedFd<'_>, name: &'static str) -> Result<OwnedFd> {
    let fail = |verb| move |errno: Errno| Error::path(verb, name, errno);
    // One that an interrupted start has left.
    remove(directory, name);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(fail("socket"))?;
    // Whatever the umask is: `unix(7)`, "Pathname socket ownership and permissions".
    fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(fail("chmod"))?;
    let address = address_in(directory, name).map_err(fail("bind"))?;
    bind(&socket, &address).map_err(fail("bind"))?;
    listen_on(&socket, BACKLOG).map_err(fail("listen"))?;
    Ok(socket)
}

/// Whether the container waits.
pub(crate) fn is_waiting(directory: BorrowedFd<'_>) -> bool {
    statat(directory, START, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Removes a socket.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &str) {
    let _ = unlinkat(directory, name, AtFlags::empty());
}

/// The operations behind the wait: the init has them too, but an error that it tells is a number
/// of one of them.
pub(crate) struct RemainingPlan {
    /// The number of the first.
    pub(crate) first: u32,
    /// The operations.
    pub(crate) plan: Plan,
}

impl RemainingPlan {
    /// Writes the rest, encoded as it is.
    pub(crate) fn write(directory: BorrowedFd<'_>, first: u32, operations: &[u8]) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(directory, REMAINING_PLAN, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| Error::path("create", REMAINING_PLAN, errno))?;
        File::from(file)
            .write_all(&[&first.to_le_bytes(), operations].concat())
            .map_err(|error| Error::path("write", REMAINING_PLAN, error))
    }

    /// Reads the rest.
    pub(crate) fn read(directory: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(directory, REMAINING_PLAN, flags, Mode::empty())
            .map_err(|errno| Error::path("open", REMAINING_PLAN, errno))?;
        let mut bytes = Vec::new();
        File::from(file)
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::path("read", REMAINING_PLAN, error))?;
        let (first, operations) = bytes
            .split_first_chunk()
            .ok_or_else(|| Error::path("read", REMAINING_PLAN, Errno::PROTO))?;
        Ok(Self { first: u32::from_le_bytes(*first), plan: Plan::encoded(operations.to_vec()) })
    }
}
