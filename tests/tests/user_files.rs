//! The files in which users and groups are found: those that the container has when it is complete.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pidone::config::mount::flags;
use pidone::config::{Command, Hook, IdMap, Link, Mount, NamespaceType};
use pidone::pool::{Pool, Sizes};
use pidone::{Code, Config, Process, TerminalSize};
use pidone_tests::leftover::MARK;
use pidone_tests::{
    Case, DEADLINE, DELEGATED, Outcome, Report, Sandbox, Stop, case, output, process,
};

use crate::mount::{bind, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(users_of_mounts).and_init(),
    case!(links_are_followed_to_what_is_mounted).and_init(),
    case!(numbers_in_empty_files).and_init(),
    case!(an_empty_root_has_the_files_that_are_bound).and_init(),
    case!(many_mounts).once(),
    case!(mounts_and_hooks_write_them).and_init(),
    case!(a_prepared_container_has_its_user).and_init(),
    case!(start_hooks_have_the_user).and_init(),
    case!(a_terminal_belongs_to_the_user).and_init(),
    case!(a_joined_root_has_its_own).once(),
    case!(a_user_namespace_has_the_user).and_init(),
    case!(an_ordinary_user_reads_them).delegated(),
    case!(root_of_a_namespace_reads_them).nested().once(),
    case!(hostile_files_of_mounts_are_refused).and_init(),
    case!(a_link_in_the_place_of_dev_is_refused).once(),
    case!(a_pool_looks_in_its_containers).once(),
    case!(a_pool_without_root_looks_in_its_containers).once(),
];

const PASSWD: &str = "root:x:0:0::/bound/root:/bin/sh\nbound:x:1500:1501::/bound/home:/bin/sh\n";
const GROUP: &str = "root:x:0:\nbound:x:1501:\nextra:x:1502:bound\n";

/// Makes a directory with the files, and returns it.
fn files(sandbox: &Sandbox, name: &str) -> Result<PathBuf, Stop> {
    let directory = sandbox.path().join(name);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("passwd"), PASSWD)?;
    fs::write(directory.join("group"), GROUP)?;
    Ok(directory)
}

fn with_user(args: &[&str], user: &str) -> Process {
    Process { user: user.into(), ..process(args) }
}

/// Returns the ids, the groups and the home of a process.
fn identity(report: &Report) -> (u32, u32, Vec<u32>, String) {
    let home = report.env.iter().rev().find_map(|variable| variable.strip_prefix("HOME="));
    let mut groups = report.groups.clone();
    groups.sort_unstable();
    (report.uid[2], report.gid[2], groups, home.unwrap_or_default().to_owned())
}

fn bound() -> (u32, u32, Vec<u32>, String) {
    (1500, 1501, vec![1502], "/bound/home".to_owned())
}

/// Starts a first process as a user, and returns who it is, after a further process has agreed.
fn both(
    sandbox: &Sandbox,
    config: &Config,
    user: &str,
) -> Result<(u32, u32, Vec<u32>, String), Stop> {
    let args = ["/guest", "report", ",", "sleep"];
    let mut live = sandbox.start(config, with_user(&args, user))?;
    let first: Report = live.say()?;
    let mut further = sandbox.join(&mut live.container, with_user(&["/guest", "report"], user))?;
    let further: Report = output(&mut further)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(identity(&first), identity(&further), "a further process");
    live.kill()?;
    Ok(identity(&first))
}

fn is_unknown(sandbox: &Sandbox, config: &Config, user: &str) -> Outcome {
    let error = sandbox.start(config, with_user(&["/guest"], user)).err().ok_or("it started")?;
    assert_eq!(error.code(), Code::ConfigInvalid, "{error}");
    assert!(error.to_string().contains("no such user"), "{error}");
    Ok(())
}

