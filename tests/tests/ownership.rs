//! Who owns what a container gets from the host: files under other ids, cgroups, file systems of
//! namespaces that are shared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount as host_mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pidone::config::mount::flags;
use pidone::config::{IdMap, Mount, MountIdMap, NamespaceType};
use pidone::{Code, Config};
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, Stop, case, process};

use crate::mount::{bind, errnos, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(files_appear_under_other_ids).alone(),
    case!(files_appear_under_the_containers_ids).alone(),
    case!(mounts_below_are_mapped_if_asked).alone(),
    case!(further_processes_in_cgroups_below).and_unified(),
    case!(no_cgroup_outside_of_the_containers).and_unified().once(),
    case!(root_of_a_user_namespace_manages_its_cgroup).unified(),
    case!(file_systems_of_shared_namespaces).alone(),
];

/// The first id of the user namespace.
const FIRST: u32 = 100_000;

fn range(container_id: u32, host_id: u32, size: u32) -> IdMap {
    IdMap { container_id, host_id, size }
}

fn user_namespace(config: &mut Config) {
    let map = vec![range(0, FIRST, 65536)];
    config.set_id_maps(map.clone(), map);
}

/// A tmpfs, which can be mapped, with a file of each owner.
fn owned(at: &Path, owners: &[(u32, u32)]) -> Outcome {
    fs::create_dir_all(at)?;
    host_mount(Some("owned"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=1777"))?;
    // Nothing can be made in a directory whose owner has no id.
    let first = owners.first().copied().unwrap_or_default();
    lchown(at, Some(first.0), Some(first.1))?;
    for &(uid, gid) in owners {
        let path = at.join(uid.to_string());
        fs::write(&path, "")?;
        lchown(&path, Some(uid), Some(gid))?;
    }
    fs::create_dir(at.join("below"))?;
    Ok(())
}

/// The owner of a file in a container, as the host sees it.
fn owner(pid: i32, path: &str) -> Result<(u32, u32), Stop> {
    let metadata = fs::metadata(format!("/proc/{pid}/root{path}"))?;
    Ok((metadata.uid(), metadata.gid()))
}

/// What nobody has.
const OVERFLOW: u32 = 65534;

fn files_appear_under_other_ids(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    owned(&source, &[(1000, 2000), (1009, 2009), (5, 6)])?;
    let ids = MountIdMap {
        uid_mappings: vec![range(1000, 7000, 10)],
        gid_mappings: vec![range(2000, 8000, 10)],
        recursive: false,
    };
    let mut config = sandbox.config();
    config.mounts.push(Mount { id_map: Some(ids), ..bind(&source, "/m", 0) });
    let mut program = process(&["/guest", "write", "/m/new", "x", ",", "sleep"]);
    program.user = "7003:8004".into();
    let mut live = sandbox.start(&config, program)?;
    let pid = live.running.pid();
    assert_eq!(live.say::<i32>()?, 0);
    assert_eq!(owner(pid, "/m/1000")?, (7000, 8000));
    assert_eq!(owner(pid, "/m/1009")?, (7009, 8009));
    assert_eq!(owner(pid, "/m/5")?, (OVERFLOW, OVERFLOW));
    // The other way for a file that is made inside.
    let made = fs::metadata(source.join("new"))?;
    assert_eq!((made.uid(), made.gid()), (1003, 2004));
    live.kill()?;
    Ok(umount(&source)?)
}

/// Root's own files are those of the container's root.
fn files_appear_under_the_containers_ids(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    owned(&source, &[(0, 0), (1000, 1000)])?;
    let mut config = sandbox.config();
    user_namespace(&mut config);
    // Its root could not make them in a root that is not its own.
    fs::create_dir(sandbox.rootfs().join("m"))?;
    fs::create_dir(sandbox.rootfs().join("plain"))?;
    config.mounts.push(Mount { id_map: Some(MountIdMap::default()), ..bind(&source, "/m", 0) });
    // The same without, as a control.
    config.mounts.push(bind(&source, "/plain", 0));
    let mut live = sandbox.start(
        &config,
        process(&["/guest", "write", "/m/new", "x", ",", "open", "/plain/0", "1", ",", "sleep"]),
    )?;
    let pid = live.running.pid();
    assert_eq!([live.say::<i32>()?, live.say()?], [0, libc::EACCES]);
    assert_eq!(owner(pid, "/m/0")?, (FIRST, FIRST));
    assert_eq!(owner(pid, "/m/1000")?, (FIRST + 1000, FIRST + 1000));
    assert_eq!(owner(pid, "/plain/0")?, (0, 0));
    assert_eq!(fs::metadata(source.join("new"))?.uid(), 0);
    live.kill()?;
    Ok(umount(&source)?)
}

fn mounts_below_are_mapped_if_asked(sandbox: &Sandbox) -> Outcome {
    let source = sandbox.path().join("source");
    owned(&source, &[(1000, 1000)])?;
    owned(&source.join("below"), &[(1000, 1000)])?;
    for recursive in [false, true] {
        let map = vec![range(1000, 7000, 10)];
        let ids = MountIdMap { uid_mappings: map.clone(), gid_mappings: map, recursive };
        let mut config = sandbox.config();
        config.mounts.push(Mount { id_map: Some(ids), ..bind(&source, "/m", flags::REC) });
        let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
        let pid = live.running.pid();
        assert_eq!(owner(pid, "/m/1000")?, (7000, 7000));
        let below = if recursive { 7000 } else { 1000 };
        assert_eq!(owner(pid, "/m/below/1000")?, (below, below));
        live.kill()?;
    }
    umount(&source.join("below"))?;
    Ok(umount(&source)?)
}

fn cgroups(live: &pidone_tests::Live) -> Result<BTreeMap<String, PathBuf>, Stop> {
    Ok(live.container.state()?.cgroup_paths.clone())
}

/// The cgroups of a process that joins, by its lines of /proc/self/cgroup.
fn joined(
    sandbox: &Sandbox,
    live: &mut pidone_tests::Live,
    below: &[(&str, &str)],
) -> Result<Vec<String>, Stop> {
    let mut further = process(&["/guest", "sleep"]);
    further.sub_cgroups =
        below.iter().map(|&(controller, path)| (controller.to_owned(), path.to_owned())).collect();
    let mut running = sandbox.join(&mut live.container, further)?;
    let lines = fs::read_to_string(format!("/proc/{}/cgroup", running.pid()))?;
    running.signal(libc::SIGKILL)?;
    running.wait()?;
    Ok(lines.lines().map(str::to_owned).collect())
}

fn further_processes_in_cgroups_below(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let own = joined(sandbox, &mut live, &[])?;
    let inside = |line: &&String| line.contains(sandbox.name());
    let hierarchies = own.iter().filter(inside).count();
    assert!(hierarchies > 0 && !own.iter().any(|line| line.ends_with("/below")), "{own:?}");
    for (controller, directory) in cgroups(&live)? {
        fs::create_dir_all(directory.join("below"))?;
        // A cpuset of v1 takes nobody without processors and memory.
        if controller == "cpuset" {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(directory.join("below").join(file), fs::read(directory.join(file))?)?;
            }
        }
    }
    let below = joined(sandbox, &mut live, &[("", "below")])?;
    let expected: Vec<String> = own
        .iter()
        .map(
            |line| {
                if line.contains(sandbox.name()) { format!("{line}/below") } else { line.clone() }
            },
        )
        .collect();
    assert_eq!(below, expected);
    // One of many, on v1.
    if cgroups(&live)?.contains_key("pids") {
        let below = joined(sandbox, &mut live, &[("pids", "/below")])?;
        let moved: Vec<&String> = below.iter().filter(|line| line.ends_with("/below")).collect();
        assert!(moved.len() == 1 && moved[0].contains("pids"), "{below:?}");
    }
    live.kill()?;
    Ok(())
}

fn no_cgroup_outside_of_the_containers(sandbox: &Sandbox) -> Outcome {
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    for (controller, path, code) in [
        ("", "..", Code::ConfigInvalid),
        ("", "a/../../b", Code::ConfigInvalid),
        ("no_such_controller", "below", Code::ConfigInvalid),
        ("", "missing", Code::SystemError),
    ] {
        let mut further = process(&["/guest"]);
        further.sub_cgroups = BTreeMap::from([(controller.to_owned(), path.to_owned())]);
        let error = sandbox.join(&mut live.container, further).err().ok_or("started")?;
        assert_eq!(error.code(), code, "{path}: {error}");
    }
    assert_eq!(live.container.processes()?, [live.running.pid()]);
    live.kill()?;
    Ok(())
}

/// In its own namespaces it makes cgroups and moves its processes, and sets none of its
/// own limits.
fn root_of_a_user_namespace_manages_its_cgroup(sandbox: &Sandbox) -> Outcome {
    let mkdir = libc::SYS_mkdirat.to_string();
    let commands = [
        "syscall",
        &mkdir,
        "-100",
        "@/sys/fs/cgroup/own",
        "0755",
        ",",
        "write",
        "/sys/fs/cgroup/own/cgroup.procs",
        "1",
        ",",
        "read",
        "/proc/self/cgroup",
        ",",
        "open",
        "/sys/fs/cgroup/cgroup.freeze",
        "1",
    ];
    let mut config = sandbox.config();
    user_namespace(&mut config);
    config.mounts.push(file_system("cgroup", "/sys/fs/cgroup", 0, ""));
    config.set_namespace(NamespaceType::Cgroup, "");
    let output = sandbox.guest(&config, &commands)?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{output:?}");
    let read: Read = serde_json::from_str(lines[2])?;
    assert!(read.text.lines().any(|line| line == "0::/own"), "{read:?}");
    assert_eq!(lines[3], libc::EACCES.to_string());
    // Without a cgroup namespace it is the host's to manage.
    config.remove_namespace(NamespaceType::Cgroup);
    let errnos = errnos(sandbox, &config, &commands[..9])?;
    assert!(!errnos.contains(&0), "{errnos:?}");
    Ok(())
}

/// A user namespace may mount only the sysfs and the message queues of its namespaces: those
/// of a namespace that it shares are the host's.
fn file_systems_of_shared_namespaces(sandbox: &Sandbox) -> Outcome {
    // The host's /dev, which may be without message queues.
    let config = sandbox.config();
    host_mount(Some("dev"), "/dev", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for device in &config.devices {
        let number = makedev(device.major.try_into()?, device.minor.try_into()?);
        mknod(Path::new(&device.path), SFlag::S_IFCHR, Mode::empty(), number)?;
        // Whatever this process's mask is.
        fs::set_permissions(&device.path, fs::Permissions::from_mode(0o666))?;
    }
    fs::create_dir("/dev/mqueue")?;
    host_mount(Some("mqueue"), "/dev/mqueue", Some("mqueue"), MsFlags::empty(), None::<&str>)?;
    let device = |path: &str| fs::metadata(path).map(|metadata| metadata.dev());
    let (sysfs, mqueue) = (device("/sys")?, device("/dev/mqueue")?);
    for shared in [true, false] {
        let mut config = config.clone();
        user_namespace(&mut config);
        if shared {
            config.remove_namespace(NamespaceType::Network);
            config.remove_namespace(NamespaceType::Ipc);
            config.networks.clear();
        }
        let mut live = sandbox.start(&config, process(&["/guest", "report", ",", "sleep"]))?;
        let report: Report = live.say()?;
        for (point, fstype, host) in [("/sys", "sysfs", sysfs), ("/dev/mqueue", "mqueue", mqueue)] {
            let mount = report.mount(point).ok_or("no mount")?;
            assert_eq!(mount.fstype, fstype);
            assert!(mount.has("nosuid") && mount.has("nodev") && mount.has("noexec"), "{mount:?}");
            let seen = device(&format!("/proc/{}/root{point}", live.running.pid()))?;
            assert_eq!(seen == host, shared, "{point}");
        }
        assert!(report.mount("/sys").ok_or("no mount")?.has("ro"));
        // What the host has below is covered or read-only too.
        let tops = report.mounts();
        let below = tops.iter().filter(|mount| mount.point.starts_with("/sys/"));
        for mount in below {
            let top = report.mount(&mount.point).ok_or("no mount")?;
            assert!(top.has("ro"), "{top:?}");
        }
        live.kill()?;
    }
    Ok(())
}
