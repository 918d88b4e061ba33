//! Paths below a hostile root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec::Vec;
use std::{format, fs, thread};

use rustix::fs::{FileType, RenameFlags, fstat, mkfifoat, renameat_with};
use tempfile::TempDir;

use super::*;

/// A root, and next to it a directory that must not be reached.
struct Tree {
    base: TempDir,
    root: Root,
}

/// Converts a path for the kernel.
fn name(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

impl Tree {
    /// ```text
    /// outside/secret            must not be reached
    /// root/file, root/d/        may be reached
    /// root/up -> ../outside     and other links of every kind
    /// ```
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let outside = base.path().join("outside");
        let root = base.path().join("root");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "host").unwrap();
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(root.join("file"), "container").unwrap();
        let links: [(&str, &Path); 11] = [
            ("slash", Path::new("/")),
            ("up", Path::new("../outside")),
            ("far-up", Path::new("../../../../../../../../../../..")),
            ("absolute", &outside),
            ("to-d", Path::new("d")),
            ("to-d-absolute", Path::new("/d")),
            ("chain", Path::new("/slash/to-d-absolute/e")),
            ("dangling", Path::new("/nowhere")),
            ("loop", Path::new("loop")),
            ("to-file", Path::new("/file")),
            ("empty-end", Path::new("d/.")),
        ];
        for (link, target) in links {
            symlink(target, root.join(link)).unwrap();
        }
        mkfifoat(CWD, name(root.join("fifo")).as_c_str(), Mode::from_raw_mode(0o600)).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(name(&root).as_c_str(), flags, Mode::empty()).unwrap();
        Self { base, root: Root::new(directory) }
    }

    /// Opens the directory at a path, and makes it if it is missing.
    fn make_directories(&self, path: &CStr, follow: bool) -> Result<OwnedFd> {
        self.root.make(path.to_bytes(), false, follow)
    }

    /// Opens the directory of a path's last component, as operations do that make something in it.
    fn parent<'p>(&self, path: &'p CStr, follow: bool) -> Result<(OwnedFd, &'p CStr)> {
        let (above, name) = Root::split(path)?;
        Ok((self.root.make(above, false, follow)?, name))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.base.path().join("root").join(below)
    }

    /// Returns the inode of a path below the root.
    fn inode(&self, path: &str, follow: bool) -> core::result::Result<u64, Errno> {
        self.root.open(&name(path), OFlags::PATH, follow).map(|fd| fstat(&fd).unwrap().st_ino)
    }

    /// Returns the inode of a path as the host sees it.
    fn inode_of(&self, below: &str) -> u64 {
        fs::symlink_metadata(self.path(below)).unwrap().ino()
    }

    /// Lists everything outside the root with its inode; it must never change.
    fn outside(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        for directory in [self.base.path(), &self.base.path().join("outside")] {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let inode = fs::symlink_metadata(&path).unwrap().ino();
                found.push((path, inode));
            }
        }
        found.sort();
        found
    }
}

/// Without this, the other tests would pass with links that lead nowhere.
#[test]
fn the_links_lead_outside_when_followed() {
    let tree = Tree::new();
    for path in ["up/secret", "absolute/secret"] {
        assert_eq!(fs::read_to_string(tree.path(path)).unwrap(), "host");
    }
    let naive = name(tree.path("up/made"));
    mkdirat(CWD, naive.as_c_str(), Mode::from_raw_mode(0o755)).unwrap();
    assert!(tree.base.path().join("outside/made").exists());
    assert_eq!(fs::metadata(tree.path("far-up")).unwrap().ino(), fs::metadata("/").unwrap().ino());
}

