//! Device nodes for a container in a user namespace, in which `mknod(2)` is refused.
//!
//! A bind of the host's node has the host's owner, whom the user namespace does not have, and the
//! host's permissions; and the host may have the device at another path, or nowhere. So the host
//! makes a new node for the container, as crun does: on a tmpfs that only the node's mount
//! refers to. Such a mount can only be made of a file in the caller's mount namespace, where the
//! host would see it. It is therefore made by a thread with its own mount namespace, which ends
//! with it.

use std::os::fd::OwnedFd;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use pidone_config::{Error, Result};
use pidone_plan::Node;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat,
};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount,
    open_tree,
};

use super::template::file_system;

/// The name of the node on its tmpfs.
const NAME: &str = "node";

/// Returns a new node as a detached mount.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path of the device.
pub(super) fn make(node: &Node) -> Result<OwnedFd> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("pidone-node".into())
            .spawn_scoped(scope, || make_in_namespace(node))
            .map_err(|error| Error::system("start a thread", "pidone-node", error))?;
        thread.join().unwrap_or_else(|_| Err(Error::system("mknod", &node.path, Errno::IO)))
    })
}

/// Makes the node, from a thread whose mount namespace nobody else uses.
fn make_in_namespace(node: &Node) -> Result<OwnedFd> {
    // The caller's signals must not be handled in this thread.
    let _ = SigSet::all().thread_block();
    let fail = |verb: &'static str| move |errno| Error::system(verb, &node.path, errno);
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Error::system("unshare", &node.path, errno))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(fail("make private"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Any directory will do: the mount is used by its descriptor.
    let below = openat(CWD, "/", flags, Mode::empty()).map_err(fail("open"))?;
    let options = [("mode", "700"), ("size", "4k"), ("nr_inodes", "2")];
    let memory = file_system("tmpfs", &options, MountAttrFlags::empty())?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&memory, "", &below, "", onto).map_err(fail("move_mount"))?;
    let kind = FileType::from_raw_mode(node.mode);
    let mode = Mode::from_raw_mode(node.mode & 0o7777);
    mknodat(&memory, NAME, kind, mode, makedev(node.major, node.minor)).map_err(fail("mknod"))?;
    let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    chownat(&memory, NAME, owner.0, owner.1, AtFlags::empty()).map_err(fail("chown"))?;
    // Last: a change of the owner clears bits, and the mask of this process has cleared others.
    chmodat(&memory, NAME, mode, AtFlags::empty()).map_err(fail("chmod"))?;
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(&memory, NAME, copy).map_err(fail("open_tree"))
}
