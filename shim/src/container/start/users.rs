//! Finding the user of a process by the files of its container.
//!
//! These are the files as they are once everything is mounted, as in runc. Reading them then costs
//! a round trip to the init, so the host reads them before, where it sees the same ones.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use pidone_config::{Config, Error, Process, Result};
use pidone_host::user::{Files, User};
use pidone_plan as plan;
use pidone_plan::resolve::{Nameless, find_user, given_user};
use pidone_plan::user_files::UserFiles;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat};
use rustix::io::Errno;

use crate::trace;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the root of the container that a process is in.
pub(crate) fn root_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    openat(CWD, &path, DIRECTORY, Mode::empty()).map_err(|errno| {
        let error = Error::path("open", &path, errno);
        match errno {
            Errno::ACCESS | Errno::PERM => error.with_hint("needs CAP_SYS_PTRACE"),
            _ => error,
        }
    })
}

/// Opens the directory of the host in which the user files are as in the container; `None` if that
/// takes the container's own root.
pub(crate) fn root_on_host(config: &Config) -> Result<Option<OwnedFd>> {
    let UserFiles::OnHost { root, places } = UserFiles::of(config) else { return Ok(None) };
    let directory = openat(CWD, &root, DIRECTORY, Mode::empty())
        .map_err(|errno| Error::path("open", &root, errno))?;
    let plain = places.iter().all(|place| is_plain(directory.as_fd(), place));
    Ok(plain.then_some(directory))
}

/// Finds the user of a process by the files below a directory of [`root_on_host`]; `None` if a
/// symbolic link leads to them. It may lead elsewhere in the container.
pub(crate) fn find_on_host(
    config: &Config,
    process: &Process,
    root: BorrowedFd<'_>,
) -> Result<Option<User>> {
    match find_user(config, process, Files::without_links(root)) {
        Err(error) if error.errno() == Some(Errno::LOOP) => Ok(None),
        found => found.map(Some),
    }
}

/// Finds the user of a process before the container is set up; `None` if its files are only known
/// afterwards.
pub(crate) fn find_before(config: &Config, process: &Process) -> Result<Option<User>> {
    if let Some(user) = given_user(process)? {
        return Ok(Some(user));
    }
    match root_on_host(config)? {
        Some(root) => find_on_host(config, process, root.as_fd()),
        None => Ok(None),
    }
}

/// Completes a process by the files of its container. The process with this pid is in there; the
/// descriptor is the container's root, if the host has it.
///
/// Without that, the caller needs the right to trace the init, which not all have that may start
/// containers.
pub(crate) fn complete(
    nameless: &Nameless,
    config: &Config,
    process: &Process,
    (pid, root): (i32, Option<BorrowedFd<'_>>),
) -> Result<plan::Process> {
    trace::span("find the user", || {
        let user = match root {
            Some(root) => find_user(config, process, root)?,
            None => find_user(config, process, root_of(pid)?.as_fd())?,
        };
        nameless.clone().with_user(config, process, user)
    })
}

/// Completes a process by the files of the root as they are before anything is mounted.
pub(crate) fn complete_before_mounts(
    nameless: &Nameless,
    config: &Config,
    process: &Process,
) -> Result<plan::Process> {
    let root = if config.tmpfs_root { Path::new("/") } else { &config.rootfs };
    let root = openat(CWD, root, DIRECTORY, Mode::empty())
        .map_err(|errno| Error::path("open", root, errno))?;
    let user = find_user(config, process, root.as_fd())?;
    nameless.clone().with_user(config, process, user)
}

/// Whether no symbolic link is on the way to a path below the root. If in doubt, there is one.
fn is_plain(root: BorrowedFd<'_>, path: &str) -> bool {
    let path = path.trim_start_matches('/');
    // `etc` itself is none if the user files are found.
    if !path.strip_prefix("etc/").unwrap_or(path).contains('/') {
        let stat = statat(root, path, AtFlags::SYMLINK_NOFOLLOW);
        let is_link = |mode| FileType::from_raw_mode(mode) == FileType::Symlink;
        return match stat {
            Ok(stat) => !is_link(stat.st_mode),
            Err(errno) => matches!(errno, Errno::NOENT | Errno::NOTDIR),
        };
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(_) => true,
        Err(errno) => matches!(errno, Errno::NOENT | Errno::NOTDIR),
    }
}
