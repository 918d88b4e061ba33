//! Mounts: kinds, flags, propagation, and what they do to those inside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount as host_mount};
use pidone::Config;
use pidone::config::mount::flags;
use pidone::config::{Command, Mount, NamespaceType};
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, Stop, case, mounts_and_reads, process};

pub(crate) const CASES: &[Case] = &[
    case!(the_template_has_seven).and_unified(),
    case!(each_flag_of_a_bind_is_seen_and_works),
    case!(each_flag_of_a_file_system_is_seen),
    case!(a_remount_changes_the_flags_of_a_mount),
    case!(a_file_is_bound),
    case!(a_missing_source_is_refused),
    case!(a_missing_destination_is_made),
    case!(binds_are_recursive_if_asked).alone(),
    case!(changes_of_the_host_come_in_unless_private).alone(),
    case!(propagation_is_as_asked).alone(),
    case!(options_reach_the_file_system),
    case!(commands_run_around_a_mount),
    case!(a_command_that_fails_ends_the_start),
    case!(a_thousand).once(),
    case!(many_mounts_in_a_joined_namespace).once(),
];

/// A bind mount of a path of the host.
pub(crate) fn bind(source: &Path, destination: &str, flags: u64) -> Mount {
    Mount {
        source: source.display().to_string(),
        destination: destination.into(),
        device: "bind".into(),
        flags: flags | flags::BIND,
        ..Mount::default()
    }
}

/// A new file system.
pub(crate) fn file_system(fstype: &str, destination: &str, flags: u64, data: &str) -> Mount {
    Mount {
        source: fstype.into(),
        destination: destination.into(),
        device: fstype.into(),
        flags,
        data: data.into(),
        ..Mount::default()
    }
}

/// What the guest prints for commands that answer with an errno.
pub(crate) fn errnos(
    sandbox: &Sandbox,
    config: &Config,
    commands: &[&str],
) -> Result<Vec<i32>, Stop> {
    sandbox.guest(config, commands)?.lines()
}

fn the_template_has_seven(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    let seen = |point: &str| report.mount(point).ok_or(format!("no {point}"));
    for (point, fstype, options) in [
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let mount = seen(point)?;
        assert_eq!(mount.fstype, fstype, "{point}");
        for option in options {
            assert!(mount.has(option), "{point}: {option} of {:?}", mount.options);
        }
    }
    assert!(!seen("/dev")?.has("relatime") && !seen("/dev")?.has("noatime"));
    assert!(seen("/dev/pts")?.super_has("ptmxmode=666") && seen("/dev/pts")?.super_has("gid=5"));
    assert!(seen("/dev/shm")?.super_has("size=65536k"));
    // No mount of the host is left, above the root or below.
    let points: Vec<String> = report.mounts().into_iter().map(|mount| mount.point).collect();
    assert_eq!(points.iter().filter(|point| *point == "/").count(), 1, "{points:?}");
    let inside = ["/", "/proc", "/dev", "/sys"];
    let stray = |point: &&String| {
        !inside
            .iter()
            .any(|own| *point == own || point.starts_with(&format!("{own}/")) && *own != "/")
    };
    assert_eq!(points.iter().find(stray), None, "{points:?}");
    Ok(())
}

