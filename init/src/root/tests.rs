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
        let failure = tree.root.make_directories(&name(path), true).unwrap_err();
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
    // 16 components of 255 bytes and their slashes: 4096 bytes with the NUL, the kernel's limit.
    let longest = Vec::from_iter(std::iter::repeat_n(component.as_str(), 16)).join("/");
    assert_eq!(longest.len(), 4095);
    let made = tree.root.make_directories(&name(&longest), true).unwrap();
    assert_eq!(fstat(&made).unwrap().st_ino, tree.inode(&longest, false).unwrap());
    for path in [too_long.clone(), format!("d/{too_long}"), format!("{too_long}/x")] {
        assert_eq!(tree.inode(&path, true), Err(Errno::NAMETOOLONG));
        assert_eq!(tree.root.make_directories(&name(&path), true).unwrap_err(), long);
    }
    let path: String = format!("{longest}/");
    assert_eq!(tree.root.make_directories(&name(&path), true).unwrap_err(), long);
    let path = format!("{longest}/x/y");
    assert_eq!(tree.root.parent(&name(&path), true).unwrap_err(), long);
    let path = "x/".repeat(100_000);
    assert_eq!(tree.root.make_directories(&name(&path), true).unwrap_err(), long);
}

#[test]
fn directories_are_made_below_the_root() {
    let tree = Tree::new();
    let before = tree.outside();
    let make = |path: &str| {
        let made = tree.root.make_directories(&name(path), true).unwrap();
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

#[test]
fn nothing_is_made_through_a_link_that_leads_outside() {
    let tree = Tree::new();
    let before = tree.outside();
    for path in ["up/x", "absolute/x", "dangling/x", "up", "absolute", "dangling", "up/x/y/z"] {
        let failure = tree.root.make_directories(&name(path), true).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::NOENT), "{path:?}");
        let failure = tree.root.make_directories(&name(path), false).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP), "{path:?}");
    }
    let failure = tree.root.make_directories(c"loop/x", true).unwrap_err();
    assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP));
    for (path, follow) in [("to-d/new", false), ("a/../to-d/new", false)] {
        let failure = tree.root.make_directories(&name(path), follow).unwrap_err();
        assert_eq!(failure, Failure::new(Call::Open, Errno::LOOP), "{path:?}");
    }
    assert_eq!(tree.outside(), before);
    assert!(!tree.path("nowhere").exists());
    assert!(!tree.path("d/new").exists());
}

#[test]
fn the_last_component_must_be_a_name() {
    let tree = Tree::new();
    let invalid = Failure::new(Call::Open, Errno::INVAL);
    for path in ["", "/", "//", ".", "..", "d/", "d/.", "d/..", "x/y/", "/.."] {
        assert_eq!(tree.root.parent(&name(path), true).unwrap_err(), invalid, "{path:?}");
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
        let (parent, name) = tree.root.parent(&path, true).unwrap();
        assert_eq!(fstat(&parent).unwrap().st_ino, tree.inode_of(directory), "{path:?}");
        assert_eq!(name, last);
    }
    let failure = tree.root.parent(c"up/x", true).unwrap_err();
    assert_eq!(failure, Failure::new(Call::Open, Errno::NOENT));
    let failure = tree.root.parent(c"to-d/x", false).unwrap_err();
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
            if tree.root.make_directories(&path, true).is_ok() {
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
