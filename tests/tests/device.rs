//! Device nodes, and the links that programs expect in `/dev`.

use std::fs;

use pidone::config::{Device, IdMap};
use pidone_tests::{Case, DeviceNode, Outcome, Read, Report, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(the_template_has_seven).and_unified(),
    case!(kinds_modes_and_owners),
    case!(links_lead_to_descriptors),
    case!(in_a_user_namespace_they_are_the_hosts),
    case!(in_a_user_namespace_others_have_their_owner),
    case!(those_of_the_image_are_kept),
    case!(a_multiplexer_is_always_that_of_the_terminals),
    case!(what_is_listed_can_be_used),
];

fn node<'r>(report: &'r Report, path: &str) -> Result<&'r DeviceNode, Stop> {
    Ok(report.device(path).ok_or_else(|| format!("no {path}"))?)
}

/// Type and numbers of the seed's `DefaultAutoCreatedDevices`.
const TEMPLATE: [(&str, u32, u32, u32); 7] = [
    ("/dev/null", 1, 3, 0o666),
    ("/dev/zero", 1, 5, 0o666),
    ("/dev/full", 1, 7, 0o666),
    ("/dev/random", 1, 8, 0o666),
    ("/dev/urandom", 1, 9, 0o666),
    ("/dev/tty", 5, 0, 0o666),
    ("/dev/fuse", 10, 229, 0),
];

fn the_template_has_seven(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    for (path, major, minor, mode) in TEMPLATE {
        let node = node(&report, path)?;
        assert_eq!((node.kind.as_str(), node.major, node.minor), ("c", major, minor), "{path}");
        assert_eq!((node.mode, node.uid, node.gid), (mode, 0, 0), "{path}");
    }
    let count = report.devices.iter().filter(|node| node.kind == "c").count();
    // And the multiplexer of the terminals.
    assert_eq!(count, TEMPLATE.len() + 1, "{:?}", report.devices);
    assert!(!report.devices.iter().any(|node| node.kind == "b"));
    Ok(())
}

fn kinds_modes_and_owners(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let device = |kind, path: &str, major, minor, file_mode, uid, gid| Device {
        kind,
        path: path.into(),
        major,
        minor,
        permissions: "rwm".into(),
        file_mode,
        uid,
        gid,
    };
    config.devices.extend([
        device('c', "/dev/net/tun", 10, 200, 0o600, 5, 6),
        device('b', "/dev/loop7", 7, 7, 0o640, 0, 6),
        device('p', "/dev/fifo", 0, 0, 0o777, 7, 0),
        device('c', "/dev/odd", 4095, 1_048_575, 0o4711, 0, 0),
        device('c', "/elsewhere/null", 1, 3, 0o666, 0, 0),
    ]);
    let report = sandbox.report(&config)?;
    for (path, kind, major, minor, mode, uid, gid) in [
        ("/dev/net/tun", "c", 10, 200, 0o600, 5, 6),
        ("/dev/loop7", "b", 7, 7, 0o640, 0, 6),
        ("/dev/fifo", "p", 0, 0, 0o777, 7, 0),
        ("/dev/odd", "c", 4095, 1_048_575, 0o4711, 0, 0),
    ] {
        let node = node(&report, path)?;
        assert_eq!((node.kind.as_str(), node.major, node.minor), (kind, major, minor), "{path}");
        assert_eq!((node.mode, node.uid, node.gid), (mode, uid, gid), "{path}");
    }
    let output = sandbox.guest(&config, &["open", "/elsewhere/null", "2"])?;
    assert_eq!(output.stdout.trim(), "0");
    Ok(())
}

fn links_lead_to_descriptors(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    for (path, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/core", "/proc/kcore"),
    ] {
        let node = node(&report, path)?;
        assert_eq!((node.kind.as_str(), node.target.as_deref()), ("l", Some(target)), "{path}");
    }
    let ptmx = node(&report, "/dev/pts/ptmx")?;
    assert_eq!((ptmx.major, ptmx.minor, ptmx.mode), (5, 2, 0o666));
    Ok(())
}

fn in_a_user_namespace_they_are_the_hosts(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
    config.devices.retain(|device| std::path::Path::new(&device.path).exists());
    config.devices.push(Device {
        kind: 'p',
        path: "/dev/fifo".into(),
        file_mode: 0o640,
        ..Device::default()
    });
    let report = sandbox.report(&config)?;
    for device in &config.devices {
        let node = node(&report, &device.path)?;
        assert_eq!(node.kind, device.kind.to_string(), "{}", device.path);
        assert_eq!(
            (i64::from(node.major), i64::from(node.minor)),
            (device.major, device.minor),
            "{}",
            device.path
        );
    }
    let output = sandbox.guest(
        &config,
        &["open", "/dev/null", "2", ",", "open", "/dev/zero", "0", ",", "open", "/dev/ptmx", "2"],
    )?;
    assert_eq!(output.stdout, "0\n0\n0\n");
    Ok(())
}

