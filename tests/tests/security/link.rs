//! Links in the image at the places where a runtime makes and mounts things.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pidone::Config;
use pidone::config::mount::flags;
use pidone::config::{Link, Mount};
use pidone_tests::canary::Canary;
use pidone_tests::{Case, Outcome, Read, Sandbox, Stop, case, leftover, process};

use super::naive::Naive;

pub(crate) const CASES: &[Case] = &[
    case!(dev_without_a_mount).and_init(),
    case!(dev_with_a_mount).and_init(),
    case!(a_directory_below_dev).and_init(),
    case!(proc_and_sys_are_refused).and_init(),
    case!(a_destination).and_init(),
    case!(a_parent_of_a_destination).and_init(),
    case!(a_file_to_bind_on).and_init(),
    case!(a_link_in_the_place_of_a_link).and_init(),
    case!(the_null_device_of_masks).and_init(),
    case!(what_is_masked_or_read_only).and_init(),
    case!(the_console).and_init(),
    case!(planted_by_an_earlier_run).and_init(),
    case!(destinations_in_proc_are_refused).once(),
];

/// A canary beside the root, and the ways in which a link in the root may name a place in it.
fn bait(sandbox: &Sandbox) -> Result<Canary, Stop> {
    Canary::new(sandbox.path().join("canary"))
}

/// The names of a place of the host: absolute, and upwards from a directory in the root.
fn names(place: &Path) -> [PathBuf; 2] {
    let up = Path::new("../../../../../../../../../..");
    [place.to_owned(), up.join(place.strip_prefix("/").unwrap_or(place))]
}

