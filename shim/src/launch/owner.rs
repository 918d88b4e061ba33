//! Gives standard input, output and error to the user of a process.
//!
//! Descriptors come from the caller and often belong to root. A program that runs as another user
//! could use them, but not open them again as `/dev/stdout`: that checks the permissions of the
//! file. As in runc, the user becomes the owner and the group stays. Only pipes, sockets and files
//! change hands. Devices do not, as in crun: they and terminals of the caller are the host's, and a
//! host's user of the same number must not get them.
#![allow(unsafe_code, reason = "forks a process that enters a user namespace")]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, RawFd};

use pidone_config::config::{IdMap, NamespaceType};
use pidone_config::{Config, Error, Result};
use pidone_host::proc;
use rustix::fs::{FileType, Uid, fchown, fstat, fstatfs};
use rustix::io::Errno;

use super::stdio::Descriptors;

/// The file systems of the kernel's own files: proc, sysfs and both versions of cgroup.
const OF_THE_KERNEL: [i64; 4] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270];

/// The user who gets the descriptors of a process.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// The descriptors of the process.
    pub(crate) descriptors: &'a Descriptors<'a>,
    /// The configuration of its container.
    pub(crate) config: &'a Config,
    /// The user, as the container numbers it.
    pub(crate) uid: u32,
}

impl Owner<'_> {
    /// Makes the user the owner of 0, 1 and 2. The process with this pid and pidfd is in the user
    /// namespace of the container, whose ids are mapped by now. For a further process it is the
    /// first one: an init that joins was executed outside, and an ordinary user may not look into
    /// it.
    ///
    /// What belongs to the user already, and what no one may give away (`EPERM`, `EROFS`, `EINVAL`:
    /// ids that are not mapped, a read-only file system), stays as it is.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] for other errors of `fchown(2)`, and if the id map of a
    /// joined user namespace cannot be read.
    pub(crate) fn take(&self, (pid, pidfd): (i32, BorrowedFd<'_>)) -> Result<()> {
        let mut uid = None;
        let mut refused = Vec::new();
        for file in self.descriptors.stdio() {
            let stat = fstat(file).map_err(|errno| Error::system("fstat", "stdio", errno))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if !matches!(kind, FileType::Fifo | FileType::Socket | FileType::RegularFile) {
                continue;
            }
            let Some(uid) = (match uid {
                Some(known) => known,
                None => *uid.insert(self.host_uid(pid)?),
            }) else {
                return Ok(());
            };
            if stat.st_uid == uid || (kind == FileType::RegularFile && is_of_the_kernel(file)) {
                continue;
            }
            match fchown(file, Some(Uid::from_raw(uid)), None) {
                Err(Errno::PERM) => refused.push(file.as_raw_fd()),
                Ok(()) | Err(Errno::ROFS | Errno::INVAL) => {}
                Err(errno) => return Err(Error::system("fchown", "stdio", errno)),
            }
        }
        let Some(namespace) = self.config.namespace(NamespaceType::User) else { return Ok(()) };
        if refused.is_empty() {
            return Ok(());
        }
        // The file is of use where the process is an init that has joined. It may be gone later.
        let file = (!namespace.path.is_empty()).then(|| File::open(&namespace.path));
        let file = file.and_then(std::io::Result::ok);
        let ways = [Some(pidfd), file.as_ref().map(AsFd::as_fd)];
        change_inside(ways, &refused, self.uid)
            .map_err(|errno| Error::system("fchown", "stdio", errno))
    }

    /// Returns the host's number of the user; `None` if it is not mapped.
    fn host_uid(&self, pid: i32) -> Result<Option<u32>> {
        let Self { config, uid, .. } = self;
        Ok(match config.namespace(NamespaceType::User) {
            None => Some(*uid),
            Some(namespace) if namespace.path.is_empty() => {
                IdMap::host_of(&config.uid_mappings, *uid)
            }
            Some(_) => IdMap::host_of(&proc::id_maps(pid, "uid_map")?, *uid),
        })
    }
}

/// Whether a file is one by which the kernel is read or controlled.
fn is_of_the_kernel(file: BorrowedFd<'_>) -> bool {
    // An error is for `fchown` to report.
    fstatfs(file).is_ok_and(|stat| OF_THE_KERNEL.contains(&stat.f_type))
}

/// Changes the owner in a user namespace, to an id as it is there. `ways` are a pidfd of a process
/// in it, and the file of the namespace.
///
/// An ordinary user has no right to do this outside, but has all rights in a user namespace that it
/// has created. Only a process of one thread can enter one, so this forks.
fn change_inside(
    ways: [Option<BorrowedFd<'_>>; 2],
    files: &[RawFd],
    uid: u32,
) -> std::result::Result<(), Errno> {
    let ways = ways.map(|way| way.map_or(-1, |way| way.as_raw_fd()));
    // SAFETY: the new process only makes system calls, since another thread may hold any lock.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(Errno::from_raw_os_error(last_error()));
    }
    if pid == 0 {
        // SAFETY: as above; no memory is involved.
        let status = unsafe { enter_and_change(ways, files, uid) };
        // SAFETY: ends this process only.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes the status of a child of this process.
        match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
            -1 => match last_error() {
                libc::EINTR => {}
                // Another thread has reaped it.
                libc::ECHILD => return Ok(()),
                errno => return Err(Errno::from_raw_os_error(errno)),
            },
            _ if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) != 0 => {
                return Err(Errno::from_raw_os_error(libc::WEXITSTATUS(status)));
            }
            _ => return Ok(()),
        }
    }
}

/// Enters a user namespace by the first of these descriptors that permits it, and changes the owner
/// of files. Returns an errno, or 0.
///
/// # Safety
/// Only for a process that was just forked.
unsafe fn enter_and_change(ways: [RawFd; 2], files: &[RawFd], uid: u32) -> i32 {
    for (number, way) in ways.into_iter().enumerate() {
        // SAFETY: no memory is involved.
        if unsafe { libc::setns(way, libc::CLONE_NEWUSER) } == 0 {
            break;
        }
        match last_error() {
            libc::EPERM | libc::EBADF if number + 1 < ways.len() => {}
            libc::EPERM | libc::EBADF => return 0,
            errno => return errno,
        }
    }
    for file in files {
        // SAFETY: no memory is involved.
        if unsafe { libc::fchown(*file, uid, u32::MAX) } != 0 {
            let errno = last_error();
            if !matches!(errno, libc::EPERM | libc::EROFS | libc::EINVAL) {
                return errno;
            }
        }
    }
    0
}

/// Returns the errno of the calling thread's last system call.
fn last_error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