fn each_flag_of_a_bind_is_seen_and_works(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    fs::create_dir(&source)?;
    pidone_tests::install(pidone_tests::GUEST, source.join("guest"))?;
    fs::write(source.join("file"), "x")?;
    symlink("file", source.join("link"))?;
    nix::sys::stat::mknod(
        &source.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )?;
    let execve = libc::SYS_execve.to_string();
    // open(2): O_RDWR is 2.
    let write = ["open", "/m/file", "2"];
    let device = ["open", "/m/null", "2"];
    let link = ["open", "/m/link", "0"];
    let execute = ["syscall", &execve, "@/m/guest", "0", "0"];
    let attempts: [(u64, &str, &[&str], i32); 4] = [
        (flags::RDONLY, "ro", &write, libc::EROFS),
        (flags::NODEV, "nodev", &device, libc::EACCES),
        (flags::NOEXEC, "noexec", &execute, libc::EACCES),
        (flags::NOSYMFOLLOW, "nosymfollow", &link, libc::ELOOP),
    ];
    for (flag, option, attempt, errno) in attempts {
        let mut config = sandbox.config();
        config.mounts.push(bind(&source, "/m", flag));
        let output = sandbox.guest(&config, &[&["report", ","], attempt].concat())?;
        let (report, result) = output.stdout.split_once('\n').ok_or("no report")?;
        let report: Report = serde_json::from_str(report)?;
        assert!(report.mount("/m").ok_or("no mount")?.has(option), "{option}");
        assert_eq!(result.trim(), errno.to_string(), "{option}");
        // The same without the flag works; a program that was executed prints a report.
        config.mounts.pop();
        config.mounts.push(bind(&source, "/m", 0));
        let output = sandbox.guest(&config, attempt)?;
        let worked = output.stdout.trim() == "0" || output.stdout.starts_with("{\"args\"");
        assert!(worked, "{option}: {}", output.stdout);
    }
    for (flag, option) in [
        (flags::NOSUID, "nosuid"),
        (flags::NOATIME, "noatime"),
        (flags::NODIRATIME, "nodiratime"),
        (flags::RELATIME, "relatime"),
    ] {
        let mut config = sandbox.config();
        config.mounts.push(bind(&source, "/m", flag));
        let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
        assert!(mount.has(option), "{option} of {:?}", mount.options);
    }
    let mut config = sandbox.config();
    config.mounts.push(bind(&source, "/m", flags::STRICTATIME));
    let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
    assert!(!mount.has("relatime") && !mount.has("noatime"), "{:?}", mount.options);
    // All at once.
    let all = flags::RDONLY | flags::NOSUID | flags::NODEV | flags::NOEXEC | flags::NOATIME;
    config.mounts.push(bind(&source, "/m", all));
    let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(mount.has(option), "{option} of {:?}", mount.options);
    }
    Ok(())
}

fn each_flag_of_a_file_system_is_seen(sandbox: &Sandbox) -> Outcome {
    for (flag, option) in [
        (flags::RDONLY, "ro"),
        (flags::NOSUID, "nosuid"),
        (flags::NODEV, "nodev"),
        (flags::NOEXEC, "noexec"),
        (flags::NOATIME, "noatime"),
        (flags::NODIRATIME, "nodiratime"),
        (flags::NOSYMFOLLOW, "nosymfollow"),
    ] {
        let mut config = sandbox.config();
        config.mounts.push(file_system("tmpfs", "/m", flag, "size=64k"));
        let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
        assert!(mount.has(option), "{option} of {:?}", mount.options);
    }
    for (flag, option) in
        [(flags::SYNCHRONOUS, "sync"), (flags::DIRSYNC, "dirsync"), (flags::LAZYTIME, "lazytime")]
    {
        let mut config = sandbox.config();
        config.mounts.push(file_system("tmpfs", "/m", flag, ""));
        let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
        assert!(mount.super_has(option), "{option} of {:?}", mount.super_options);
    }
    Ok(())
}

fn a_remount_changes_the_flags_of_a_mount(sandbox: &Sandbox) -> Outcome {
    let remount = |at: &str, flags: u64, cleared: u64| Mount {
        destination: at.into(),
        device: "none".into(),
        flags: flags | flags::REMOUNT,
        cleared,
        ..Mount::default()
    };
    let mut config = sandbox.config();
    config.mounts.push(file_system("tmpfs", "/m", flags::NOEXEC, "size=64k"));
    config.mounts.push(remount("/m", flags::RDONLY | flags::NOSUID, flags::NOEXEC));
    let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
    assert!(mount.has("ro") && mount.has("nosuid"), "{:?}", mount.options);
    assert!(!mount.has("noexec"), "{:?}", mount.options);
    // There must be something to change.
    config.mounts.push(remount("/etc", flags::RDONLY, 0));
    let error = sandbox.report(&config).err().ok_or("nothing was mounted there")?;
    let text = format!("{error:?}");
    assert!(text.contains("remount: mount_setattr `/etc`"), "{text}");
    Ok(())
}

fn a_file_is_bound(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("file");
    fs::write(&source, "of the host")?;
    let mut config = sandbox.config();
    config.mounts.push(bind(&source, "/etc/name", flags::RDONLY));
    let output = sandbox.guest(&config, &["read", "/etc/name"])?;
    assert_eq!(output.lines::<Read>()?[0].text, "of the host");
    assert_eq!(errnos(sandbox, &config, &["open", "/etc/name", "1"])?, [libc::EROFS]);
    Ok(())
}

fn a_missing_source_is_refused(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.push(bind(&sandbox.path().join("missing"), "/m", 0));
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    assert!(!sandbox.path().join("missing").exists());
    assert!(!sandbox.rootfs().join("m").exists(), "made before the source was opened");
    Ok(())
}