/// Puts a link in the place of whatever exists.
fn plant(root: &Path, place: &str, target: &Path) -> Outcome {
    let place = root.join(place);
    if place.symlink_metadata().is_ok_and(|there| there.is_dir()) {
        fs::remove_dir_all(&place)?;
    } else {
        let _ = fs::remove_file(&place);
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(symlink(target, &place)?)
}

/// A root with a bait for the control, apart from the one for the container.
fn naive_root(sandbox: &Sandbox) -> Result<PathBuf, Stop> {
    let root = sandbox.path().join("naive");
    if !root.exists() {
        sandbox.make_root(&root)?;
    }
    Ok(root)
}

/// Starts a container, whose start may be refused, and looks at the host.
fn attack(sandbox: &Sandbox, config: &Config, canary: &Canary) -> Result<bool, Stop> {
    let started = match sandbox.start(config, process(&["/guest", "sleep"])) {
        Ok(live) => {
            live.kill()?;
            true
        }
        Err(_) => false,
    };
    canary.check()?;
    let mounted = leftover::of(sandbox.name(), canary.path());
    assert_eq!(mounted, [] as [String; 0]);
    Ok(started)
}

fn without_dev(sandbox: &Sandbox) -> Config {
    let mut config = sandbox.config();
    config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    config
}

/// CVE-2026-41579: nodes and links made through it, files removed.
fn dev_without_a_mount(sandbox: &Sandbox) -> Outcome {
    let control = Canary::new(sandbox.path().join("control"))?;
    let root = naive_root(sandbox)?;
    plant(&root, "dev", &control.path().join("dev"))?;
    let links = vec![("pts/ptmx".into(), "dev/ptmx".into())];
    Naive { root, nodes: vec!["dev/zero".into()], links, ..Naive::default() }.run()?;
    assert!(control.changes()?.len() >= 2, "the bait does not work");

    let canary = bait(sandbox)?;
    for target in names(&canary.path().join("dev")) {
        plant(&sandbox.rootfs(), "dev", &target)?;
        attack(sandbox, &without_dev(sandbox), &canary)?;
    }
    Ok(())
}

fn dev_with_a_mount(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    let root = naive_root(sandbox)?;
    plant(&root, "dev", &canary.path().join("dev"))?;
    let mounts = vec![("tmpfs".into(), "dev".into())];
    let mounted = Naive { root, mounts, ..Naive::default() }.mounts_in(canary.path())?;
    assert_eq!(mounted, [canary.path().join("dev")], "the bait does not work");
    for target in names(&canary.path().join("dev")) {
        plant(&sandbox.rootfs(), "dev", &target)?;
        attack(sandbox, &sandbox.config(), &canary)?;
    }
    Ok(())
}

fn a_directory_below_dev(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    let root = naive_root(sandbox)?;
    plant(&root, "dev/pts", &canary.path().join("dev/pts"))?;
    let mounts = vec![("devpts".into(), "dev/pts".into())];
    let mounted = Naive { root, mounts, ..Naive::default() }.mounts_in(canary.path())?;
    assert_eq!(mounted, [canary.path().join("dev/pts")], "the bait does not work");
    let mut config = sandbox.config();
    config.mounts.retain(|mount| mount.destination != "/dev");
    for place in ["dev/pts", "dev/shm", "dev/mqueue"] {
        for target in names(&canary.path().join("dev/pts")) {
            plant(&sandbox.rootfs(), place, &target)?;
            attack(sandbox, &config, &canary)?;
        }
    }
    Ok(())
}

/// CVE-2019-19921: what is written below `/proc` would go elsewhere.
fn proc_and_sys_are_refused(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    for (place, fstype) in [("proc", "proc"), ("sys", "sysfs")] {
        let root = naive_root(sandbox)?;
        plant(&root, place, &canary.path().join(place))?;
        let mounts = vec![(fstype.into(), place.into())];
        let mounted = Naive { root, mounts, ..Naive::default() }.mounts_in(canary.path())?;
        assert_eq!(mounted, [canary.path().join(place)], "the bait does not work");
    }
    for place in ["proc", "sys"] {
        let mut targets: Vec<PathBuf> = names(&canary.path().join(place)).into();
        // Also one that stays inside.
        targets.push("tmp".into());
        targets.push("/tmp".into());
        for target in targets {
            plant(&sandbox.rootfs(), place, &target)?;
            let started = attack(sandbox, &sandbox.config(), &canary)?;
            assert!(!started, "{place} -> {target:?}");
        }
        fs::remove_file(sandbox.rootfs().join(place))?;
        fs::create_dir(sandbox.rootfs().join(place))?;
    }
    assert!(attack(sandbox, &sandbox.config(), &canary)?);
    Ok(())
}

fn tmpfs(destination: &str) -> Mount {
    Mount {
        source: "tmpfs".into(),
        destination: destination.into(),
        device: "tmpfs".into(),
        ..Mount::default()
    }
}

fn a_destination(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    let root = naive_root(sandbox)?;
    plant(&root, "m", &canary.path().join("empty"))?;
    let mounts = vec![("tmpfs".into(), "m".into())];
    let mounted = Naive { root, mounts, ..Naive::default() }.mounts_in(canary.path())?;
    assert_eq!(mounted, [canary.path().join("empty")], "the bait does not work");
    for target in names(&canary.path().join("empty")) {
        plant(&sandbox.rootfs(), "m", &target)?;
        let mut config = sandbox.config();
        config.mounts.push(tmpfs("/m"));
        attack(sandbox, &config, &canary)?;
        config.mounts.pop();
        config.mounts.push(Mount {
            source: sandbox.rootfs().join("tmp").display().to_string(),
            destination: "/m".into(),
            device: "bind".into(),
            flags: flags::BIND,
            ..Mount::default()
        });
        attack(sandbox, &config, &canary)?;
    }
    Ok(())
}

/// CVE-2024-45310, CVE-2024-42472: directories made through a link.
fn a_parent_of_a_destination(sandbox: &Sandbox) -> Outcome {
    let control = Canary::new(sandbox.path().join("control"))?;
    let root = naive_root(sandbox)?;
    plant(&root, "a", control.path())?;
    let mounts = vec![("tmpfs".into(), "a/b/c".into())];
    Naive { root, mounts, ..Naive::default() }.run()?;
    assert!(!control.changes()?.is_empty(), "the bait does not work");

    let canary = bait(sandbox)?;
    for target in names(canary.path()) {
        plant(&sandbox.rootfs(), "a", &target)?;
        let mut config = sandbox.config();
        config.mounts.push(tmpfs("/a/b/c"));
        attack(sandbox, &config, &canary)?;
        config.mounts.pop();
        config.links.push(Link { target: "x".into(), path: "/a/link".into() });
        attack(sandbox, &config, &canary)?;
        config.links.pop();
        config
            .devices
            .push(pidone::config::Device { path: "/a/null".into(), ..config.devices[1].clone() });
        attack(sandbox, &config, &canary)?;
    }
    Ok(())
}

fn a_file_to_bind_on(sandbox: &Sandbox) -> Outcome {
    let control = Canary::new(sandbox.path().join("control"))?;
    let root = naive_root(sandbox)?;
    plant(&root, "f", &control.path().join("new"))?;
    let files = vec![(root.join("guest"), "f".into())];
    Naive { root, files, ..Naive::default() }.run()?;
    assert!(!control.changes()?.is_empty(), "the bait does not work");

    let canary = bait(sandbox)?;
    for place in ["new", "file"] {
        for target in names(&canary.path().join(place)) {
            plant(&sandbox.rootfs(), "f", &target)?;
            let mut config = sandbox.config();
            config.mounts.push(Mount {
                source: sandbox.rootfs().join("guest").display().to_string(),
                destination: "/f".into(),
                device: "bind".into(),
                flags: flags::BIND,
                ..Mount::default()
            });
            attack(sandbox, &config, &canary)?;
        }
    }
    Ok(())
}

/// What is replaced is the link, and not what it leads to.
fn a_link_in_the_place_of_a_link(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    for place in ["ptmx", "fd", "stdin", "core", "null", "zero"] {
        for target in names(&canary.path().join("file")) {
            let root = sandbox.rootfs();
            plant(&root, &format!("dev/{place}"), &target)?;
            attack(sandbox, &without_dev(sandbox), &canary)?;
            fs::remove_dir_all(root.join("dev"))?;
            fs::create_dir(root.join("dev"))?;
        }
    }
    Ok(())
}

/// CVE-2025-31133: a mask made of the container's own null device.
fn the_null_device_of_masks(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    let root = naive_root(sandbox)?;
    fs::write(root.join("secret"), "secret")?;
    plant(&root, "dev/null", &canary.path().join("file"))?;
    let args = ["/guest", "read", "/secret"].map(str::to_owned).into();
    let output = Naive { root, masks: vec!["secret".into()], args, ..Naive::default() }.run()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("canary file"), "the bait does not work: {text}");

    fs::write(sandbox.rootfs().join("secret"), "secret")?;
    for target in names(&canary.path().join("file")) {
        plant(&sandbox.rootfs(), "dev/null", &target)?;
        let mut config = without_dev(sandbox);
        config.devices.clear();
        config.mask_paths.push("/secret".into());
        let output = sandbox.guest(&config, &["read", "/secret"])?;
        let read: Vec<Read> = output.lines()?;
        assert_eq!(read[0].text, "");
        canary.check()?;
    }
    Ok(())
}