#[test]
fn paths_stay_below_the_root() {
    let tree = Tree::new();
    let open = |path| tree.inode(path, true);
    let top = tree.inode_of("");
    for path in ["", "/", ".", "..", "../..", "slash", "far-up", "d/../..", "slash/../../."] {
        assert_eq!(open(path), Ok(top), "{path:?}");
    }
    for path in ["file", "/file", "../../file", "slash/file", "far-up/file", "to-file", "d/../file"]
    {
        assert_eq!(open(path), Ok(tree.inode_of("file")), "{path:?}");
    }
    for path in ["d/e", "to-d/e", "to-d-absolute/e", "chain", "d//e/", "chain/.", "empty-end/e"] {
        assert_eq!(open(path), Ok(tree.inode_of("d/e")), "{path:?}");
    }
    for path in ["up", "up/secret", "absolute", "absolute/secret", "dangling", "../outside/secret"]
    {
        assert_eq!(open(path), Err(Errno::NOENT), "{path:?}");
    }
    assert_eq!(open("loop"), Err(Errno::LOOP));
}

#[test]
fn links_are_not_followed_without_follow() {
    let tree = Tree::new();
    for path in
        ["slash", "to-d/e", "to-file", "chain", "dangling", "up/secret", "loop", "d/../to-d"]
    {
        assert_eq!(tree.inode(path, false), Err(Errno::LOOP), "{path:?}");
    }
    assert_eq!(tree.inode("d/e", false), Ok(tree.inode_of("d/e")));
    assert_eq!(tree.inode("../../d/../file", false), Ok(tree.inode_of("file")));
}

#[test]
fn a_path_below_a_file_is_not_a_directory() {
    let tree = Tree::new();
    for path in ["file/x", "fifo/x", "to-file/x", "file/", "fifo/.", "file/.."] {
        assert_eq!(tree.inode(path, true), Err(Errno::NOTDIR), "{path:?}");
        let failure = tree.make_directories(&name(path), true).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::NOTDIR), "{path:?}");
    }
    // With O_PATH, opening a pipe does not wait for its other end.
    assert_eq!(tree.inode("fifo", true), Ok(tree.inode_of("fifo")));
}

#[test]
fn magic_links_are_not_followed() {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = Root::new(rustix::fs::open(c"/proc", flags, Mode::empty()).unwrap());
    let machine = Root::current().unwrap();
    for path in ["self/root", "self/cwd", "self/exe", "self/fd/0", "self/root/etc", "self/cwd/."] {
        // Without the rule, the same path leads somewhere.
        assert!(fs::symlink_metadata(format!("/proc/{path}")).is_ok(), "{path}");
        let errno = proc.open(&name(path), OFlags::PATH, true).unwrap_err();
        assert_eq!(errno, Errno::LOOP, "{path}");
        let path = format!("proc/{path}");
        assert_eq!(machine.open(&name(&path), OFlags::PATH, true).unwrap_err(), Errno::LOOP);
    }
    // `self` is an ordinary link, and is followed.
    assert!(proc.open(c"self/status", OFlags::PATH, true).is_ok());
    assert!(machine.open(c"proc/thread-self/status", OFlags::PATH, true).is_ok());
}

#[test]
fn long_paths_and_names_are_errors() {
    let tree = Tree::new();
    let component = "n".repeat(255);
    let too_long = "n".repeat(256);
    let long = Failure::new(Call::Open, Errno::NAMETOOLONG);
    // With the slash that is put in front and the NUL, 4096 bytes: the kernel's limit.
    let longest = Vec::from_iter(std::iter::repeat_n(component.as_str(), 16)).join("/");
    let longest = longest.strip_suffix('n').unwrap();
    assert_eq!(longest.len(), 4094);
    let made = tree.make_directories(&name(longest), true).unwrap();
    assert_eq!(fstat(&made).unwrap().st_ino, tree.inode(longest, false).unwrap());
    for path in [too_long.clone(), format!("d/{too_long}"), format!("{too_long}/x")] {
        assert_eq!(tree.inode(&path, true), Err(Errno::NAMETOOLONG));
        assert_eq!(tree.make_directories(&name(&path), true).unwrap_err(), long);
    }
    let path: String = format!("{longest}/");
    assert_eq!(tree.make_directories(&name(&path), true).unwrap_err(), long);
    let path = format!("{longest}/x/y");
    assert_eq!(tree.parent(&name(&path), true).unwrap_err(), long);
    let path = "x/".repeat(100_000);
    assert_eq!(tree.make_directories(&name(&path), true).unwrap_err(), long);
}

