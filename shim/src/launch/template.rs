//! The template mount namespace, which is almost empty and therefore cheap to copy.
//!
//! A new mount namespace is a copy of its creator's. The kernel copies each mount, under a lock of
//! the whole system: a millisecond for a thousand mounts. The template has a tmpfs with an empty
//! directory for the new root, and a fully visible proc and sysfs, since a user namespace can only
//! mount its own while it sees such ones.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use pidone_config::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::clone::no_thread;

/// The directory where the root of a container is attached.
pub(crate) const ROOT: &str = "/r";

/// Where its proc and its sysfs are mounted.
pub(crate) const BARE: [&str; 2] = ["/proc", "/sys"];

/// Creates the namespace, in a thread that ends afterwards.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] if the caller may not mount.
pub(crate) fn make_namespace() -> Result<OwnedFd> {
    let thread = thread::Builder::new()
        .name("pidone-template".into())
        .spawn(fill_namespace)
        .map_err(|error| no_thread("pidone-template", error))?;
    thread.join().unwrap_or_else(|_| Err(Error::system("template", "", Errno::CANCELED)))
}

/// Moves the thread to a new mount namespace, fills it, and returns its descriptor.
fn fill_namespace() -> Result<OwnedFd> {
    let fail = |verb: &'static str| move |errno: Errno| Error::system(verb, "template", errno);
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::system("unshare", "template mount namespace", errno))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private).map_err(fail("mount propagation"))?;

    let none = MountAttrFlags::empty();
    let root = file_system("tmpfs", &[("mode", "755"), ("size", "16k")], none)?;
    let proc = file_system("proc", &[], none)?;
    let sys = file_system("sysfs", &[], none)?;
    // Any directory that always exists would do.
    move_mount(&root, c"", CWD, c"/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(fail("move_mount"))?;
    for name in ["r", "proc", "sys"] {
        mkdirat(&root, name, Mode::from_raw_mode(0o755)).map_err(fail("mkdir"))?;
    }
    for (mount, name) in [(&proc, "proc"), (&sys, "sys")] {
        move_mount(mount, c"", &root, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(fail("move_mount"))?;
    }
    fchdir(&root).map_err(fail("chdir"))?;
    pivot_root(c".", c".").map_err(fail("pivot_root"))?;
    unmount(c".", UnmountFlags::DETACH).map_err(fail("umount"))?;
    chdir(c"/").map_err(fail("chdir"))?;
    openat(CWD, c"/proc/thread-self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(fail("open"))
}

/// Creates a file system as a detached mount.
pub(super) fn file_system(
    fstype: &'static str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let fail = |verb| move |errno: Errno| Error::system(verb, fstype, errno);
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen"))?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value).map_err(fail("fsconfig"))?;
    }
    fsconfig_create(&context).map_err(fail("fsconfig"))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(fail("fsmount"))
}