fn a_missing_destination_is_made(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "x")?;
    for destination in ["/a/b/c", "a2/b", "/../../a3", "/x/./y/../a4//b/"] {
        let mut config = sandbox.config();
        config.mounts.push(bind(&source, destination, 0));
        let report = sandbox.report(&config)?;
        let clean = match destination {
            "a2/b" => "/a2/b",
            "/../../a3" => "/a3",
            "/x/./y/../a4//b/" => "/x/a4/b",
            other => other,
        };
        assert!(report.mount(clean).is_some(), "{destination}");
    }
    Ok(())
}

/// Mounts a tmpfs on the host's side, with a file `name` that holds the name.
fn host_tmpfs(at: &Path, name: &str) -> Outcome {
    fs::create_dir_all(at)?;
    host_mount(Some(name), at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok(fs::write(at.join("name"), name)?)
}

fn change_propagation(at: &Path, flags: MsFlags) -> Outcome {
    Ok(host_mount(None::<&str>, at, None::<&str>, flags, None::<&str>)?)
}

fn binds_are_recursive_if_asked(sandbox: &Sandbox) -> Outcome {
    let outer = sandbox.path().join("outer");
    host_tmpfs(&outer, "outer")?;
    host_tmpfs(&outer.join("inner"), "inner")?;
    for (flag, errno) in [(flags::REC, 0), (0, libc::ENOENT)] {
        let mut config = sandbox.config();
        config.mounts.push(bind(&outer, "/m", flag));
        assert_eq!(errnos(sandbox, &config, &["open", "/m/name", "0"])?, [0]);
        assert_eq!(errnos(sandbox, &config, &["open", "/m/inner/name", "0"])?, [errno]);
    }
    // Read-only is the mount that is asked for, and not those below: mount(8), `bind`.
    let mut config = sandbox.config();
    config.mounts.push(bind(&outer, "/m", flags::REC | flags::RDONLY));
    assert_eq!(
        errnos(sandbox, &config, &["open", "/m/name", "1", ",", "open", "/m/inner/name", "1"])?,
        [libc::EROFS, 0]
    );
    nix::mount::umount(&outer.join("inner"))?;
    Ok(nix::mount::umount(&outer)?)
}

/// A mount of the host that appears later comes in where the root is slave, and none goes out.
fn changes_of_the_host_come_in_unless_private(sandbox: &Sandbox) -> Outcome {
    let shared = sandbox.path().join("shared");
    host_tmpfs(&shared, "shared")?;
    change_propagation(&shared, MsFlags::MS_SHARED)?;
    fs::create_dir(shared.join("later"))?;
    fs::create_dir(shared.join("inside"))?;
    for private in [false, true] {
        let mut config = sandbox.config();
        config.privatefs = private;
        config.capabilities.push("SYS_ADMIN".into());
        config.mounts.push(bind(&shared, "/m", flags::REC));
        let waits = mounts_and_reads("/m/inside", "/m/later/name");
        let mut live = sandbox.start(&config, waits)?;
        assert_eq!(live.say::<i32>()?, 0);
        let seen = pidone_tests::leftover::host_mounts();
        assert!(!seen.iter().any(|mount| mount.point.ends_with("/shared/inside")));
        host_tmpfs(&shared.join("later"), "later")?;
        drop(live.running.stdin.take());
        let read: Read = live.say()?;
        assert_eq!(read.errno == 0, !private, "{read:?}");
        live.finish()?;
        nix::mount::umount(&shared.join("later"))?;
    }
    Ok(nix::mount::umount(&shared)?)
}

fn propagation_is_as_asked(sandbox: &Sandbox) -> Outcome {
    let shared = sandbox.path().join("shared");
    host_tmpfs(&shared, "shared")?;
    change_propagation(&shared, MsFlags::MS_SHARED)?;
    for (flag, field) in [
        (0, Some("master:")),
        (flags::SLAVE, Some("master:")),
        (flags::SHARED, Some("shared:")),
        (flags::UNBINDABLE, Some("unbindable")),
        (flags::PRIVATE, None),
    ] {
        let mut config = sandbox.config();
        config.mounts.push(bind(&shared, "/m", flag));
        config.mounts.push(file_system("tmpfs", "/t", flag, ""));
        let report = sandbox.report(&config)?;
        let seen = report.mount("/m").ok_or("no mount")?.propagation;
        match field {
            Some(field) => assert!(seen.iter().any(|own| own.starts_with(field)), "{seen:?}"),
            None => assert_eq!(seen, [] as [String; 0]),
        }
        let seen = report.mount("/t").ok_or("no mount")?.propagation;
        let expected = field.filter(|field| *field != "master:");
        match expected {
            Some(field) => assert!(seen.iter().any(|own| own.starts_with(field)), "{seen:?}"),
            None => assert_eq!(seen, [] as [String; 0]),
        }
    }
    Ok(nix::mount::umount(&shared)?)
}

fn options_reach_the_file_system(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.push(file_system(
        "tmpfs",
        "/m",
        0,
        "size=128k,mode=1711,nr_inodes=9,uid=7,gid=8",
    ));
    config.mounts.push(file_system("ramfs", "/r", 0, "mode=0700"));
    let report = sandbox.report(&config)?;
    let mount = report.mount("/m").ok_or("no mount")?;
    for option in ["size=128k", "mode=1711", "nr_inodes=9", "uid=7", "gid=8"] {
        assert!(mount.super_has(option), "{option} of {:?}", mount.super_options);
    }
    assert_eq!(report.mount("/r").ok_or("no mount")?.fstype, "ramfs");
    let mut config = sandbox.config();
    config.mounts.push(file_system("tmpfs", "/m", 0, "no_such_option=1"));
    let error = sandbox.start(&config, process(&["/guest"])).err().ok_or("accepted")?;
    assert_eq!(error.errno().map(|errno| errno.raw_os_error()), Some(libc::EINVAL));
    Ok(())
}

/// The seed's `MountCmds`: the commands are programs of the host that see the container's mounts.
fn commands_run_around_a_mount(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    fs::create_dir(&source)?;
    let touch = |name: &str| Command {
        path: "touch".into(),
        args: vec![source.join(name).display().to_string()],
        env: Some(vec!["PATH=/usr/bin:/bin".into()]),
        ..Command::default()
    };
    let copy = |name: &str| Command {
        path: "cp".into(),
        args: vec![
            sandbox.rootfs().join("tmp").join(name).display().to_string(),
            format!("{name}-backup"),
        ],
        env: Some(vec!["PATH=/usr/bin:/bin".into()]),
        dir: sandbox.rootfs().join("tmp").display().to_string(),
    };
    let mut config = sandbox.config();
    config.mounts.push(Mount {
        premount_cmds: vec![touch("hello"), touch("world")],
        postmount_cmds: vec![copy("hello"), copy("world")],
        ..bind(&source, "/tmp", 0)
    });
    let output = sandbox.guest(
        &config,
        &["open", "/tmp/hello-backup", "0", ",", "open", "/tmp/world-backup", "0"],
    )?;
    assert_eq!(output.stdout, "0\n0\n");
    assert!(source.join("hello-backup").exists() && source.join("world-backup").exists());
    assert!(!sandbox.rootfs().join("tmp/hello-backup").exists(), "the mount was not there");
    Ok(())
}

fn a_command_that_fails_ends_the_start(sandbox: &Sandbox) -> Outcome {
    for path in ["false", "/nonexistent/command"] {
        let command = Command { path: path.into(), ..Command::default() };
        let mut config = sandbox.config();
        let mount = file_system("tmpfs", "/m", 0, "");
        config.mounts.push(Mount { premount_cmds: vec![command.clone()], ..mount.clone() });
        assert!(sandbox.start(&config, process(&["/guest"])).is_err(), "{path}");
        config.mounts.pop();
        config.mounts.push(Mount { postmount_cmds: vec![command], ..mount });
        assert!(sandbox.start(&config, process(&["/guest"])).is_err(), "{path}");
    }
    Ok(())
}

fn a_thousand(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    fs::create_dir(&source)?;
    let mut config = sandbox.config();
    let before = sandbox.report(&config)?.mounts().len();
    for index in 0..500 {
        config.mounts.push(bind(&source, &format!("/m/{index}"), flags::RDONLY));
        config.mounts.push(file_system("tmpfs", &format!("/t/{index}"), 0, "size=4k"));
    }
    let report = sandbox.report(&config)?;
    assert_eq!(report.mounts().len(), before + 1000);
    Ok(())
}

/// More than one message of descriptors, with an init that waits between them for its fork.
fn many_mounts_in_a_joined_namespace(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    fs::create_dir(&source)?;
    let mut config = sandbox.config();
    config.set_namespace(NamespaceType::Ipc, format!("/proc/{}/ns/ipc", std::process::id()));
    let before = sandbox.report(&config)?.mounts().len();
    for index in 0..600 {
        config.mounts.push(bind(&source, &format!("/m/{index}"), flags::RDONLY));
    }
    assert_eq!(sandbox.report(&config)?.mounts().len(), before + 600);
    Ok(())
}