#[test]
fn directories_are_made_below_the_root() {
    let tree = Tree::new();
    let before = tree.outside();
    let make = |path: &str| {
        let made = tree.make_directories(&name(path), true).unwrap();
        let made = fstat(&made).unwrap();
        assert_eq!(FileType::from_raw_mode(made.st_mode), FileType::Directory);
        made.st_ino
    };
    assert_eq!(make("a/b/c"), tree.inode_of("a/b/c"));
    assert_eq!(make("a/b/c"), tree.inode_of("a/b/c"), "again");
    assert_eq!(make("/x//y///z/"), tree.inode_of("x/y/z"));
    assert_eq!(make("to-d/f/g"), tree.inode_of("d/f/g"));
    assert_eq!(make("chain/h"), tree.inode_of("d/e/h"));
    assert_eq!(make("slash/i/j"), tree.inode_of("i/j"));
    assert_eq!(make("far-up/k/l"), tree.inode_of("k/l"));
    assert_eq!(make("../../m/n"), tree.inode_of("m/n"));
    assert_eq!(make("o/../p/q"), tree.inode_of("p/q"));
    assert_eq!(make("/"), tree.inode_of(""));
    let mode = fs::metadata(tree.path("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "{mode:o}");
    assert_eq!(tree.outside(), before);
}

/// A link that leads outside leads to a place inside, which is made.
#[test]
fn what_a_link_leads_to_is_made_inside() {
    let tree = Tree::new();
    let before = tree.outside();
    let base = tree.base.path().strip_prefix("/").unwrap();
    for (link, target) in [
        ("run", Path::new("/late/run")),
        ("relative", Path::new("below/relative")),
        ("d/beside", Path::new("../beside")),
        ("one", Path::new("two")),
        ("two", Path::new("d/three")),
        ("d/three", Path::new("/four")),
        ("climbs", Path::new("../../../../climbed")),
    ] {
        symlink(target, tree.path(link)).unwrap();
    }
    for (path, place) in [
        ("dangling", PathBuf::from("nowhere")),
        ("/run", "late/run".into()),
        ("run/x/y", "late/run/x/y".into()),
        ("relative/z", "below/relative/z".into()),
        ("to-d/beside/z", "beside/z".into()),
        ("one/x", "four/x".into()),
        ("climbs", "climbed".into()),
        ("up/x/y/z", "outside/x/y/z".into()),
        ("absolute/x", base.join("outside/x")),
    ] {
        let failure = tree.make_directories(&name(path), false).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP), "{path:?}");
        let made = fstat(tree.make_directories(&name(path), true).unwrap()).unwrap();
        assert_eq!(FileType::from_raw_mode(made.st_mode), FileType::Directory, "{path:?}");
        assert_eq!(made.st_ino, tree.inode_of(place.to_str().unwrap()), "{path:?}");
    }
    // The links are as they were.
    assert_eq!(fs::read_link(tree.path("run")).unwrap(), Path::new("/late/run"));
    let failure = tree.make_directories(c"loop/x", true).unwrap_err();
    assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP));
    for (path, follow) in [("to-d/new", false), ("a/../to-d/new", false)] {
        let failure = tree.make_directories(&name(path), follow).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP), "{path:?}");
    }
    assert_eq!(tree.outside(), before);
    assert!(!tree.path("d/new").exists());
}