/// All ways to mount the files.
fn mounts(directory: &Path) -> Vec<(&'static str, Vec<Mount>)> {
    let file = |name: &str| bind(&directory.join(name), &format!("/etc/{name}"), 0);
    let empty = directory.with_file_name("rootfs").join("tmp");
    let layers = format!("lowerdir={}:{}", directory.display(), empty.display());
    let within = Path::new("/etc");
    vec![
        ("files", vec![file("passwd"), file("group")]),
        ("directory", vec![bind(directory, "/etc", 0)]),
        ("read-only", vec![bind(directory, "etc/./", flags::RDONLY)]),
        ("overlay", vec![file_system("overlay", "/etc", 0, &layers)]),
        ("both", vec![file_system("tmpfs", "/etc", 0, ""), file("passwd"), file("group")]),
        ("twice", vec![bind(within, "/etc", flags::REC), bind(directory, "/etc", 0)]),
    ]
}

fn users_of_mounts(sandbox: &Sandbox) -> Outcome {
    // The control: the image does not have the user.
    is_unknown(sandbox, &sandbox.config(), "bound")?;
    for (name, mounts) in mounts(&files(sandbox, "files")?) {
        let mut config = sandbox.config();
        config.mounts.extend(mounts);
        for user in ["bound", "1500"] {
            assert_eq!(both(sandbox, &config, user)?, bound(), "{name}: {user}");
        }
        let other = (1500, 0, vec![], "/bound/home".to_owned());
        assert_eq!(both(sandbox, &config, "bound:0")?, other, "{name}");
        config.additional_groups = vec!["extra".into(), "7".into()];
        let more = (0, 0, vec![7, 1502], "/bound/root".to_owned());
        assert_eq!(both(sandbox, &config, "")?, more, "{name}");
        config.additional_groups.clear();
        // The user of the image is covered.
        is_unknown(sandbox, &config, "user")?;
    }
    // What is mounted beside the files does not matter.
    let mut config = sandbox.config();
    let directory = files(sandbox, "files")?;
    config.mounts.push(bind(&directory.join("passwd"), "/etc/hosts", 0));
    config.mounts.push(bind(&directory, "/etc/more", 0));
    is_unknown(sandbox, &config, "bound")?;
    let image = (1000, 1000, vec![29, 44], "/home/user".to_owned());
    assert_eq!(both(sandbox, &config, "user")?, image);
    Ok(())
}

fn links_are_followed_to_what_is_mounted(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    let root = sandbox.rootfs();
    fs::create_dir(root.join("data"))?;
    symlink("../etc", root.join("data/alias"))?;
    symlink("/data/alias", root.join("alias"))?;
    symlink("passwd", root.join("etc/alias"))?;
    for at in ["/data/alias", "/alias", "alias/../alias"] {
        let mut config = sandbox.config();
        config.mounts.push(bind(&directory, at, 0));
        assert_eq!(both(sandbox, &config, "bound")?, bound(), "{at}");
    }
    for at in ["/etc/alias", "/alias/alias", "/data/alias/passwd"] {
        let mut config = sandbox.config();
        config.mounts.push(bind(&directory.join("passwd"), at, 0));
        let of_passwd = (1500, 1501, vec![], "/bound/home".to_owned());
        assert_eq!(both(sandbox, &config, "bound")?, of_passwd, "{at}");
    }
    // The files themselves are links to what is mounted, absolute or not.
    for (name, target) in [("passwd", "/data/passwd"), ("group", "../../../data/group")] {
        fs::remove_file(root.join("etc").join(name))?;
        symlink(target, root.join("etc").join(name))?;
    }
    let mut config = sandbox.config();
    is_unknown(sandbox, &config, "bound")?;
    config.mounts.push(bind(&directory, "/data", 0));
    assert_eq!(both(sandbox, &config, "bound")?, bound());
    // And so is the directory.
    fs::rename(root.join("etc"), root.join("data/etc"))?;
    symlink("data/etc", root.join("etc"))?;
    files(sandbox, "files/etc")?;
    assert_eq!(both(sandbox, &config, "bound")?, bound());
    Ok(())
}

