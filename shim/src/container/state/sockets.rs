//! The sockets of an init, and the remaining plan of a container that waits for its start.
//!
//! On one socket the init waits for the start of the container. Its existence means that the
//! container waits; the process that starts the container removes it. A file takes its place while
//! `startContainer` hooks run. On the other one, a
//! supervising init accepts requests. Both are in the container's directory, which only its owner
//! can access.

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
/// The name of the file that says that the start has begun, and that `startContainer` hooks run.
const STARTING: &str = "starting";
/// The name of the socket on which a supervising init accepts requests.
pub(crate) const SUPERVISOR: &str = "init";
/// The name of the file with the remaining plan.
pub(crate) const REMAINING_PLAN: &str = "start.plan";
/// The number of connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// How much of the remaining plan is read, in bytes.
const LARGEST: u64 = pidone_proto::limits::PLAN as u64 + 16;

/// Creates a socket in a container's directory and listens on it.
pub(crate) fn listen(directory: BorrowedFd<'_>, name: &'static str) -> Result<OwnedFd> {
    let fail = |verb| move |errno: Errno| Error::path(verb, name, errno);
    // An interrupted start may have left one.
    remove(directory, name);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(fail("socket"))?;
    // Independent of the umask: `unix(7)`, "Pathname socket ownership and permissions".
    fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(fail("chmod"))?;
    let address = address_in(directory, name).map_err(fail("bind"))?;
    bind(&socket, &address).map_err(fail("bind"))?;
    listen_on(&socket, BACKLOG).map_err(fail("listen"))?;
    Ok(socket)
}

/// Whether the container waits for its start.
pub(crate) fn is_waiting(directory: BorrowedFd<'_>) -> bool {
    statat(directory, START, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Marks a container whose start has begun: its `startContainer` hooks are about to run. It still
/// counts as created.
pub(crate) fn mark_starting(directory: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(directory, STARTING, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| Error::path("create", STARTING, errno))?;
    Ok(())
}

/// Whether the start has begun, and `startContainer` hooks run.
pub(crate) fn is_starting(directory: BorrowedFd<'_>) -> bool {
    statat(directory, STARTING, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Ends what [`mark_starting`] has begun.
pub(crate) fn unmark_starting(directory: BorrowedFd<'_>) {
    remove(directory, STARTING);
}

/// Removes a socket.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &str) {
    let _ = unlinkat(directory, name, AtFlags::empty());
}

/// The operations after the wait for the start.
///
/// The init has them, but it reports a failed operation by its number, and the process that starts
/// the container needs the operation for its error.
pub(crate) struct RemainingPlan {
    /// The number of the first operation.
    pub(crate) first: u32,
    /// The operations.
    pub(crate) plan: Plan,
}

impl RemainingPlan {
    /// Writes encoded operations, with the number of the first.
    pub(crate) fn write(directory: BorrowedFd<'_>, first: u32, operations: &[u8]) -> Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(directory, REMAINING_PLAN, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| Error::path("create", REMAINING_PLAN, errno))?;
        File::from(file)
            .write_all(&[&first.to_le_bytes(), operations].concat())
            .map_err(|error| Error::path("write", REMAINING_PLAN, error))
    }

    /// Reads the remaining plan from a container's directory.
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
