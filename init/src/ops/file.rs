//! Directories, device nodes and links below the root.

use pidone_proto::{Call, Text};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chownat, makedev, mkdirat, mknodat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};
use crate::interpret::Init;

/// Makes a directory, unless something is there.
pub(crate) fn make_directory(init: &mut Init, path: Text<'_>, mode: u32) -> Result {
    let path = path.as_c_str();
    let (parent, name) = init.root()?.parent(path, true)?;
    match mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).during(Call::MakeDirectory),
    }
}

/// A node to make: type and permissions, device number, owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Makes a device node, with the exact mode: the init's mask is empty.
pub(crate) fn make_node(init: &mut Init, path: Text<'_>, node: Node) -> Result {
    let path = path.as_c_str();
    // No link on the way: /dev is the runtime's, and an image that brings it as a link would
    // have its nodes made elsewhere.
    let (parent, name) = init.root()?.parent(path, false)?;
    let file_type = FileType::from_raw_mode(node.mode);
    let device = makedev(node.major, node.minor);
    match mknodat(&parent, name, file_type, Mode::from_raw_mode(node.mode), device) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).during(Call::Stat)?;
            let same = FileType::from_raw_mode(there.st_mode) == file_type
                && (file_type == FileType::Fifo || there.st_rdev == device);
            if !same {
                return Err(Failure::new(Call::NodeDiffers, Errno::EXIST));
            }
        }
        Err(errno) => return Err(errno).during(Call::MakeNode),
    }
    if node.uid != 0 || node.gid != 0 {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .during(Call::ChangeOwner)?;
    }
    Ok(())
}

/// Makes a symbolic link.
pub(crate) fn make_link(
    init: &mut Init,
    target: Text<'_>,
    path: Text<'_>,
    replace: bool,
) -> Result {
    let path = path.as_c_str();
    let (parent, name) = init.root()?.parent(path, false)?;
    match symlinkat(target.as_c_str(), &parent, name) {
        Err(Errno::EXIST) if replace => {
            unlinkat(&parent, name, AtFlags::empty()).during(Call::Remove)?;
            symlinkat(target.as_c_str(), &parent, name).during(Call::MakeLink)
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).during(Call::MakeLink),
    }
}