/// As in runc, a file that is missing or masked is an empty one.
fn numbers_in_empty_files(sandbox: &Sandbox) -> Outcome {
    let mut covered = sandbox.config();
    covered.mounts.push(file_system("tmpfs", "/etc", 0, ""));
    let mut masked = sandbox.config();
    masked.mask_paths.extend(["/etc/passwd", "/etc/group"].map(str::to_owned));
    for config in [covered, masked] {
        is_unknown(sandbox, &config, "user")?;
        assert_eq!(both(sandbox, &config, "1000")?, (1000, 0, vec![], "/".to_owned()));
        assert_eq!(both(sandbox, &config, "5:6")?, (5, 6, vec![], "/".to_owned()));
    }
    // The copy of a directory has its files.
    let mut copied = sandbox.config();
    let copy = Mount { copy_up: true, ..file_system("tmpfs", "/etc", 0, "") };
    copied.mounts.push(copy);
    let image = (1000, 1000, vec![29, 44], "/home/user".to_owned());
    assert_eq!(both(sandbox, &copied, "user")?, image);
    Ok(())
}

fn an_empty_root_has_the_files_that_are_bound(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    let mut config = sandbox.config();
    (config.tmpfs_root, config.rootfs) = (true, PathBuf::new());
    config.mounts.push(bind(&sandbox.rootfs().join("guest"), "/guest", 0));
    // Not those of the host.
    is_unknown(sandbox, &config, "daemon")?;
    assert_eq!(both(sandbox, &config, "1")?, (1, 0, vec![], "/".to_owned()));
    let mut host = config.clone();
    host.mounts.push(bind(Path::new("/etc"), "/etc", flags::RDONLY));
    assert_eq!(both(sandbox, &host, "daemon")?.0, 1);
    let mut linked = config.clone();
    linked.mounts.push(bind(&directory, "/files", 0));
    linked.links.push(Link { target: "files".into(), path: "/etc".into() });
    config.mounts.push(bind(&directory, "/etc", 0));
    for config in [config, linked] {
        assert_eq!(both(sandbox, &config, "bound")?, bound());
    }
    Ok(())
}

/// More than are looked at, and more than one message has.
fn many_mounts(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    for count in [20, 300] {
        let mut config = sandbox.config();
        config.mounts.push(file_system("tmpfs", "/many", 0, ""));
        config.mounts.extend((0..count).map(|number| bind(&directory, &format!("/m{number}"), 0)));
        let image = (1000, 1000, vec![29, 44], "/home/user".to_owned());
        assert_eq!(both(sandbox, &config, "user")?, image);
        config.mounts.push(bind(&directory, "/etc", 0));
        assert_eq!(both(sandbox, &config, "bound")?, bound());
    }
    Ok(())
}

fn shell(script: &str) -> Hook {
    Hook {
        path: "/bin/sh".into(),
        args: ["sh", "-c", script].map(str::to_owned).into(),
        ..Hook::default()
    }
}

fn mounts_and_hooks_write_them(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    let etc = sandbox.rootfs().join("etc");
    let copies = format!("cp {0}/passwd {0}/group {1}", directory.display(), etc.display());
    let image = [fs::read(etc.join("passwd"))?, fs::read(etc.join("group"))?];
    for kind in ["prestart", "createRuntime", "mount"] {
        let mut config = sandbox.config();
        config.bundle = sandbox.path().to_owned();
        match kind {
            "prestart" => config.hooks.prestart = vec![shell(&copies)],
            "createRuntime" => config.hooks.create_runtime = vec![shell(&copies)],
            _ => {
                let Hook { path, args, .. } = shell(&copies);
                let args = args.into_iter().skip(1).collect();
                config.mounts[0].postmount_cmds =
                    vec![Command { path, args, ..Command::default() }];
            }
        }
        assert_eq!(both(sandbox, &config, "bound")?, bound(), "{kind}");
        fs::write(etc.join("passwd"), &image[0])?;
        fs::write(etc.join("group"), &image[1])?;
    }
    Ok(())
}

