//! File systems as detached mounts, and how they are attached.

use core::ffi::CStr;

use pidone_proto::{Call, Create, Slot, Strings, Text};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, move_mount,
};

use crate::failure::{Context, Failure, Result};
use crate::kernel::mount::mount_setattr;
use crate::state::Init;

/// Changes the propagation of all mounts of this mount namespace.
pub(crate) fn set_propagation(flags: u32) -> Result {
    let flags = MountPropagationFlags::from_bits_retain(flags);
    mount_change(c"/", flags).during(Call::Mount)
}

/// Makes a file system as a detached mount.
pub(crate) fn make_mount(
    init: &mut Init,
    into: Slot,
    fstype: Text<'_>,
    options: Strings<'_>,
    attributes: u32,
) -> Result {
    if !options.count().is_multiple_of(2) {
        return Err(Failure::new(Call::Decode, Errno::PROTO));
    }
    let fstype = fstype.as_c_str();
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).during(Call::FsOpen)?;
    let mut strings = options.iter();
    let mut number = 0;
    while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
        number += 1;
        let set = if value.is_empty() {
            fsconfig_set_flag(&context, key)
        } else {
            fsconfig_set_string(&context, key, value)
        };
        set.map_err(|errno| Failure { detail: number, ..Failure::new(Call::FsConfig, errno) })?;
    }
    fsconfig_create(&context).during(Call::FsCreate)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .during(Call::FsMount)?;
    init.slots.put(into, mount)
}

/// Clones a mount of the host, before its root is left.
pub(crate) fn open_tree(init: &mut Init, into: Slot, path: Text<'_>, recursive: bool) -> Result {
    let path = path.as_c_str();
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = rustix::mount::open_tree(CWD, path, flags).during(Call::OpenTree)?;
    init.slots.put(into, tree)
}

/// Changes attributes of a mount in a slot.
pub(crate) fn set_attributes(
    init: &Init,
    mount: Slot,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result {
    let mount = init.slots.get(mount)?;
    mount_setattr(mount, set, clear, propagation, recursive).during(Call::MountSetAttr)
}

/// Changes attributes of an attached mount.
pub(crate) fn remount(
    init: &mut Init,
    at: Text<'_>,
    set: u64,
    clear: u64,
    recursive: bool,
) -> Result {
    let mount = init.open(at.as_c_str(), OFlags::PATH, true).during(Call::Open)?;
    mount_setattr(mount.as_fd(), set, clear, 0, recursive).during(Call::MountSetAttr)
}

/// Attaches a mount at a path below the root.
pub(crate) fn attach(
    init: &mut Init,
    mount: Slot,
    at: Text<'_>,
    create: Create,
    follow: bool,
) -> Result {
    let mount = init.slots.take(mount)?;
    let at = at.as_c_str();
    let target = open_target(init, at, create, follow)?;
    attach_to(mount.as_fd(), target.as_fd()).during(Call::MoveMount)
}

/// Attaches a mount to the file that `target` refers to.
pub(crate) fn attach_to(
    mount: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
) -> core::result::Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Clones the mount that `of` is on, from that file down.
pub(crate) fn clone_mount(
    of: BorrowedFd<'_>,
    recursive: bool,
) -> core::result::Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(of, c"", flags)
}

/// Opens the target of a mount, and makes it if `create` says so.
fn open_target(init: &mut Init, at: &CStr, create: Create, follow: bool) -> Result<OwnedFd> {
    let file = match create {
        Create::Nothing => return init.open(at, OFlags::PATH, follow).during(Call::Open),
        Create::Directory => false,
        Create::File => true,
    };
    init.make(at.to_bytes(), file, follow)
}

/// Mounts with options that are too long for `fsconfig(2)`.
pub(crate) fn legacy_mount(
    init: &mut Init,
    source: Text<'_>,
    fstype: Text<'_>,
    flags: u32,
    data: Text<'_>,
    at: Text<'_>,
) -> Result {
    let at = at.as_c_str();
    let directory = init.make(at.to_bytes(), false, true)?;
    // mount(2) takes a path for its target: "." in the directory that was resolved.
    rustix::process::fchdir(&directory).during(Call::ChangeDirectory)?;
    let flags = MountFlags::from_bits_retain(flags);
    mount(source.as_c_str(), c".", fstype.as_c_str(), flags, data.as_c_str()).during(Call::Mount)
}
