//! A root whose changes go to a private layer in memory: an overlay file system.
//!
//! The layer is a tmpfs that only the overlay refers to, so it ends with the container, however
//! that ends, and its memory counts as that of the container. The kernel makes an overlay only of
//! directories that are mounted in the caller's mount namespace, where the host would see them. The
//! mounts are therefore made by a thread with its own mount namespace, which ends with it.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use pidone_config::{Error, Result};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, mount_change, move_mount,
};

use super::template::file_system;

/// Returns a detached overlay of the directory `lower` and an empty layer. Mounts below `lower` are
/// not part of it.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with `EPERM` for a caller that may not mount.
pub(super) fn make(lower: &Path) -> Result<OwnedFd> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("pidone-layer".into())
            .spawn_scoped(scope, || make_in_namespace(lower))
            .map_err(|error| Error::system("start a thread", "pidone-layer", error))?;
        thread.join().unwrap_or_else(|_| Err(Error::path("overlay", lower, Errno::IO)))
    })
}

/// Makes the overlay, from a thread whose mount namespace nobody else uses.
fn make_in_namespace(lower: &Path) -> Result<OwnedFd> {
    let fail = |verb: &'static str| move |errno| Error::path(verb, lower, errno);
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| {
        Error::path("unshare", lower, errno)
            .with_hint("a private layer of the root needs privileges")
    })?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(fail("make private"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let below = openat(CWD, lower, flags, Mode::empty()).map_err(fail("open"))?;
    let memory = file_system("tmpfs", &[("mode", "700")], MountAttrFlags::empty())?;
    // Any directory will do: the mount is used by its descriptor.
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&memory, "", &below, "", onto).map_err(fail("move_mount"))?;
    // The root of an overlay has the mode and the owner of its layer.
    let stat = fstat(&below).map_err(fail("stat"))?;
    for name in ["upper", "work"] {
        mkdirat(&memory, name, Mode::from_raw_mode(0o755)).map_err(fail("mkdir"))?;
    }
    let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
    chownat(&memory, "upper", owner.0, owner.1, rustix::fs::AtFlags::empty())
        .map_err(fail("chown"))?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    chmodat(&memory, "upper", mode, rustix::fs::AtFlags::empty()).map_err(fail("chmod"))?;
    // Paths by descriptor are short, and hold none of the characters that overlayfs interprets.
    let (upper, work) =
        (by_descriptor(memory.as_fd(), "/upper"), by_descriptor(memory.as_fd(), "/work"));
    let lower = by_descriptor(below.as_fd(), "");
    let options =
        [("source", "overlay"), ("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)];
    file_system("overlay", &options, MountAttrFlags::empty())
}

fn by_descriptor(fd: BorrowedFd<'_>, below: &str) -> String {
    format!("/proc/self/fd/{}{below}", fd.as_raw_fd())
}