fn a_prepared_container_has_its_user(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    let mut config = sandbox.config();
    config.mounts.push(bind(&directory, "/etc", 0));
    let mut live =
        sandbox.prepare(&config, with_user(&["/guest", "report", ",", "sleep"], "bound"))?;
    // As in runc, the user is found when the container is created.
    fs::write(directory.join("passwd"), "")?;
    let further = with_user(&["/guest", "report"], "1500");
    let mut further = sandbox.join(&mut live.container, further)?;
    let further: Report = output(&mut further)?.lines()?.pop().ok_or("no report")?;
    assert_eq!(identity(&further), (1500, 0, vec![], "/".to_owned()));
    let mut live = live.release()?;
    assert_eq!(identity(&live.say()?), bound());
    live.kill()?;
    // Errors after the wait have their numbers.
    files(sandbox, "files")?;
    let missing = with_user(&["/guest"], "bound");
    let missing = sandbox.prepare(&config, Process { cwd: "/missing".into(), ..missing })?;
    let error = missing.release().err().ok_or("it started")?.to_string();
    let (step, of) = error
        .split_once("(step ")
        .and_then(|(_, numbers)| numbers.split_once(" of "))
        .ok_or("no step")?;
    let of = of.split(')').next().unwrap_or_default();
    assert!(step.parse::<u32>()? > 10 && step.parse::<u32>()? <= of.parse::<u32>()?, "{error}");
    Ok(())
}

fn start_hooks_have_the_user(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let directory = files(sandbox, "files")?;
    let log = sandbox.path().join("log");
    fs::write(&log, "")?;
    std::os::unix::fs::chown(&log, Some(1500), None)?;
    let mut config = sandbox.config();
    config.bundle = sandbox.path().to_owned();
    config.mounts.push(bind(&directory, "/etc", 0));
    config.mounts.push(bind(&log, "/log", 0));
    config.hooks.start_container = vec![shell("id >>/log")];
    assert_eq!(both(sandbox, &config, "bound")?, bound());
    let expected = "uid=1500(bound) gid=1501(bound) groups=1502(extra)\n";
    assert_eq!(fs::read_to_string(&log)?, expected);
    let live = sandbox.prepare(&config, with_user(&["/guest", "sleep"], "bound"))?.release()?;
    assert_eq!(fs::read_to_string(&log)?, expected.repeat(2));
    live.kill()?;
    Ok(())
}

fn a_terminal_belongs_to_the_user(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.push(bind(&files(sandbox, "files")?, "/etc", 0));
    for keep_newlines in [false, true] {
        let mut process = with_user(&["/guest", "sleep"], "bound");
        process.terminal = Some(TerminalSize { rows: 33, columns: 99 });
        process.keep_newlines = keep_newlines;
        let live = if keep_newlines {
            sandbox.prepare(&config, process)?.release()?
        } else {
            sandbox.start(&config, process)?
        };
        let pid = live.container.processes()?.into_iter().max().ok_or("no process")?;
        let terminal = fs::metadata(format!("/proc/{pid}/fd/0"))?;
        assert_eq!(terminal.uid(), 1500);
        live.kill()?;
    }
    Ok(())
}

/// The root of a mount namespace that is joined is that of another container.
fn a_joined_root_has_its_own(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.mounts.push(bind(&files(sandbox, "files")?, "/etc", 0));
    let one = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    let mut joins = sandbox.config();
    joins.mounts.clear();
    joins.devices.clear();
    joins.mask_paths.clear();
    joins.readonly_paths.clear();
    let namespace = format!("/proc/{}/ns/mnt", one.running.pid());
    joins.set_namespace(NamespaceType::Mount, &namespace);
    if let Some(cgroup) = &mut joins.cgroups {
        cgroup.name.push_str("-other");
    }
    assert_eq!(both(sandbox, &joins, "bound")?, bound());
    one.kill()?;
    Ok(())
}