#[test]
fn files_are_made_where_links_lead() {
    let tree = Tree::new();
    let before = tree.outside();
    symlink("../run/systemd/resolve/stub.conf", tree.path("d/resolv.conf")).unwrap();
    symlink("/nowhere/deep", tree.path("below")).unwrap();
    for (path, place) in [
        ("d/resolv.conf", "run/systemd/resolve/stub.conf"),
        ("below/x", "nowhere/deep/x"),
        ("new/file", "new/file"),
        ("up/secret", "outside/secret"),
        ("dangling/file", "nowhere/file"),
    ] {
        let made = tree.root.make(path.as_bytes(), true, true).unwrap();
        assert_eq!(fstat(&made).unwrap().st_ino, tree.inode_of(place), "{path}");
        let metadata = fs::symlink_metadata(tree.path(place)).unwrap();
        assert!(metadata.is_file() && metadata.len() == 0, "{path}");
        // Again: it exists now.
        let again = tree.root.make(path.as_bytes(), true, true).unwrap();
        assert_eq!(fstat(&again).unwrap().st_ino, metadata.ino(), "{path}");
    }
    // What exists is opened, whatever it is.
    for (path, place) in [("to-file", "file"), ("to-d", "d"), ("fifo", "fifo")] {
        let opened = tree.root.make(path.as_bytes(), true, true).unwrap();
        assert_eq!(fstat(&opened).unwrap().st_ino, tree.inode_of(place), "{path}");
    }
    assert_eq!(tree.root.make(b"loop", true, true).unwrap_err().errno, Errno::LOOP);
    assert_eq!(tree.outside(), before);
}

/// The path that a link is replaced in may become too long.
#[test]
fn a_link_that_makes_a_path_too_long_is_an_error() {
    let tree = Tree::new();
    let component = "n".repeat(255);
    let long = Vec::from_iter(std::iter::repeat_n(component.as_str(), 15)).join("/");
    symlink(&long, tree.path("long")).unwrap();
    let failure = tree.make_directories(&name(format!("long/{long}")), true).unwrap_err();
    assert_eq!(failure, Failure::new(Call::Open, Errno::NAMETOOLONG));
    assert!(tree.make_directories(c"long/x", true).is_ok());
}

#[test]
fn the_last_component_must_be_a_name() {
    let tree = Tree::new();
    let invalid = Failure::new(Call::Open, Errno::INVAL);
    for path in ["", "/", "//", ".", "..", "d/", "d/.", "d/..", "x/y/", "/.."] {
        assert_eq!(tree.parent(&name(path), true).unwrap_err(), invalid, "{path:?}");
    }
    assert!(!tree.path("x").exists(), "nothing is made for a name that cannot be");
    for (path, directory, last) in [
        ("file", "", c"file"),
        ("/file", "", c"file"),
        ("d/...", "d", c"..."),
        ("new/deep/x", "new/deep", c"x"),
        ("to-d/x", "d", c"x"),
        ("slash/../x", "", c"x"),
        // The last component is returned as it is, link or not.
        ("up", "", c"up"),
    ] {
        let path = name(path);
        let (parent, name) = tree.parent(&path, true).unwrap();
        assert_eq!(fstat(&parent).unwrap().st_ino, tree.inode_of(directory), "{path:?}");
        assert_eq!(name, last);
    }
    let failure = tree.parent(c"to-d/x", false).unwrap_err();
    assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP));
}

/// A directory becomes a link and back while paths below it are made.
#[test]
fn a_race_with_a_link_does_not_lead_outside() {
    let tree = Tree::new();
    fs::create_dir(tree.path("swap")).unwrap();
    let before = tree.outside();
    let done = AtomicBool::new(false);
    let (one, other) = (name(tree.path("swap")), name(tree.path("absolute")));
    let (exchanges, through) = thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut count = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let exchange = RenameFlags::EXCHANGE;
                renameat_with(CWD, one.as_c_str(), CWD, other.as_c_str(), exchange).unwrap();
                count += 1;
            }
            count
        });
        let mut through = 0_u32;
        for number in 0..2000 {
            let path = name(format!("swap/x{number}/y"));
            // It is made below the directory, or fails while that is a link.
            if tree.make_directories(&path, true).is_ok() {
                through += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
        (swapper.join().unwrap(), through)
    });
    assert_eq!(tree.outside(), before);
    assert!(exchanges > 100, "the other thread made {exchanges} exchanges");
    assert!(through > 0, "none was made");
}
