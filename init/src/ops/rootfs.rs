//! The change of root, and which parts of it are hidden or read-only.
//!
//! The order that a plan keeps, and why:
//! 1. proc and sysfs are made as detached mounts before the old root is left, since a user
//!    namespace may only make them while unrestricted ones are visible;
//! 2. the root is attached and becomes `/`, and the old root is detached: from then on no path
//!    leads to a file of the host;
//! 3. mounts are attached below the new root, then nodes and links are made on them;
//! 4. sysctls are written before `/proc/sys` becomes read-only;
//! 5. the root becomes read-only last, since all of the above may have to make mount points.

use core::ffi::CStr;

use linux_raw_sys::general::MOUNT_ATTR_RDONLY;
use pidone_proto::{Call, Slot, Text};
use rustix::fd::AsFd;
use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, chroot, fchdir};

use super::mount::{attach_to, clone_mount};
use crate::failure::{Context, Result};
use crate::kernel::mount::mount_setattr;
use crate::root::Root;
use crate::state::Init;

const RDONLY: u64 = MOUNT_ATTR_RDONLY as u64;

/// Attaches the tree that becomes the root; paths are resolved below it from then on.
pub(crate) fn attach_root(init: &mut Init, tree: Slot, at: Text<'_>) -> Result {
    let tree = init.slots.take(tree)?;
    let at = at.as_c_str();
    move_mount(&tree, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(Call::MoveMount)?;
    init.set_root(Root::new(tree));
    Ok(())
}

/// Makes the root `/` and detaches the old one.
pub(crate) fn pivot_root(init: &mut Init) -> Result {
    fchdir(init.root().during(Call::Open)?).during(Call::ChangeDirectory)?;
    // With the same path twice, the old root ends up mounted over the new one and needs no
    // directory inside it: pivot_root(2), NOTES.
    rustix::process::pivot_root(c".", c".").during(Call::PivotRoot)?;
    unmount(c".", UnmountFlags::DETACH).during(Call::Unmount)?;
    chdir(c"/").during(Call::ChangeDirectory)
}

/// Moves the root over `/`, for where `pivot_root(2)` fails: the initial ramfs has no parent mount.
pub(crate) fn move_root(init: &mut Init) -> Result {
    let root = init.root().during(Call::Open)?;
    fchdir(root).during(Call::ChangeDirectory)?;
    move_mount(root, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .during(Call::MoveMount)?;
    chroot(c".").during(Call::Chroot)?;
    chdir(c"/").during(Call::ChangeDirectory)
}

/// Makes a directory the root: `chroot(2)`.
pub(crate) fn change_root(init: &mut Init, directory: Slot) -> Result {
    let directory = init.slots.take(directory)?;
    fchdir(&directory).during(Call::ChangeDirectory)?;
    chroot(c".").during(Call::Chroot)?;
    init.set_root(Root::new(directory));
    Ok(())
}

/// Hides a path under a mount of a null device or of an empty directory.
pub(crate) fn mask(init: &mut Init, path: Text<'_>, file: Slot, directory: Slot) -> Result {
    let path = path.as_c_str();
    let Some((target, file_type)) = open_if_exists(init, path)? else { return Ok(()) };
    let cover = init.slots.get(if file_type == FileType::Directory { directory } else { file })?;
    match clone_mount(cover, false) {
        Ok(mount) => attach_to(mount.as_fd(), target.as_fd()),
        // Before Linux 6.15 a detached mount cannot be cloned: its first use attaches it, and
        // later uses clone the attached one.
        Err(Errno::INVAL) => attach_to(cover, target.as_fd()),
        Err(errno) => return Err(errno).during(Call::OpenTree),
    }
    .during(Call::MoveMount)
}

/// Makes a path read-only by attaching a read-only clone of its mounts over it.
pub(crate) fn make_read_only(init: &mut Init, path: Text<'_>) -> Result {
    let path = path.as_c_str();
    let Some((target, _)) = open_if_exists(init, path)? else { return Ok(()) };
    let mount = clone_mount(target.as_fd(), true).during(Call::OpenTree)?;
    mount_setattr(mount.as_fd(), RDONLY, 0, 0, true).during(Call::MountSetAttr)?;
    attach_to(mount.as_fd(), target.as_fd()).during(Call::MoveMount)
}

/// Makes the root's own mount read-only.
pub(crate) fn make_root_read_only(init: &mut Init) -> Result {
    let root = init.root().during(Call::Open)?.as_fd();
    mount_setattr(root, RDONLY, 0, 0, false).during(Call::MountSetAttr)
}

/// Opens a path and returns its type; `None` if it does not exist.
fn open_if_exists(init: &mut Init, path: &CStr) -> Result<Option<(rustix::fd::OwnedFd, FileType)>> {
    // Nor does it exist if a part of the path is not a directory.
    let target = match init.open(path, OFlags::PATH, true) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other.during(Call::Open)?,
    };
    let stat = fstat(&target).during(Call::Stat)?;
    Ok(Some((target, FileType::from_raw_mode(stat.st_mode))))
}