fn mapped(sandbox: &Sandbox, maps: &[IdMap]) -> Config {
    let mut config = sandbox.config();
    config.set_id_maps(maps.to_vec(), maps.to_vec());
    config
}

fn a_user_namespace_has_the_user(sandbox: &Sandbox) -> Outcome {
    let map = IdMap { container_id: 0, host_id: 100_000, size: 65536 };
    let config = mapped(sandbox, &[map]);
    is_unknown(sandbox, &config, "bound")?;
    for (name, mounts) in mounts(&files(sandbox, "files")?) {
        if name == "overlay" {
            continue;
        }
        let mut config = config.clone();
        config.mounts.extend(mounts);
        assert_eq!(both(sandbox, &config, "bound")?, bound(), "{name}");
        // An id of the files that is not mapped.
        fs::write(sandbox.path().join("files/passwd"), "far:x:70000:7::/:\n")?;
        let error = sandbox.start(&config, with_user(&["/guest"], "far")).err();
        let error = error.ok_or("it started")?.to_string();
        assert!(error.contains("not in the id map"), "{name}: {error}");
        files(sandbox, "files")?;
    }
    Ok(())
}

fn an_ordinary_user_reads_them(sandbox: &Sandbox) -> Outcome {
    const NOBODY: u32 = 65534;
    let own = IdMap { container_id: 0, host_id: NOBODY, size: 1 };
    let range = IdMap { container_id: 1, host_id: DELEGATED, size: 65000 };
    let mut config = mapped(sandbox, &[own, range]);
    config.cgroups = None;
    is_unknown(sandbox, &config, "bound")?;
    config.mounts.push(bind(&files(sandbox, "files")?, "/etc", 0));
    assert_eq!(both(sandbox, &config, "bound")?, bound());
    Ok(())
}

fn root_of_a_namespace_reads_them(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    // With a user namespace, and without one, which lets it mount no sysfs.
    let map = IdMap { container_id: 0, host_id: 0, size: 60000 };
    let mut bare = sandbox.config();
    bare.mounts.retain(|mount| mount.device != "sysfs");
    for mut config in [mapped(sandbox, &[map]), bare] {
        config.cgroups = None;
        is_unknown(sandbox, &config, "bound")?;
        config.mounts.push(bind(&directory, "/etc", 0));
        assert_eq!(both(sandbox, &config, "bound")?, bound());
    }
    Ok(())
}

fn hostile_files_of_mounts_are_refused(sandbox: &Sandbox) -> Outcome {
    let directory = files(sandbox, "files")?;
    let passwd = directory.join("passwd");
    let bait = sandbox.path().join("bait");
    fs::write(&bait, "someone:x:7:7::/:\n")?;
    let mut config = sandbox.config();
    config.mounts.push(bind(&directory, "/etc", 0));
    let refused = |config: &Config| -> Result<String, Stop> {
        let error = sandbox.start(config, with_user(&["/guest"], "someone")).err();
        Ok(error.ok_or("it started")?.to_string())
    };
    for target in [bait.display().to_string(), format!("../../../../..{}", bait.display())] {
        fs::remove_file(&passwd)?;
        symlink(&target, &passwd)?;
        assert!(refused(&config)?.contains("no such user"), "{target}");
    }
    // The control: the same link to a file in the container.
    let place = bait.strip_prefix("/")?;
    fs::create_dir_all(sandbox.rootfs().join(place.parent().ok_or("no parent")?))?;
    fs::copy(&bait, sandbox.rootfs().join(place))?;
    assert_eq!(both(sandbox, &config, "someone")?.0, 7);
    for target in ["/proc/self/fd/0", "/proc/1/root/etc/passwd", "passwd"] {
        fs::remove_file(&passwd)?;
        symlink(target, &passwd)?;
        let error = refused(&config)?;
        assert!(error.contains("open `etc/passwd`") || error.contains("no such"), "{error}");
    }
    fs::remove_file(&passwd)?;
    mkfifo(&passwd, Mode::from_bits_truncate(0o644))?;
    assert_eq!(refused(&config)?, "open `etc/passwd`: not a regular file");
    // A pipe in the place of the file alone.
    let mut file = sandbox.config();
    file.mounts.push(bind(&passwd, "/etc/passwd", 0));
    assert_eq!(refused(&file)?, "open `etc/passwd`: not a regular file");
    fs::remove_file(&passwd)?;
    fs::File::create(&passwd)?.set_len(1 << 40)?;
    for config in [config, file] {
        assert_eq!(refused(&config)?, "read `etc/passwd`: larger than 8 MiB");
    }
    Ok(())
}

