//! Which mounts pass between a container and the host, and which attributes hold where.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount as host_mount, umount};
use pidone::Config;
use pidone::config::mount::flags;
use pidone::config::{IdMap, Mount};
use pidone_tests::leftover::host_mounts;
use pidone_tests::{Case, Outcome, Read, Sandbox, Stop, case, mounts_and_reads};

use crate::mount::{bind, errnos, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(root_propagation).alone(),
    case!(mounts_pass_as_a_bind_asks).alone(),
    case!(propagation_below_a_bind).alone(),
    case!(attributes_of_a_source_are_cleared).alone(),
    case!(with_an_option_a_bind_has_what_is_asked).alone(),
    case!(attributes_are_locked_in_a_user_namespace).alone(),
    case!(attributes_hold_below).alone(),
    case!(attributes_are_cleared_below).alone(),
    case!(a_device_directory_of_the_host).alone(),
];

/// A tmpfs of the host with a file and empty directories for others, shared with whoever binds it.
fn tmpfs(sandbox: &Sandbox, name: &str, flags: MsFlags) -> Result<PathBuf, Stop> {
    let at = sandbox.path().join(name);
    fs::create_dir_all(&at)?;
    host_mount(Some(name), &at, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    for directory in ["below", "later", "inside"] {
        fs::create_dir(at.join(directory))?;
    }
    fs::write(at.join("file"), name)?;
    change(&at, flags)?;
    Ok(at)
}

fn change(at: &Path, flags: MsFlags) -> Outcome {
    Ok(host_mount(None::<&str>, at, None::<&str>, flags, None::<&str>)?)
}

fn root_propagation(sandbox: &Sandbox) -> Outcome {
    let below = sandbox.path().join("volume");
    fs::create_dir(&below)?;
    for (flags, root_has, below_has) in [
        (0, None, None),
        (flags::SHARED | flags::REC, Some("shared:"), Some("shared:")),
        (flags::SHARED, Some("shared:"), None),
        (flags::UNBINDABLE, Some("unbindable"), None),
        (flags::PRIVATE | flags::REC, None, None),
    ] {
        let mut config = sandbox.config();
        config.root_propagation = flags;
        config.mounts.push(bind(&below, "/volume", 0));
        let report = sandbox.report(&config)?;
        for (point, expected) in [("/", root_has), ("/volume", below_has)] {
            let seen = report.mount(point).ok_or("no mount")?.propagation;
            let seen: Vec<&str> = seen
                .iter()
                .map(String::as_str)
                .filter(|field| !field.contains("master:"))
                .collect();
            match expected {
                Some(field) => assert!(seen.iter().any(|own| own.starts_with(field)), "{seen:?}"),
                None => assert!(seen.is_empty(), "{point} with {flags:#x}: {seen:?}"),
            }
        }
    }
    Ok(())
}

/// What passes through the bind of a shared mount of the host: a mount of the host that comes
/// later is seen inside, and one that is made inside is seen on the host.
fn mounts_pass_as_a_bind_asks(sandbox: &Sandbox) -> Outcome {
    let source = tmpfs(sandbox, "source", MsFlags::MS_SHARED)?;
    for (propagation, comes_in, goes_out) in [
        (flags::SHARED, true, true),
        (flags::SHARED | flags::REC, true, true),
        (flags::SLAVE, true, false),
        (flags::SLAVE | flags::REC, true, false),
        (flags::PRIVATE, false, false),
        (flags::PRIVATE | flags::REC, false, false),
        (0, true, false),
    ] {
        let mut config = sandbox.config();
        config.capabilities.push("SYS_ADMIN".into());
        let entry = bind(&source, "/m", flags::REC);
        config.mounts.push(Mount { propagation, ..entry });
        let waits = mounts_and_reads("/m/inside", "/m/later/file");
        let mut live = sandbox.start(&config, waits)?;
        assert_eq!(live.say::<i32>()?, 0);
        let went_out = host_mounts().iter().any(|mount| mount.point.ends_with("/source/inside"));
        assert_eq!(went_out, goes_out, "{propagation:#x}");
        let later = source.join("later");
        host_mount(Some("later"), &later, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        fs::write(later.join("file"), "later")?;
        drop(live.running.stdin.take());
        let read: Read = live.say()?;
        assert_eq!(read.errno == 0, comes_in, "{propagation:#x}: {read:?}");
        live.finish()?;
        umount(&later)?;
        if went_out {
            umount(&source.join("inside"))?;
        }
    }
    Ok(umount(&source)?)
}

/// Whether what is said of a bind holds for the mounts below its source.
fn propagation_below_a_bind(sandbox: &Sandbox) -> Outcome {
    let source = tmpfs(sandbox, "source", MsFlags::MS_SHARED)?;
    host_mount(Some("sub"), &source.join("below"), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    change(&source.join("below"), MsFlags::MS_SHARED)?;
    for (propagation, top, below) in [
        (flags::PRIVATE, None, Some("master:")),
        (flags::PRIVATE | flags::REC, None, None),
        (flags::SLAVE, Some("master:"), Some("master:")),
        (flags::SHARED | flags::REC, Some("shared:"), Some("shared:")),
        (flags::UNBINDABLE, Some("unbindable"), Some("master:")),
    ] {
        let mut config = sandbox.config();
        config.mounts.push(Mount { propagation, ..bind(&source, "/m", flags::REC) });
        let report = sandbox.report(&config)?;
        for (point, expected) in [("/m", top), ("/m/below", below)] {
            let seen = report.mount(point).ok_or("no mount")?.propagation;
            match expected {
                Some(field) => assert!(
                    seen.iter().any(|own| own.starts_with(field)),
                    "{point} with {propagation:#x}: {seen:?}"
                ),
                None => assert!(seen.is_empty(), "{point} with {propagation:#x}: {seen:?}"),
            }
        }
    }
    umount(&source.join("below"))?;
    Ok(umount(&source)?)
}

/// `rw` over a source that is mounted read-only, `exec` over `noexec`.
fn attributes_of_a_source_are_cleared(sandbox: &Sandbox) -> Outcome {
    let source = tmpfs(sandbox, "source", MsFlags::MS_PRIVATE)?;
    let all = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    change(&source, all | MsFlags::MS_NOATIME | MsFlags::MS_REMOUNT | MsFlags::MS_BIND)?;
    let mounted = |cleared: u64, set: u64| {
        let mut config = sandbox.config();
        config.mounts.push(Mount { cleared, ..bind(&source, "/m", set) });
        config
    };
    let names = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    let of = |config: &Config| -> Result<Vec<&str>, Stop> {
        let mount = sandbox.report(config)?.mount("/m").ok_or("no mount")?;
        Ok(names.into_iter().filter(|name| mount.has(name)).collect())
    };
    // As it is on the host, unless it is said otherwise.
    assert_eq!(of(&mounted(0, 0))?, names);
    assert_eq!(errnos(sandbox, &mounted(0, 0), &["open", "/m/file", "1"])?, [libc::EROFS]);
    // With an option it has nothing but what the options say, as in runc; the access time stays.
    assert_eq!(of(&mounted(flags::RDONLY, 0))?, ["noatime"]);
    assert_eq!(errnos(sandbox, &mounted(flags::RDONLY, 0), &["open", "/m/file", "1"])?, [0]);
    let most = flags::RDONLY | flags::NOSUID | flags::NODEV | flags::NOEXEC;
    assert_eq!(of(&mounted(most, 0))?, ["noatime"]);
    assert_eq!(of(&mounted(most, flags::NODEV))?, ["nodev", "noatime"]);
    assert_eq!(of(&mounted(most | flags::NOATIME, 0))?, [] as [&str; 0]);
    assert_eq!(of(&mounted(most, flags::RELATIME))?, [] as [&str; 0]);
    // The source is as it was.
    let own = host_mounts().into_iter().find(|mount| mount.point.ends_with("/source"));
    assert!(own.is_some_and(|mount| mount.has("ro") && mount.has("noexec")));
    Ok(umount(&source)?)
}

/// One option takes away the others that the source has, as in mount(8) and runc.
fn with_an_option_a_bind_has_what_is_asked(sandbox: &Sandbox) -> Outcome {
    let source = tmpfs(sandbox, "source", MsFlags::MS_PRIVATE)?;
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    change(&source, remount | MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    let mut config = sandbox.config();
    config.mounts.push(bind(&source, "/m", flags::RDONLY));
    let mount = sandbox.report(&config)?.mount("/m").ok_or("no mount")?;
    assert!(mount.has("ro") && !mount.has("nosuid") && !mount.has("nodev"), "{mount:?}");
    Ok(umount(&source)?)
}

/// In a user namespace the attributes of the source stay, and one that is to be cleared is an
/// error.
fn attributes_are_locked_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let source = tmpfs(sandbox, "source", MsFlags::MS_PRIVATE)?;
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    change(&source, remount | MsFlags::MS_RDONLY | MsFlags::MS_NODEV)?;
    // Root of the user namespace makes nothing in the image.
    fs::create_dir(sandbox.rootfs().join("m"))?;
    let mounted = |cleared: u64, set: u64| {
        let mut config = sandbox.config();
        let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
        config.set_id_maps(map.clone(), map);
        config.mounts.push(Mount { cleared, ..bind(&source, "/m", set) });
        config
    };
    for set in [0, flags::NOEXEC, flags::RDONLY] {
        let mount = sandbox.report(&mounted(0, set))?.mount("/m").ok_or("no mount")?;
        assert!(mount.has("ro") && mount.has("nodev"), "{mount:?}");
        assert_eq!(mount.has("noexec"), set == flags::NOEXEC);
    }
    for cleared in [flags::RDONLY, flags::NODEV, flags::RDONLY | flags::NODEV] {
        let error = sandbox.report(&mounted(cleared, 0)).err().ok_or("it was cleared")?;
        let text = format!("{error:?}");
        assert!(text.contains("locked in a user namespace"), "{text}");
    }
    // What the source does not have can be cleared.
    let mount = sandbox.report(&mounted(flags::NOSUID, 0))?.mount("/m").ok_or("no mount")?;
    assert!(mount.has("ro") && mount.has("nodev"), "{mount:?}");
    Ok(umount(&source)?)
}

// mount_setattr(2)
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOEXEC: u64 = 8;
const MOUNT_ATTR_NOATIME: u64 = 0x10;

/// A source with a mount below.
fn nested(sandbox: &Sandbox) -> Result<PathBuf, Stop> {
    let source = tmpfs(sandbox, "source", MsFlags::MS_PRIVATE)?;
    let below = source.join("below");
    host_mount(Some("sub"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    fs::write(below.join("file"), "sub")?;
    Ok(source)
}

/// `rro`: read-only with all that is below.
fn attributes_hold_below(sandbox: &Sandbox) -> Outcome {
    let source = nested(sandbox)?;
    let write = ["open", "/m/file", "1", ",", "open", "/m/below/file", "1"];
    let mut config = sandbox.config();
    let entry = bind(&source, "/m", flags::REC | flags::RDONLY);
    config.mounts.push(entry.clone());
    assert_eq!(errnos(sandbox, &config, &write)?, [libc::EROFS, 0], "the control");
    config.mounts.pop();
    let set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOATIME;
    config.mounts.push(Mount { recursive_set: set, ..entry });
    assert_eq!(errnos(sandbox, &config, &write)?, [libc::EROFS; 2]);
    let report = sandbox.report(&config)?;
    for point in ["/m", "/m/below"] {
        let mount = report.mount(point).ok_or("no mount")?;
        assert!(["ro", "noexec", "noatime"].iter().all(|name| mount.has(name)), "{mount:?}");
    }
    // On the host it can still be written.
    fs::write(source.join("below/file"), "x")?;
    // And of a new file system.
    config.mounts.pop();
    let entry = file_system("tmpfs", "/m", 0, "");
    config.mounts.push(Mount { recursive_set: MOUNT_ATTR_RDONLY, ..entry });
    assert_eq!(errnos(sandbox, &config, &["open", "/m/new", "0101"])?, [libc::EROFS]);
    umount(&source.join("below"))?;
    Ok(umount(&source)?)
}

/// `rrw` and `rexec` over a source that has the opposite on every level.
fn attributes_are_cleared_below(sandbox: &Sandbox) -> Outcome {
    let source = nested(sandbox)?;
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    for at in [source.join("below"), source.clone()] {
        change(&at, remount | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC)?;
    }
    let mut config = sandbox.config();
    let entry = bind(&source, "/m", flags::REC);
    let write = ["open", "/m/file", "1", ",", "open", "/m/below/file", "1"];
    let recursive_clear = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME;
    config.mounts.push(Mount { recursive_clear, ..entry });
    assert_eq!(errnos(sandbox, &config, &write)?, [0, 0]);
    let report = sandbox.report(&config)?;
    for point in ["/m", "/m/below"] {
        let mount = report.mount(point).ok_or("no mount")?;
        assert!(!mount.has("ro") && mount.has("noexec"), "{mount:?}");
    }
    umount(&source.join("below"))?;
    Ok(umount(&source)?)
}

/// A `/dev` that is bound from the host is the host's to furnish: nothing is made in it.
fn a_device_directory_of_the_host(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("devices");
    fs::create_dir(&source)?;
    fs::create_dir(source.join("pts"))?;
    fs::write(source.join("null"), "of the host")?;
    let mut config = sandbox.config();
    config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    config.mounts.push(bind(&source, "/dev", flags::REC));
    let output = sandbox.guest(&config, &["read", "/dev/null"])?;
    assert_eq!(output.lines::<Read>()?[0].text, "of the host");
    let mut names: Vec<String> = source
        .read_dir()?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    names.sort_unstable();
    assert_eq!(names, ["null", "pts"]);
    assert!(fs::symlink_metadata(source.join("null"))?.is_file());
    Ok(())
}
