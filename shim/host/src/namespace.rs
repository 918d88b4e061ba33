//! Namespaces by their files: which user namespace owns one.
#![allow(unsafe_code, reason = "ioctl(2) for which rustix has no function")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use pidone_config::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

/// Returns the owner of a namespace: `ioctl_ns(2)`.
const NS_GET_USERNS: libc::Ioctl = 0xb701;
/// Returns the parent of a user namespace: `ioctl_ns(2)`.
const NS_GET_PARENT: libc::Ioctl = 0xb702;

/// Whether a namespace belongs to a user namespace, or to a descendant of it, so that root there
/// may do with it what root of the host does with the host's.
///
/// Both are files such as `/proc/PID/ns/net`.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] if a file cannot be opened or is not that of a namespace.
pub fn is_owned_by(namespace: &Path, users: &Path) -> Result<bool> {
    let users = identity(open(users)?.as_fd(), users)?;
    let mut at = open(namespace)?;
    let mut request = NS_GET_USERNS;
    loop {
        at = match related(at.as_fd(), request) {
            Ok(related) => related,
            // It is no descendant of the caller's user namespace, or there is no parent.
            Err(Errno::PERM) => return Ok(false),
            Err(errno) => return Err(Error::path("ioctl", namespace, errno)),
        };
        if identity(at.as_fd(), namespace)? == users {
            return Ok(true);
        }
        request = NS_GET_PARENT;
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::path("open", path, errno))
}

/// Returns what identifies the namespace of a descriptor.
fn identity(fd: BorrowedFd<'_>, path: &Path) -> Result<(u64, u64)> {
    let stat = fstat(fd).map_err(|errno| Error::path("stat", path, errno))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Returns a namespace that is related to another one.
fn related(fd: BorrowedFd<'_>, request: libc::Ioctl) -> rustix::io::Result<OwnedFd> {
    // SAFETY: the kernel reads and writes no memory of this process for these requests.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), request) };
    if answer < 0 {
        let errno = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&errno).unwrap_or(Errno::IO));
    }
    // SAFETY: the kernel made the descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespaces_belong_to_the_own_user_namespace() {
        let users = Path::new("/proc/self/ns/user");
        // Of the mounts there may be a namespace of an outer user namespace.
        let owned = is_owned_by(Path::new("/proc/self/ns/net"), users);
        assert!(owned.is_ok(), "{owned:?}");
        assert!(is_owned_by(Path::new("/nowhere"), users).is_err());
        assert!(is_owned_by(Path::new("/dev/null"), users).is_err());
    }
}
