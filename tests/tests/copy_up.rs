//! A tmpfs over a directory of the image: its mode, and with `tmpcopyup` its files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pidone::Config;
use pidone::config::mount::flags;
use pidone::config::{IdMap, Mount};
use pidone_tests::{Case, Outcome, Sandbox, Stop, case, process};
use rustix::fs::XattrFlags;

use crate::mount::{errnos, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(a_tmpfs_has_the_mode_that_it_covers),
    case!(a_given_mode_overrides_that_of_the_directory),
    case!(files_are_copied),
    case!(files_are_copied_in_a_user_namespace),
    case!(links_lead_nowhere_on_the_way),
    case!(a_copy_that_is_too_large_is_an_error).once(),
    case!(without_a_directory_nothing_is_copied),
];

/// The first id of the user namespace.
const FIRST: u32 = 100_000;

fn user_namespace(config: &mut Config) {
    let map = vec![IdMap { container_id: 0, host_id: FIRST, size: 65536 }];
    config.set_id_maps(map.clone(), map);
}

fn copied(data: &str) -> Mount {
    Mount { copy_up: true, ..file_system("tmpfs", "/data", 0, data) }
}

/// What a tree is, a line for each file: seen through the root of a process that stays.
fn tree(directory: &Path, first_id: u32) -> Result<Vec<String>, Stop> {
    let mut lines = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata()?;
        let name = path.strip_prefix(directory)?.display().to_string();
        let mut line = format!(
            "{name} mode {:o} owner {}:{} device {:x}",
            metadata.mode(),
            metadata.uid() - first_id,
            metadata.gid() - first_id,
            metadata.rdev(),
        );
        if metadata.is_symlink() {
            line += &format!(" -> {}", path.read_link()?.display());
        }
        line += &format!(" modified {}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        if metadata.is_file() {
            let content = fs::read(&path)?;
            let sum: u64 = content.iter().map(|&byte| u64::from(byte)).sum();
            line += &format!(" {} bytes, sum {sum}", content.len());
        }
        if metadata.is_file() || metadata.is_dir() {
            let mut value = [0; 64];
            let length = rustix::fs::getxattr(&path, "trusted.test", &mut value).unwrap_or(0);
            line += &format!(" attribute {:?}", String::from_utf8_lossy(&value[..length]));
        }
        if metadata.is_dir() {
            for entry in path.read_dir()? {
                left.push(entry?.path());
            }
        }
        lines.push(line);
    }
    lines.sort_unstable();
    Ok(lines)
}

/// Files of every kind, with owners from `first` on.
fn furnish(directory: &Path, first: u32) -> Outcome {
    let deep = directory.join("a/b/c/d");
    fs::create_dir_all(&deep)?;
    fs::write(directory.join("empty"), "")?;
    fs::write(directory.join("large"), vec![7; 3_000_000])?;
    fs::write(deep.join("file"), "deep")?;
    symlink("/etc/passwd", directory.join("absolute"))?;
    symlink("a/b/nowhere", directory.join("dangling"))?;
    mknod(&directory.join("pipe"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0)?;
    fs::hard_link(deep.join("file"), directory.join("hard"))?;
    let name = "n".repeat(255);
    fs::write(directory.join(&name), "a long name")?;
    let owned = [
        ("", 0o1751, 3, 4),
        ("a", 0o2775, 5, 6),
        ("a/b/c/d/file", 0o4755, 7, 8),
        ("a/b/c", 0o500, 0, 0),
        ("large", 0o0, 9, 10),
        ("pipe", 0o640, 11, 12),
    ];
    for (path, mode, uid, gid) in owned {
        let path = directory.join(path);
        lchown(&path, Some(first + uid), Some(first + gid))?;
        // Behind the owner, whose change takes these bits away.
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for path in ["absolute", "dangling", "empty", "hard", "a/b", "a/b/c", "a/b/c/d", &name] {
        let path = directory.join(path);
        let owner = path.symlink_metadata()?.uid();
        if owner < first {
            lchown(&path, Some(first), Some(first))?;
        }
    }
    // The first one is root's own.
    let file = deep.join("file");
    lchown(&file, Some(first + 7), Some(first + 8))?;
    fs::set_permissions(&file, Permissions::from_mode(0o4755))?;
    let old = fs::FileTimes::new()
        .set_accessed(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000))
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000));
    for path in ["large", "a/b", "a"] {
        fs::File::open(directory.join(path))?.set_times(old)?;
    }
    for path in ["absolute", "pipe"] {
        let time = rustix::fs::Timespec { tv_sec: 3_000_000, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, directory.join(path), &times, nofollow)?;
    }
    Ok(())
}

fn is_copied(sandbox: &Sandbox, config: &mut Config, first: u32, attributes: bool) -> Outcome {
    let data = sandbox.rootfs().join("data");
    fs::create_dir_all(&data)?;
    furnish(&data, first)?;
    if attributes {
        for path in ["large", "a/b"] {
            rustix::fs::setxattr(data.join(path), "trusted.test", b"value", XattrFlags::empty())?;
        }
    }
    let before = tree(&data, first)?;
    assert!(before.len() > 12, "{before:#?}");
    config.mounts.push(copied(""));
    let mut live = sandbox.start(config, process(&["/guest", "report", ",", "sleep"]))?;
    let report: pidone_tests::Report = live.say()?;
    assert_eq!(report.mount("/data").ok_or("no mount")?.fstype, "tmpfs");
    let inside = format!("/proc/{}/root/data", live.running.pid());
    let seen = tree(Path::new(&inside), first)?;
    assert_eq!(seen, before);
    // The image keeps its own.
    fs::write(format!("{inside}/empty"), "changed")?;
    assert_eq!(fs::read(data.join("empty"))?, b"");
    live.kill()?;
    Ok(())
}

