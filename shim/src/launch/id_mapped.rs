//! ID-mapped mounts: `mount_setattr(2)`, `MOUNT_ATTR_IDMAP`.
#![allow(unsafe_code, reason = "a system call without a safe wrapper")]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use pidone_config::config::NamespaceType;
use pidone_config::{Error, Result};
use pidone_plan::{MappedIds, UserNamespace};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::channel::Channel;
use super::clone::{Child, Request, clone_and_exec, dup_above};
use super::id_map::Maps;
use super::image::{EMBEDDED, Sealed};

/// Maps the ids of a detached mount's files by a user namespace.
pub(super) fn set_ids(tree: BorrowedFd<'_>, ids: &MappedIds, path: &Path) -> Result<()> {
    let namespace = match &ids.namespace {
        UserNamespace::File(file) => open(file)?,
        UserNamespace::Maps(users, groups) => make_user_namespace(&Maps { users, groups })?,
    };
    mount_setattr_idmap(tree, namespace.as_fd(), ids.recursive).map_err(|errno| {
        let error = Error::path("map the ids of", path, errno);
        match errno {
            Errno::INVAL => error.with_hint("its file system may not support id-mapped mounts"),
            _ => error,
        }
    })
}

/// Creates a user namespace with these maps, and no process in it.
///
/// An init is cloned to create it, and killed when its maps are written.
fn make_user_namespace(maps: &Maps<'_>) -> Result<OwnedFd> {
    let (_channel, theirs) = Channel::pair(EMBEDDED.codec())?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| Error::path("open", "/dev/null", error))?;
    let image = Sealed::embedded(false)?;
    // Above the numbers that the init gets: 0 to 2, and 3 for the socket.
    let moved = [null.as_fd(), theirs.as_fd(), image.as_fd()].map(|fd| dup_above(fd, 4));
    let number = |index: usize, fd: BorrowedFd<'_>| -> Result<RawFd> {
        let copy = moved[index].as_ref().map_err(Clone::clone)?;
        Ok(copy.as_ref().map_or(fd.as_raw_fd(), AsRawFd::as_raw_fd))
    };
    let child = clone_and_exec(&Request {
        namespaces: NamespaceType::User.clone_flag(),
        cgroup: None,
        tasks: Vec::new(),
        descriptors: vec![Some(number(0, null.as_fd())?); 3],
        socket: number(1, theirs.as_fd())?,
        image: number(2, image.as_fd())?,
        timed: false,
    })?;
    let Child { pid, pidfd } = child;
    let path = format!("/proc/{pid}/ns/user");
    let namespace = maps.write(pid).and_then(|()| open(path.as_ref()));
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    namespace
}

fn open(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}

/// Calls `mount_setattr(2)` with `MOUNT_ATTR_IDMAP`.
fn mount_setattr_idmap(
    tree: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> std::result::Result<(), Errno> {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    let descriptor = u64::try_from(namespace.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let attributes: [u64; 4] = [libc::MOUNT_ATTR_IDMAP, 0, 0, descriptor];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path and the structure outlive the call, which only reads them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if answer == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