fn what_is_masked_or_read_only(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    for target in names(&canary.path().join("etc")) {
        plant(&sandbox.rootfs(), "kept", &target)?;
        plant(&sandbox.rootfs(), "hidden", &target)?;
        let mut config = sandbox.config();
        config.readonly_paths.push("/kept".into());
        config.mask_paths.push("/hidden/passwd".into());
        attack(sandbox, &config, &canary)?;
    }
    // Links to files of the container are followed: what they name is protected.
    plant(&sandbox.rootfs(), "kept", Path::new("/etc"))?;
    plant(&sandbox.rootfs(), "hidden", Path::new("/etc/passwd"))?;
    let mut config = sandbox.config();
    config.readonly_paths.push("/kept".into());
    config.mask_paths.push("/hidden".into());
    let output = sandbox.guest(&config, &["write", "/etc/new", "x", ",", "read", "/etc/passwd"])?;
    assert!(output.stdout.starts_with(&format!("{}\n", libc::EROFS)), "{}", output.stdout);
    assert!(output.stdout.contains("\"text\":\"\""), "{}", output.stdout);
    Ok(())
}

/// CVE-2026-88264, CVE-2025-52565.
fn the_console(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    for name in ["new", "dev/console"] {
        for target in names(&canary.path().join(name)) {
            plant(&sandbox.rootfs(), "dev/console", &target)?;
            let mut config = sandbox.config();
            config.mounts.retain(|mount| mount.destination != "/dev");
            let mut asked = process(&["/guest", "exit", "0"]);
            asked.terminal = Some(pidone::TerminalSize::default());
            if let Ok(live) = sandbox.start(&config, asked) {
                live.finish()?;
            }
            canary.check()?;
            fs::remove_dir_all(sandbox.rootfs().join("dev"))?;
            fs::create_dir(sandbox.rootfs().join("dev"))?;
        }
    }
    Ok(())
}

/// CVE-2015-3629: what the first run leaves in the image.
fn planted_by_an_earlier_run(sandbox: &Sandbox) -> Outcome {
    let canary = bait(sandbox)?;
    let mut config = sandbox.config();
    let symlink = libc::SYS_symlink.to_string();
    let rmdir = libc::SYS_rmdir.to_string();
    let place = format!("@{}", canary.path().join("empty").display());
    // The place of the next run's mount is a directory of the image in this one.
    fs::create_dir(sandbox.rootfs().join("m"))?;
    let output = sandbox
        .guest(&config, &["syscall", &rmdir, "@/m", ",", "syscall", &symlink, &place, "@/m"])?;
    assert_eq!(output.stdout, "0\n0\n");
    config.mounts.push(tmpfs("/m"));
    attack(sandbox, &config, &canary)?;
    attack(sandbox, &config, &canary)?;
    Ok(())
}

/// CVE-2019-16884, CVE-2015-3631.
fn destinations_in_proc_are_refused(sandbox: &Sandbox) -> Outcome {
    for destination in [
        "/proc",
        "/proc/",
        "/proc/self",
        "/proc/self/attr",
        "/proc/sys",
        "/tmp/../proc/1",
        "//proc/self/attr/exec",
        "/",
        "",
        "/..",
    ] {
        let mut config = sandbox.config();
        config.mounts.push(tmpfs(destination));
        let error = sandbox.create(&config).err().ok_or(destination.to_owned())?;
        assert_eq!(error.code(), pidone::Code::ConfigInvalid, "{destination}");
    }
    Ok(())
}
