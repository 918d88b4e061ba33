//! The root file system: of which kind it is, and what of it is hidden or read-only.

use std::fs;
use std::path::Path;

use pidone::config::Link;
use pidone::config::mount::flags;
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, case, process};

use crate::mount::{bind, errnos, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(links_are_made),
    case!(a_root_of_memory),
    case!(a_read_only_root),
    case!(a_root_without_pivot),
    case!(masked_paths_are_empty),
    case!(read_only_paths_refuse_writes),
    case!(without_proc),
    case!(a_thousand_masks).once(),
];

fn links_are_made(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.links = vec![
        Link { target: "/guest".into(), path: "/usr/bin/same".into() },
        Link { target: "guest".into(), path: "/relative".into() },
    ];
    for path in ["/usr/bin/same", "/relative"] {
        assert_eq!(sandbox.run(&config, process(&[path, "exit", "3"]))?.exit.code, Some(3));
    }
    Ok(())
}

fn a_root_of_memory(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.insert(0, bind(&sandbox.rootfs(), "/image", flags::RDONLY));
    config.links = vec![Link { target: "image/guest".into(), path: "/guest".into() }];
    config.rootfs = "".into();
    config.tmpfs_root = true;
    let output = sandbox.guest(&config, &["report", ",", "write", "/new", "x"])?;
    let (report, written) = output.stdout.split_once('\n').ok_or("no report")?;
    let report: Report = serde_json::from_str(report)?;
    assert_eq!(report.mount("/").ok_or("no root")?.fstype, "tmpfs");
    assert_eq!(written.trim(), "0");
    config.readonlyfs = true;
    assert_eq!(errnos(sandbox, &config, &["write", "/new", "x"])?, [libc::EROFS]);
    Ok(())
}

fn a_read_only_root(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    assert_eq!(errnos(sandbox, &config, &["write", "/before", "x"])?, [0]);
    config.readonlyfs = true;
    // A missing place for a mount is still made, and other mounts stay writable.
    config.mounts.push(file_system("tmpfs", "/missing", 0, ""));
    assert_eq!(
        errnos(
            sandbox,
            &config,
            &["write", "/new", "x", ",", "write", "/missing/new", "x", ",", "write", "/dev/x", "x"]
        )?,
        [libc::EROFS, 0, 0]
    );
    assert!(!sandbox.rootfs().join("new").exists());
    assert!(sandbox.report(&config)?.mount("/").ok_or("no root")?.has("ro"));
    // The host's own mount is not.
    fs::write(sandbox.rootfs().join("of-the-host"), "x")?;
    Ok(())
}

fn a_root_without_pivot(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.no_pivot_root = true;
    let output = sandbox.guest(&config, &["report", ",", "open", "/guest", "0"])?;
    let (report, opened) = output.stdout.split_once('\n').ok_or("no report")?;
    let report: Report = serde_json::from_str(report)?;
    assert_eq!(opened.trim(), "0");
    assert_eq!(report.mount("/proc").ok_or("no proc")?.fstype, "proc");
    // A further process is in the same root.
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest"]))?;
    let joined: Report = pidone_tests::output(&mut running)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(joined.root.map(|root| root.ino), report.root.map(|root| root.ino));
    live.kill()?;
    Ok(())
}

fn masked_paths_are_empty(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    fs::create_dir(root.join("secret"))?;
    fs::write(root.join("secret/file"), "secret")?;
    fs::write(root.join("file"), "secret")?;
    let mut config = sandbox.config();
    config.mask_paths.extend(["/secret", "/file", "/missing", "/file/below"].map(str::to_owned));
    let output = sandbox.guest(
        &config,
        &["read", "/file", ",", "read", "/secret/file", ",", "read", "/proc/interrupts"],
    )?;
    let file = |errno| Read { errno, text: String::new() };
    assert_eq!(output.lines::<Read>()?, [file(0), file(libc::ENOENT), file(0)]);
    // Which the host has something in.
    assert!(!fs::read_to_string("/proc/interrupts")?.is_empty());
    assert_eq!(
        errnos(sandbox, &config, &["write", "/secret/new", "x", ",", "write", "/file", "x"])?,
        [libc::EROFS, 0]
    );
    assert_eq!(fs::read_to_string(root.join("file"))?, "secret");
    // Nor is anything there for a further process.
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "read", "/file"]))?;
    assert_eq!(pidone_tests::output(&mut running)?.lines::<Read>()?, [file(0)]);
    live.kill()?;
    Ok(())
}

fn read_only_paths_refuse_writes(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    fs::create_dir_all(root.join("kept/below"))?;
    fs::write(root.join("kept/file"), "x")?;
    fs::write(root.join("file"), "x")?;
    let mut config = sandbox.config();
    config.readonly_paths.extend(["/kept", "/file", "/missing"].map(str::to_owned));
    let own = ["/kept/new", "/kept/file", "/kept/below/new", "/file"];
    let of_the_kernel = [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/proc/bus/pci/devices",
    ];
    let paths: Vec<&str> =
        of_the_kernel.into_iter().filter(|path| Path::new(path).exists()).chain(own).collect();
    assert!(paths.len() > own.len());
    let commands: Vec<&str> = paths.iter().flat_map(|path| ["write", path, "x", ","]).collect();
    assert_eq!(errnos(sandbox, &config, &commands)?, vec![libc::EROFS; paths.len()]);
    assert_eq!(errnos(sandbox, &config, &["open", "/kept/file", "0"])?, [0]);
    // Without the list they could be written to.
    config.readonly_paths.clear();
    assert_eq!(errnos(sandbox, &config, &["write", "/kept/file", "x"])?, [0]);
    Ok(())
}

fn without_proc(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.retain(|mount| mount.device != "proc");
    let report = sandbox.report(&config)?;
    assert!(report.mounts.is_none() && report.pid == 1);
    // A further process needs no proc either.
    let mut live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut running = sandbox.join(&mut live.container, process(&["/guest", "exit", "4"]))?;
    assert_eq!(running.wait()?.code, Some(4));
    live.kill()?;
    Ok(())
}

fn a_thousand_masks(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    let mut config = sandbox.config();
    config.mask_paths.clear();
    let before = sandbox.report(&config)?.mounts().len();
    for index in 0..500 {
        fs::create_dir_all(root.join(format!("d/{index}")))?;
        fs::write(root.join(format!("d/f{index}")), "x")?;
        config.mask_paths.push(format!("/d/{index}"));
        config.mask_paths.push(format!("/d/f{index}"));
    }
    let report = sandbox.report(&config)?;
    assert_eq!(report.mounts().len(), before + 1000);
    Ok(())
}
