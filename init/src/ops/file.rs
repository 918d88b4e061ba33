//! Directories, device nodes and links below the root.

use pidone_proto::{Call, Text};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chownat, makedev, mkdirat, mknodat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::failure::{Context, Result};
use crate::root::Root;
use crate::state::Init;

/// Makes a directory, unless the path exists.
pub(crate) fn make_directory(init: &mut Init, path: Text<'_>, mode: u32) -> Result {
    let path = path.as_c_str();
    let (above, name) = Root::split(path)?;
    let parent = init.make(above, false, true)?;
    match mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).during(Call::MakeDirectory),
    }
}

/// A node to make: type and mode, device number, owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Makes a device node with exactly this mode: the umask of the init is empty. Whatever exists is
/// kept as it is.
pub(crate) fn make_node(init: &mut Init, path: Text<'_>, node: Node) -> Result {
    // No links in the directories: if the image has /dev as a link, nodes would be made elsewhere.
    let (parent, name) = init.parent_in_series(path.0)?;
    let file_type = FileType::from_raw_mode(node.mode);
    let device = makedev(node.major, node.minor);
    match mknodat(parent, name, file_type, Mode::from_raw_mode(node.mode), device) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno).during(Call::MakeNode),
    }
    if node.uid != 0 || node.gid != 0 {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
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
    let (parent, name) = init.parent_in_series(path.0)?;
    match symlinkat(target.as_c_str(), parent, name) {
        Err(Errno::EXIST) if replace => {
            unlinkat(parent, name, AtFlags::empty()).during(Call::Remove)?;
            symlinkat(target.as_c_str(), parent, name).during(Call::MakeLink)
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).during(Call::MakeLink),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use rustix::fs::OFlags;
    use tempfile::TempDir;

    use super::*;
    use crate::failure::Failure;
    use crate::peer::Peer;

    const FIFO: u32 = 0o010_640;

    /// Makes an interpreter whose root is a new directory, `root`, next to the file `outside`.
    fn init_with_root() -> (TempDir, PathBuf, Init) {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(base.path().join("outside"), "host").unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("../outside-made", root.join("new")).unwrap();
        symlink("/", root.join("top")).unwrap();
        let name = CString::new(root.as_os_str().as_bytes()).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let mut init = Init::new(Peer::pair().1);
        init.set_root(Root::new(directory));
        (base, root, init)
    }

    fn node(mode: u32) -> Node {
        Node { mode, major: 0, minor: 0, uid: 0, gid: 0 }
    }

    /// Asserts that nothing outside the root was made or changed.
    fn assert_untouched(base: &Path) {
        assert_eq!(fs::read_dir(base).unwrap().count(), 2);
        assert_eq!(fs::read(base.join("outside")).unwrap(), b"host");
    }

    #[test]
    fn an_existing_directory_is_kept() {
        let (base, root, mut init) = init_with_root();
        make_directory(&mut init, Text(c"/a/b"), 0o700).unwrap();
        let mode = || fs::metadata(root.join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode(), 0o040_700);
        make_directory(&mut init, Text(c"/a/b"), 0o500).unwrap();
        assert_eq!(mode(), 0o040_700);
        make_directory(&mut init, Text(c"top/c"), 0o700).unwrap();
        assert!(root.join("c").is_dir());
        // Links and files count as existing.
        make_directory(&mut init, Text(c"out"), 0o700).unwrap();
        make_directory(&mut init, Text(c"new"), 0o700).unwrap();
        let failure = make_directory(&mut init, Text(c"a/"), 0o700).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::INVAL));
        assert_untouched(base.path());
    }

    #[test]
    fn what_exists_in_the_place_of_a_node_is_kept() {
        let (base, root, mut init) = init_with_root();
        make_node(&mut init, Text(c"/dev/pipe"), node(FIFO)).unwrap();
        let made = fs::symlink_metadata(root.join("dev/pipe")).unwrap();
        assert!(made.file_type().is_fifo());
        make_node(&mut init, Text(c"/dev/pipe"), node(FIFO)).unwrap();
        fs::write(root.join("file"), "content").unwrap();
        for path in [c"file", c"out", c"new", c"dev"] {
            // Its owner is kept, too.
            let other = Node { uid: 1, gid: 1, ..node(FIFO) };
            make_node(&mut init, Text(path), other).unwrap();
        }
        assert_eq!(fs::read(root.join("file")).unwrap(), b"content");
        assert!(fs::symlink_metadata(root.join("out")).unwrap().is_symlink());
        assert_untouched(base.path());
    }

    #[test]
    fn a_node_is_not_made_through_a_link() {
        let (base, root, mut init) = init_with_root();
        let failure = make_node(&mut init, Text(c"top/pipe"), node(FIFO)).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP));
        assert!(!root.join("pipe").exists());
        assert_untouched(base.path());
    }

    #[test]
    fn an_existing_link_is_kept_or_replaced() {
        let (base, root, mut init) = init_with_root();
        let target = |name: &str| fs::read_link(root.join(name)).unwrap();
        make_link(&mut init, Text(c"/proc/self/fd"), Text(c"/dev/fd"), false).unwrap();
        assert_eq!(target("dev/fd"), Path::new("/proc/self/fd"));
        make_link(&mut init, Text(c"other"), Text(c"/dev/fd"), false).unwrap();
        assert_eq!(target("dev/fd"), Path::new("/proc/self/fd"));
        make_link(&mut init, Text(c"other"), Text(c"/dev/fd"), true).unwrap();
        assert_eq!(target("dev/fd"), Path::new("other"));
        // The link itself is replaced, not what it leads to.
        make_link(&mut init, Text(c"other"), Text(c"out"), true).unwrap();
        assert_eq!(target("out"), Path::new("other"));
        let failure = make_link(&mut init, Text(c"x"), Text(c"dev"), true).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Remove, Errno::ISDIR));
        let failure = make_link(&mut init, Text(c"x"), Text(c"top/y"), true).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP));
        assert_untouched(base.path());
    }
}
