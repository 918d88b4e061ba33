//! The change of root, and what of it is hidden or read-only.
//!
//! The order that a plan keeps, and why:
//! 1. file systems that a user namespace may only make while full ones are in sight (proc,
//!    sysfs) are made detached, before the old root goes;
//! 2. the root is attached and becomes `/`; the old root is detached: from here on no path of the
//!    host exists that a name could reach;
//! 3. mounts are attached below the new root, then nodes and links made on them;
//! 4. sysctls are written before `/proc/sys` becomes read-only;
//! 5. the root becomes read-only last, since all of the above may have to make places for mounts.

use core::ffi::CStr;

use pidone_proto::{Call, Slot, Text};
use rustix::fd::AsFd;
use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::mount::{attach_to, copy};
use crate::failure::{Context, Result};
use crate::interpret::Init;
use crate::root::Root;
use crate::sys;

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Attaches the tree that becomes the root; names are resolved below it from now on.
pub(crate) fn root(init: &mut Init, tree: Slot, at: Text<'_>) -> Result {
    let tree = init.slots.take(tree)?;
    let at = at.as_c_str();
    move_mount(&tree, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(Call::MoveMount)?;
    init.set_root(Root::new(tree));
    Ok(())
}

/// Makes the root `/` and lets the old one go.
pub(crate) fn pivot(init: &mut Init) -> Result {
    fchdir(init.root().during(Call::Open)?).during(Call::ChangeDirectory)?;
    // With both names the same, the old root ends up mounted over the new one, and needs no
    // directory inside it: pivot_root(2), NOTES.
    pivot_root(c".", c".").during(Call::PivotRoot)?;
    unmount(c".", UnmountFlags::DETACH).during(Call::Unmount)?;
    chdir(c"/").during(Call::ChangeDirectory)
}

/// Moves the root over `/`, where `pivot_root(2)` refuses: the initial ramfs has no parent.
pub(crate) fn move_over(init: &mut Init) -> Result {
    let root = init.root().during(Call::Open)?;
    fchdir(root).during(Call::ChangeDirectory)?;
    move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(Call::MoveMount)?;
    chroot(c".").during(Call::Chroot)?;
    chdir(c"/").during(Call::ChangeDirectory)
}

/// Makes a directory the root, without a mount.
pub(crate) fn change(init: &mut Init, directory: Slot) -> Result {
    let directory = init.slots.take(directory)?;
    fchdir(&directory).during(Call::ChangeDirectory)?;
    chroot(c".").during(Call::Chroot)?;
    init.set_root(Root::new(directory));
    Ok(())
}

/// Hides a path below a mount of a null device or of an empty directory.
pub(crate) fn mask(init: &mut Init, path: Text<'_>, file: Slot, directory: Slot) -> Result {
    let path = path.as_c_str();
    let Some((target, file_type)) = existing(init, path)? else { return Ok(()) };
    let cover = init.slots.get(if file_type == FileType::Directory { directory } else { file })?;
    match copy(cover, false) {
        Ok(mount) => attach_to(mount.as_fd(), target.as_fd()),
        // Before Linux 6.15 a detached mount cannot be copied: its first use attaches it, and
        // later ones copy it from there.
        Err(Errno::INVAL) => attach_to(cover, target.as_fd()),
        Err(errno) => return Err(errno).during(Call::OpenTree),
    }
    .during(Call::MoveMount)
}

/// Makes a path read-only, by a read-only copy of its mounts over itself.
pub(crate) fn read_only(init: &mut Init, path: Text<'_>) -> Result {
    let path = path.as_c_str();
    let Some((target, _)) = existing(init, path)? else { return Ok(()) };
    let mount = copy(target.as_fd(), true).during(Call::OpenTree)?;
    sys::mount_setattr(mount.as_fd(), MOUNT_ATTR_RDONLY, 0, 0, true).during(Call::MountSetAttr)?;
    attach_to(mount.as_fd(), target.as_fd()).during(Call::MoveMount)
}

/// Makes the root's own mount read-only.
pub(crate) fn read_only_root(init: &mut Init) -> Result {
    let root = init.root().during(Call::Open)?.as_fd();
    sys::mount_setattr(root, MOUNT_ATTR_RDONLY, 0, 0, false).during(Call::MountSetAttr)
}

/// Opens what is at a path, and tells its type; `None` if nothing is.
fn existing(init: &mut Init, path: &CStr) -> Result<Option<(rustix::fd::OwnedFd, FileType)>> {
    // Nothing is there either when a part of the path is not a directory.
    let target = match init.open(path, OFlags::PATH, true) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.during(Call::Open)?,
    };
    let stat = fstat(&target).during(Call::Stat)?;
    Ok(Some((target, FileType::from_raw_mode(stat.st_mode))))
}
