//! Tests with malicious files, and links that lead out of the root.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
1000:x:0:0:a number for a name:/evil:/bin/sh
-1:x:0:0::/evil:/bin/sh
0x10:x:16:17::/hex:/bin/sh
alice:x:1000:100:Alice:/home/alice:/bin/sh
alice:x:0:0:second of the name:/evil:/bin/sh
short:x:0
words:x:abc:0::/evil:/bin/sh
minus:x:-5:0::/evil:/bin/sh
last:x:4294967295:0::/evil:/bin/sh
big:x:4294967296:0::/evil:/bin/sh
:x:0:0::/evil:/bin/sh
relative:x:7:7::home:/bin/sh
+::::::
";

const GROUP: &str = "\
root:x:0:root
daemon:x:1:
audio:x:29:alice,bob
sudo:x:27:bob,alice
again:x:29:alice
5:x:0:
none:x:y:alice
last:x:4294967295:alice
users:x:100:
";

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        Self(root)
    }

    fn full() -> Self {
        let root = Self::new();
        fs::write(root.etc("passwd"), PASSWD).unwrap();
        fs::write(root.etc("group"), GROUP).unwrap();
        root
    }

    fn etc(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("etc").join(name)
    }

    fn resolve(&self, spec: &str) -> Result<User> {
        resolve(spec, fs::File::open(self.0.path()).unwrap().as_fd())
    }

    fn groups(&self, names: &[&str]) -> Result<Vec<u32>> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        groups(&names, fs::File::open(self.0.path()).unwrap().as_fd())
    }
}

fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> User {
    User { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
}

#[test]
fn versions_change_with_the_files_in_the_root() {
    let root = Root::full();
    let look = || versions(fs::File::open(root.0.path()).unwrap().as_fd());
    let first = look();
    assert!(first.iter().all(Option::is_some));
    assert_eq!(look(), first);
    fs::write(root.etc("new"), "").unwrap();
    fs::rename(root.etc("new"), root.etc("passwd")).unwrap();
    let [passwd, group] = look();
    assert_ne!(passwd, first[0]);
    assert_eq!(group, first[1]);
    // Links are followed inside of the root.
    fs::rename(root.etc(""), root.0.path().join("real")).unwrap();
    symlink("/real", root.0.path().join("etc")).unwrap();
    assert_eq!(
        look().map(|file| file.map(|file| file.1)),
        [passwd, group].map(|file| file.map(|file| file.1))
    );
    fs::remove_file(root.0.path().join("real/group")).unwrap();
    symlink("/real/passwd", root.0.path().join("real/group")).unwrap();
    let [passwd, group] = look();
    assert_eq!(passwd, group);
}

#[test]
fn users_are_found_by_every_form() {
    let root = Root::full();
    for (spec, expected) in [
        ("", user(0, 0, &[0], "/root")),
        ("root", user(0, 0, &[0], "/root")),
        ("0", user(0, 0, &[0], "/root")),
        ("daemon", user(1, 1, &[], "/usr/sbin")),
        ("1", user(1, 1, &[], "/usr/sbin")),
        ("alice", user(1000, 100, &[29, 27], "/home/alice")),
        ("1000", user(1000, 100, &[29, 27], "/home/alice")),
        ("01000", user(1000, 100, &[29, 27], "/home/alice")),
        ("alice:users", user(1000, 100, &[], "/home/alice")),
        ("alice:audio", user(1000, 29, &[], "/home/alice")),
        ("alice:5", user(1000, 5, &[], "/home/alice")),
        ("1000:1", user(1000, 1, &[], "/home/alice")),
        ("4321", user(4321, 0, &[], "/")),
        ("4321:sudo", user(4321, 27, &[], "/")),
        ("4294967294:4294967294", user(4294967294, 4294967294, &[], "/")),
        ("0x10", user(16, 17, &[], "/hex")),
        ("relative", user(7, 7, &[], "/")),
    ] {
        assert_eq!(root.resolve(spec).unwrap(), expected, "{spec}");
    }
}

#[test]
fn invalid_forms_and_unknown_names_are_refused() {
    let root = Root::full();
    for spec in [
        "1:",
        ":1",
        ":",
        "1:2:3",
        "::",
        "-1",
        "+1",
        "4294967295",
        "4294967296",
        "1:4294967295",
        "1:-1",
        "18446744073709551616",
        "bob",
        "alice:nobody",
        "short",
        "words",
        "minus",
        "last",
        "big",
        " 1",
        "1 ",
        "1\0",
        "alice:none",
        "alice:last",
        "+",
    ] {
        let error = root.resolve(spec).expect_err(spec);
        assert_eq!(error.code(), Code::ConfigInvalid, "{error}");
    }
    let error = root.resolve("bob").unwrap_err();
    assert_eq!(error.to_string(), "user `bob`: no such user in etc/passwd");
}

#[test]
fn numbers_need_no_files() {
    let root = Root::new();
    assert_eq!(root.resolve("").unwrap(), user(0, 0, &[], "/"));
    assert_eq!(root.resolve("1000:5").unwrap(), user(1000, 5, &[], "/"));
    assert!(root.resolve("root").is_err());
    fs::remove_dir(root.0.path().join("etc")).unwrap();
    assert_eq!(root.resolve("1000").unwrap(), user(1000, 0, &[], "/"));
    fs::write(root.0.path().join("etc"), "").unwrap();
    assert_eq!(root.resolve("1000").unwrap(), user(1000, 0, &[], "/"));
}

#[test]
fn groups_are_names_or_numbers() {
    let root = Root::full();
    assert_eq!(root.groups(&["audio", "5", "sudo", "7"]).unwrap(), [29, 5, 27, 7]);
    for name in ["", "nobody", "-1", "4294967295", "none"] {
        assert!(root.groups(&[name]).is_err(), "{name}");
    }
    assert_eq!(Root::new().groups(&["5"]).unwrap(), [5]);
}

#[test]
fn links_stay_in_the_container() {
    let root = Root::full();
    fs::rename(root.etc("passwd"), root.0.path().join("real")).unwrap();
    for target in ["/real", "../../../../real", "../real"] {
        symlink(target, root.etc("passwd")).unwrap();
        assert_eq!(root.resolve("alice").unwrap().uid, 1000, "{target}");
        fs::remove_file(root.etc("passwd")).unwrap();
    }
    // This file exists on the host, but not in the container.
    symlink("/etc/passwd", root.etc("passwd")).unwrap();
    assert_eq!(root.resolve("alice").unwrap_err().errno(), Some(Errno::LOOP));
    fs::remove_file(root.etc("passwd")).unwrap();
    symlink("/usr/lib/os-release", root.etc("passwd")).unwrap();
    assert!(root.resolve("alice").is_err());
    assert_eq!(root.resolve("5").unwrap(), user(5, 0, &[], "/"));
}

#[test]
fn files_behind_links_are_not_found_without_them() {
    let root = Root::full();
    let directory = fs::File::open(root.0.path()).unwrap();
    let find = |spec| resolve(spec, Files::without_links(directory.as_fd()));
    assert_eq!(find("alice").unwrap().groups, [29, 27]);
    fs::rename(root.etc("group"), root.etc("other")).unwrap();
    symlink("other", root.etc("group")).unwrap();
    assert_eq!(find("alice").unwrap_err().errno(), Some(Errno::LOOP));
    // These need no group of a file.
    assert_eq!(find("alice:5").unwrap().gid, 5);
    fs::rename(root.0.path().join("etc"), root.0.path().join("any")).unwrap();
    assert_eq!(find("7").unwrap().uid, 7);
    symlink("any", root.0.path().join("etc")).unwrap();
    assert_eq!(find("7").unwrap_err().errno(), Some(Errno::LOOP));
    assert_eq!(root.resolve("alice").unwrap().groups, [29, 27]);
}

#[test]
fn magic_links_of_proc_are_not_followed() {
    let host = fs::File::open("/").unwrap();
    let open = |path| Files::below(host.as_fd()).open(path, OFlags::PATH);
    open(c"proc/self/status").unwrap();
    assert_eq!(open(c"proc/self/exe").unwrap_err(), Errno::LOOP);
}

#[test]
fn only_a_regular_file_of_limited_size_is_read() {
    let root = Root::full();
    let replace = |make: &dyn Fn(&std::path::Path)| {
        fs::remove_file(root.etc("passwd")).unwrap();
        make(&root.etc("passwd"));
        let error = root.resolve("1000").unwrap_err().to_string();
        if root.etc("passwd").is_dir() {
            fs::remove_dir(root.etc("passwd")).unwrap();
            fs::write(root.etc("passwd"), "").unwrap();
        }
        error
    };
    let fifo = |path: &std::path::Path| {
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
    };
    assert_eq!(replace(&fifo), "open `etc/passwd`: not a regular file");
    let socket = |path: &std::path::Path| {
        std::os::unix::net::UnixListener::bind(path).unwrap();
    };
    assert_eq!(replace(&socket), "open `etc/passwd`: not a regular file");
    let directory = |path: &std::path::Path| fs::create_dir(path).unwrap();
    assert_eq!(replace(&directory), "open `etc/passwd`: not a regular file");
    let huge = |path: &std::path::Path| {
        fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    };
    assert_eq!(replace(&huge), "read `etc/passwd`: larger than 8 MiB");
}

#[test]
fn invalid_lines_are_ignored() {
    let root = Root::new();
    let mut garbage = vec![0xff, 0xfe, b':', 0, b'\n', b':', b':', b'\n'];
    garbage.extend(b"latin:x:5:6:J\xe9r\xf4me:/home/latin:\r\n");
    garbage.extend(b"odd:x:7:8::/home/\xff:\n");
    garbage.extend(b"nul:x:9:10::/home/\0:");
    fs::write(root.etc("passwd"), garbage).unwrap();
    assert_eq!(root.resolve("latin").unwrap(), user(5, 6, &[], "/home/latin"));
    assert_eq!(root.resolve("odd").unwrap(), user(7, 8, &[], "/"));
    assert_eq!(root.resolve("nul").unwrap(), user(9, 10, &[], "/"));
}

#[test]
fn more_groups_than_the_kernel_accepts_are_refused() {
    let root = Root::full();
    let many: String = (0..=GROUPS_MAX).map(|gid| format!("g:x:{gid}:alice\n")).collect();
    fs::write(root.etc("group"), many).unwrap();
    assert!(root.resolve("alice").is_err());
    assert_eq!(root.resolve("alice:5").unwrap().gid, 5);
}

proptest! {
    #[test]
    fn no_line_panics(line: Vec<u8>, spec: String) {
        Account::parse(&line).map(|account| account.home());
        Entry::parse(&line).map(|entry| entry.has(b"x"));
        let _ = Id::parse(&spec);
    }
}