fn files_are_copied(sandbox: &Sandbox) -> Outcome {
    let data = sandbox.rootfs().join("data");
    fs::create_dir_all(&data)?;
    let kind = SFlag::S_IFCHR;
    mknod(&data.join("null"), kind, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
    is_copied(sandbox, &mut sandbox.config(), 0, true)
}

fn files_are_copied_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    user_namespace(&mut config);
    is_copied(sandbox, &mut config, FIRST, false)
}

/// The mode that is seen at a path from inside.
fn modes(sandbox: &Sandbox, config: &Config, path: &str) -> Result<u32, Stop> {
    let live = sandbox.start(config, process(&["/guest", "sleep"]))?;
    let mode = fs::metadata(format!("/proc/{}/root{path}", live.running.pid()))?.mode();
    live.kill()?;
    Ok(mode & 0o7777)
}

fn a_tmpfs_has_the_mode_that_it_covers(sandbox: &Sandbox) -> Outcome {
    let place = sandbox.rootfs().join("place");
    fs::create_dir(&place)?;
    for in_user_namespace in [false, true] {
        for mode in [0o1777, 0o755, 0o700, 0o2750, 0o555] {
            fs::set_permissions(&place, Permissions::from_mode(mode))?;
            let mut config = sandbox.config();
            if in_user_namespace {
                user_namespace(&mut config);
                // Its root must be allowed to look.
                lchown(&place, Some(FIRST), Some(FIRST))?;
                fs::set_permissions(&place, Permissions::from_mode(mode))?;
            }
            config.mounts.push(file_system("tmpfs", "/place", 0, "size=64k"));
            assert_eq!(modes(sandbox, &config, "/place")?, mode, "{in_user_namespace}");
        }
    }
    Ok(())
}

fn a_given_mode_overrides_that_of_the_directory(sandbox: &Sandbox) -> Outcome {
    let place = sandbox.rootfs().join("place");
    fs::create_dir(&place)?;
    fs::set_permissions(&place, Permissions::from_mode(0o700))?;
    let mut config = sandbox.config();
    config.mounts.push(file_system("tmpfs", "/place", 0, "mode=1711,size=64k"));
    assert_eq!(modes(sandbox, &config, "/place")?, 0o1711);
    // Also where nothing can be written.
    fs::set_permissions(&place, Permissions::from_mode(0o1770))?;
    config.mounts.pop();
    config.mounts.push(file_system("tmpfs", "/place", flags::RDONLY, "size=64k"));
    assert_eq!(modes(sandbox, &config, "/place")?, 0o1770);
    assert_eq!(errnos(sandbox, &config, &["open", "/place/new", "0101"])?, [libc::EROFS]);
    // Where there was nothing it is the kernel's own.
    config.mounts.push(file_system("tmpfs", "/new/place", 0, "size=64k"));
    assert_eq!(modes(sandbox, &config, "/new/place")? & 0o755, 0o755);
    Ok(())
}

/// A link in the image that leads out of it is copied, and never followed.
fn links_lead_nowhere_on_the_way(sandbox: &Sandbox) -> Outcome {
    let secret = sandbox.path().join("secret");
    fs::create_dir(&secret)?;
    fs::write(secret.join("file"), "of the host")?;
    let data = sandbox.rootfs().join("data");
    fs::create_dir(&data)?;
    symlink(&secret, data.join("out"))?;
    symlink("../../../../../..", data.join("up"))?;
    let mut config = sandbox.config();
    config.mounts.push(copied(""));
    let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let inside = format!("/proc/{}/root/data", live.running.pid());
    assert_eq!(fs::read_link(format!("{inside}/out"))?, secret);
    assert!(fs::symlink_metadata(format!("{inside}/up"))?.is_symlink());
    live.kill()?;
    // The directory itself as a link out of the root.
    fs::remove_dir_all(&data)?;
    symlink(&secret, &data)?;
    let output = sandbox.guest(&config, &["open", "/data/file", "0"])?;
    assert_eq!(output.lines::<i32>()?, [libc::ENOENT], "the host's directory was copied");
    Ok(())
}

fn a_copy_that_is_too_large_is_an_error(sandbox: &Sandbox) -> Outcome {
    let data = sandbox.rootfs().join("data");
    fs::create_dir(&data)?;
    fs::write(data.join("large"), vec![1; 300_000])?;
    let mut config = sandbox.config();
    config.mounts.push(copied("size=64k"));
    let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("started")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOSPC), "{error}");
    assert!(error.to_string().contains("/data"), "{error}");
    Ok(())
}

fn without_a_directory_nothing_is_copied(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.push(copied("size=64k"));
    let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let inside = format!("/proc/{}/root/data", live.running.pid());
    assert_eq!(fs::read_dir(&inside)?.count(), 0);
    live.kill()?;
    Ok(())
}
