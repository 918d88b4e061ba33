//! Mounts and paths that become read-only or hidden after everything in them is made.

use std::fs;

use pidone::TerminalSize;
use pidone::config::mount::flags;
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, case, process};

use crate::mount::{bind, errnos, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(a_read_only_dev).and_init(),
    case!(a_console_on_a_read_only_dev),
    case!(mounts_below_a_read_only_tmpfs),
    case!(protected_paths_may_be_relative_and_repeated),
    case!(a_tmpfs_on_sys),
];

fn a_read_only_dev(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    for mount in config.mounts.iter_mut().filter(|mount| mount.destination == "/dev") {
        mount.flags |= flags::RDONLY;
    }
    let report = sandbox.report(&config)?;
    assert!(report.mount("/dev").ok_or("no /dev")?.has("ro"));
    assert!(!report.mount("/dev/shm").ok_or("no /dev/shm")?.has("ro"));
    assert!(report.device("/dev/null").is_some() && report.device("/dev/ptmx").is_some());
    let commands =
        ["write", "/dev/new", "x", ",", "write", "/dev/null", "x", ",", "write", "/dev/shm/x", "x"];
    assert_eq!(errnos(sandbox, &config, &commands)?, [libc::EROFS, 0, 0]);
    Ok(())
}

fn a_console_on_a_read_only_dev(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    for mount in config.mounts.iter_mut().filter(|mount| mount.destination == "/dev") {
        mount.flags |= flags::RDONLY;
    }
    let mut asked = process(&["/guest", "exit", "7"]);
    asked.terminal = Some(TerminalSize::default());
    assert_eq!(sandbox.start(&config, asked)?.finish()?.exit.code, Some(7));
    Ok(())
}

fn mounts_below_a_read_only_tmpfs(sandbox: &Sandbox) -> Outcome {
    let file = sandbox.path().join("file");
    fs::write(&file, "of the host")?;
    for data in ["", "mode=755"] {
        let mut config = sandbox.config();
        config.mounts.push(file_system("tmpfs", "/m", flags::RDONLY | flags::NODEV, data));
        config.mounts.push(file_system("tmpfs", "/m/below", 0, data));
        config.mounts.push(bind(&file, "/m/deep/file", 0));
        let output = sandbox.guest(
            &config,
            &[
                "write",
                "/m/new",
                "x",
                ",",
                "write",
                "/m/below/new",
                "x",
                ",",
                "read",
                "/m/deep/file",
                ",",
                "report",
            ],
        )?;
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines[..2], [libc::EROFS.to_string(), "0".to_owned()]);
        assert_eq!(serde_json::from_str::<Read>(lines[2])?.text, "of the host");
        let report: Report = serde_json::from_str(lines[3])?;
        let mount = report.mount("/m").ok_or("no mount")?;
        assert!(mount.has("ro") && mount.has("nodev"), "{mount:?}");
        // What covers it later is not what was asked to be read-only.
        config.mounts.push(file_system("tmpfs", "/m/", 0, data));
        assert_eq!(errnos(sandbox, &config, &["write", "/m/new", "x"])?, [0]);
    }
    Ok(())
}

fn protected_paths_may_be_relative_and_repeated(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    for directory in ["kept", "hidden"] {
        fs::create_dir(root.join(directory))?;
        fs::write(root.join(directory).join("file"), "secret")?;
    }
    fs::write(root.join("secret"), "secret")?;
    let mut config = sandbox.config();
    let masks = ["hidden", "/hidden", "/hidden/", "secret", "/secret", "./secret"];
    config.mask_paths.extend(masks.map(str::to_owned));
    config.readonly_paths.extend(["kept", "/kept", "missing/kept"].map(str::to_owned));
    let commands =
        ["open", "/hidden/file", "0", ",", "open", "/kept/file", "1", ",", "read", "/secret"];
    let output = sandbox.guest(&config, &commands)?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], [libc::ENOENT.to_string(), libc::EROFS.to_string()]);
    assert_eq!(serde_json::from_str::<Read>(lines[2])?, Read { errno: 0, text: String::new() });
    Ok(())
}

fn a_tmpfs_on_sys(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    for mount in config.mounts.iter_mut().filter(|mount| mount.destination == "/sys") {
        *mount = file_system("tmpfs", "/sys", 0, "mode=755");
    }
    config.mounts.push(file_system("tmpfs", "/sys/fs/below", 0, ""));
    let report = sandbox.report(&config)?;
    assert_eq!(report.mount("/sys").ok_or("no /sys")?.fstype, "tmpfs");
    assert!(report.mount("/sys/fs/below").is_some());
    Ok(())
}