/// Otherwise the /dev of the container could cover its /etc.
fn a_link_in_the_place_of_dev_is_refused(sandbox: &Sandbox) -> Outcome {
    let config = sandbox.config();
    assert_eq!(both(sandbox, &config, "user")?.0, 1000);
    fs::remove_dir(sandbox.rootfs().join("dev"))?;
    symlink("etc", sandbox.rootfs().join("dev"))?;
    let bare = Config { devices: Vec::new(), ..config.clone() };
    for config in [config, bare] {
        assert!(sandbox.start(&config, with_user(&["/guest"], "user")).is_err());
    }
    Ok(())
}

/// The sandbox's configuration with the files bound, and with cgroups below one of its name.
fn pooled(sandbox: &Sandbox) -> Result<Config, Stop> {
    let mut config = sandbox.config();
    config.mounts.push(bind(&files(sandbox, "files")?, "/etc", 0));
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.parent = sandbox.name().to_owned();
        cgroup.name = "one".to_owned();
    }
    Ok(config)
}

fn marked(sandbox: &Sandbox, user: &str) -> Process {
    let mut process = with_user(&["/guest", "report"], user);
    process.env.push(format!("{MARK}={}", sandbox.name()).into());
    process
}

fn a_pool_looks_in_its_containers(sandbox: &Sandbox) -> Outcome {
    let config = pooled(sandbox)?;
    for model in ["", "bound"] {
        let model = marked(sandbox, model);
        let pool = Pool::new(sandbox.factory(), &config, model, Sizes::new(1))?;
        for user in ["bound", "1500", "bound"] {
            pool.wait_until_full(DEADLINE)?;
            let mut lease = pool.start(&marked(sandbox, user))?;
            assert!(lease.is_warm());
            let report: Report = output(lease.running())?.lines()?.pop().ok_or("no report")?;
            assert_eq!(identity(&report), bound());
        }
        // A container is not wasted for a user that it does not have.
        pool.wait_until_full(DEADLINE)?;
        assert!(pool.start(&marked(sandbox, "user")).is_err());
        assert_eq!(pool.status().ready, 1);
    }
    Ok(())
}

fn a_pool_without_root_looks_in_its_containers(sandbox: &Sandbox) -> Outcome {
    let config = pooled(sandbox)?;
    let pool = Pool::without_root(sandbox.factory(), &config, Sizes::new(1))?;
    for user in ["bound", "1500"] {
        pool.wait_until_full(DEADLINE)?;
        let mut lease = pool.start_in(&config, &marked(sandbox, user))?;
        assert!(lease.is_warm());
        let report: Report = output(lease.running())?.lines()?.pop().ok_or("no report")?;
        assert_eq!(identity(&report), bound());
    }
    pool.wait_until_full(DEADLINE)?;
    assert!(pool.start_in(&config, &marked(sandbox, "user")).is_err());
    Ok(())
}