/// `podman run --userns auto --device /dev/fuse:/dev/other`: the node is made for the container, at
/// a path that the host lacks, with an owner whom its user namespace has.
fn in_a_user_namespace_others_have_their_owner(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 1000 }];
    config.set_id_maps(map.clone(), map);
    config.devices.retain(|device| std::path::Path::new(&device.path).exists());
    let device = |path: &str, minor, file_mode, uid| Device {
        kind: 'c',
        path: path.into(),
        major: 1,
        minor,
        permissions: "rwm".into(),
        file_mode,
        uid,
        gid: 7,
    };
    // The last owner is not mapped, so that the host's node is bound.
    let made = [device("/dev/other", 5, 0o600, 0), device("/dev/deep/null", 3, 0o4640, 999)];
    let bound = device("/dev/kmsg", 11, 0o600, 1000);
    config.devices.extend(made.clone());
    config.devices.push(bound);
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.allowed_devices.extend(made.clone());
    }
    let report = sandbox.report(&config)?;
    for device in &made {
        let node = node(&report, &device.path)?;
        assert_eq!(node.kind, "c");
        assert_eq!((i64::from(node.major), i64::from(node.minor)), (device.major, device.minor));
        assert_eq!((node.mode, node.uid, node.gid), (device.file_mode, device.uid, 7));
    }
    for path in ["/dev/kmsg", "/dev/null"] {
        assert_eq!(node(&report, path)?.uid, 65534, "{path} is the host's");
    }
    // It works, and an inode of the host has not changed hands.
    let calls = ["open", "/dev/other", "2", ",", "open", "/dev/deep/null", "2"];
    assert_eq!(sandbox.guest(&config, &calls)?.stdout, "0\n0\n");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata("/dev/zero")?), 0);
    // Another user of the container may not open it.
    let mut other = process(&["/guest", "open", "/dev/other", "2"]);
    other.user = "5:5".into();
    let output = sandbox.run(&config, other)?;
    assert_eq!(output.stdout, format!("{}\n", libc::EACCES));
    Ok(())
}

/// What the image has in the place of a device stays, as with runc.
fn those_of_the_image_are_kept(sandbox: &Sandbox) -> Outcome {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let mut config = sandbox.config();
    // No /dev of the runtime's: the image's own is used.
    config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    let dev = sandbox.rootfs().join("dev");
    let mode = Mode::from_bits_truncate(0o666);
    for minor in [3, 5] {
        mknod(&dev.join("null"), SFlag::S_IFCHR, mode, makedev(1, u64::from(minor)))?;
        let report = sandbox.report(&config)?;
        assert_eq!(node(&report, "/dev/null")?.minor, minor);
        assert_eq!(node(&report, "/dev/zero")?.minor, 5);
        fs::remove_file(dev.join("null"))?;
    }
    // Nothing of stdio goes to a file in its place.
    fs::write(dev.join("null"), "a file")?;
    config.mask_paths.push("/guest-secret".into());
    fs::write(sandbox.rootfs().join("guest-secret"), "secret")?;
    let output = sandbox.guest(&config, &["read", "/dev/null", ",", "read", "/guest-secret"])?;
    let texts: Vec<String> = output.lines::<Read>()?.into_iter().map(|read| read.text).collect();
    assert_eq!(texts, ["a file", ""]);
    assert_eq!(fs::read_to_string(dev.join("null"))?, "a file");
    Ok(())
}

fn a_multiplexer_is_always_that_of_the_terminals(sandbox: &Sandbox) -> Outcome {
    for in_user_namespace in [false, true] {
        let mut config = sandbox.config();
        if in_user_namespace {
            let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
            config.set_id_maps(map.clone(), map);
            config.devices.retain(|device| std::path::Path::new(&device.path).exists());
        }
        config.devices.push(Device {
            kind: 'c',
            path: "/dev/ptmx".into(),
            major: 5,
            minor: 2,
            file_mode: 0o666,
            ..Device::default()
        });
        let report = sandbox.report(&config)?;
        let ptmx = node(&report, "/dev/ptmx")?;
        assert_eq!((ptmx.kind.as_str(), ptmx.target.as_deref()), ("l", Some("pts/ptmx")));
    }
    Ok(())
}

fn what_is_listed_can_be_used(sandbox: &Sandbox) -> Outcome {
    let output = sandbox.guest(
        &sandbox.config(),
        &[
            "write",
            "/dev/null",
            "x",
            ",",
            "open",
            "/dev/zero",
            "2",
            ",",
            "write",
            "/dev/full",
            "x",
            ",",
            "open",
            "/dev/urandom",
            "0",
            ",",
            "open",
            "/dev/tty",
            "2",
        ],
    )?;
    // Without a terminal there is no /dev/tty.
    let expected = [0, 0, libc::ENOSPC, 0, libc::ENXIO];
    assert_eq!(output.lines::<i32>()?, expected);
    Ok(())
}
