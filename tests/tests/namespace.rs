//! Namespaces: new, the host's, and joined, of each kind.

use std::os::unix::fs::MetadataExt as _;

use pidone::Config;
use pidone::config::{Hook, IdMap, NamespaceType};
use pidone_tests::{Case, Live, Outcome, Read, Report, Sandbox, Stop, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(new_ones_are_not_the_hosts).and_unified(),
    case!(absent_ones_are_the_hosts),
    case!(the_first_process_has_number_one),
    case!(without_a_pid_namespace_it_has_the_hosts_number),
    case!(ipc_is_private),
    case!(ipc_is_the_hosts),
    case!(ipc_is_joined),
    case!(each_kind_is_joined).and_unified(),
    case!(all_kinds_are_joined_together),
    case!(a_joined_pid_namespace_shows_its_processes),
    case!(a_joined_user_namespace_has_its_ids),
    case!(the_second_of_a_pod_joins_the_first),
    case!(a_bad_path_is_refused),
    case!(a_path_of_another_kind_is_refused),
    case!(a_new_network_has_a_loopback_that_is_up),
    case!(a_user_namespace_maps_ids).and_unified(),
    case!(a_user_namespace_of_many_ranges),
    case!(a_user_namespace_owns_the_others),
    case!(a_user_namespace_runs_ps),
    case!(a_cgroup_namespace_begins_at_the_container).and_unified(),
    case!(the_host_name_is_the_containers),
];

/// The kinds that the template makes new, and what must go when one is absent.
const KINDS: [NamespaceType; 5] = [
    NamespaceType::Ipc,
    NamespaceType::Network,
    NamespaceType::Mount,
    NamespaceType::Pid,
    NamespaceType::Uts,
];

/// The inode of the host's namespace.
fn host(kind: NamespaceType) -> Result<u64, Stop> {
    inode(&format!("/proc/self/ns/{}", kind.file()))
}

fn inode(path: &str) -> Result<u64, Stop> {
    Ok(std::fs::metadata(path)?.ino())
}

fn of(report: &Report, kind: NamespaceType) -> Option<u64> {
    report.namespaces.get(kind.file()).copied()
}

/// The inode of a namespace of a running container, whatever that sees of it.
fn of_live(live: &Live, kind: NamespaceType) -> Result<u64, Stop> {
    inode(&file(live, kind))
}

/// The file of a namespace of a running container.
fn file(live: &Live, kind: NamespaceType) -> String {
    format!("/proc/{}/ns/{}", live.running.pid(), kind.file())
}

/// Shares or joins a namespace, without what needs a new one.
fn set(config: &mut Config, kind: NamespaceType, path: Option<&str>) {
    match path {
        Some(path) => config.set_namespace(kind, path),
        None => config.remove_namespace(kind),
    }
    match kind {
        NamespaceType::Uts if path.is_none() => config.hostname.clear(),
        NamespaceType::Network => config.networks.clear(),
        NamespaceType::Mount => {
            config.mounts.clear();
            config.devices.clear();
            config.mask_paths.clear();
            config.readonly_paths.clear();
        }
        _ => {}
    }
}

/// A configuration with a user namespace of 65536 ids from 100000 on.
fn with_user_namespace(sandbox: &Sandbox) -> Config {
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
    config
}

fn sleeper(sandbox: &Sandbox, config: &Config) -> Result<Live, Stop> {
    Ok(sandbox.start(config, process(&["/guest", "sleep"]))?)
}

fn new_ones_are_not_the_hosts(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.set_namespace(NamespaceType::Cgroup, "");
    let mut one = sandbox.start(&config, process(&["/guest", "report", ",", "sleep"]))?;
    let seen: Report = one.say()?;
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.name.push_str("-other");
    }
    let other = sleeper(sandbox, &config)?;
    for kind in KINDS.into_iter().chain([NamespaceType::Cgroup]) {
        assert_eq!(of(&seen, kind), Some(of_live(&one, kind)?), "{kind}");
        assert_ne!(of(&seen, kind), Some(host(kind)?), "{kind}");
        assert_ne!(of(&seen, kind), Some(of_live(&other, kind)?), "{kind}");
    }
    assert_eq!(of(&seen, NamespaceType::User), Some(host(NamespaceType::User)?));
    one.kill()?;
    other.kill()?;
    Ok(())
}

fn absent_ones_are_the_hosts(sandbox: &Sandbox) -> Outcome {
    for kind in KINDS.into_iter().filter(|kind| *kind != NamespaceType::Mount) {
        let mut config = sandbox.config();
        set(&mut config, kind, None);
        let report = sandbox.report(&config)?;
        assert_eq!(of(&report, kind), Some(host(kind)?), "{kind}");
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert_ne!(of(&report, other), Some(host(other)?), "{kind}: {other}");
        }
    }
    // Without one of mounts there is nothing but the root. Hooks run nevertheless.
    let mut config = sandbox.config();
    set(&mut config, NamespaceType::Mount, None);
    let log = sandbox.path().join("log");
    let script = format!("pwd >>{}", log.display());
    let hook = Hook {
        path: "/bin/sh".into(),
        args: ["sh", "-c", &script].map(str::to_owned).into(),
        ..Hook::default()
    };
    config.bundle = sandbox.path().to_owned();
    config.hooks.create_runtime = vec![hook.clone()];
    config.hooks.create_container = vec![hook];
    let live = sandbox.start(&config, process(&["/guest", "sleep"]))?;
    assert_eq!(of_live(&live, NamespaceType::Mount)?, host(NamespaceType::Mount)?);
    let root = std::fs::read_link(format!("/proc/{}/root", live.running.pid()))?;
    assert_eq!(root, sandbox.rootfs());
    let expected = format!("{}\n{}\n", sandbox.path().display(), sandbox.rootfs().display());
    assert_eq!(std::fs::read_to_string(log)?, expected);
    live.kill()?;
    Ok(())
}

fn the_first_process_has_number_one(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    assert_eq!((report.pid, report.ppid, report.pgid, report.sid), (1, 0, 1, 1));
    Ok(())
}

fn without_a_pid_namespace_it_has_the_hosts_number(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    set(&mut config, NamespaceType::Pid, None);
    let mut live = sandbox.start(&config, process(&["/guest", "report"]))?;
    let report: Report = live.say()?;
    assert_eq!(report.pid, live.running.pid());
    assert_eq!(report.sid, report.pid);
    live.finish()?;
    Ok(())
}

fn ipc_is_private(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    assert_ne!(of(&report, NamespaceType::Ipc), Some(host(NamespaceType::Ipc)?));
    Ok(())
}

fn ipc_is_the_hosts(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.remove_namespace(NamespaceType::Ipc);
    let report = sandbox.report(&config)?;
    assert_eq!(of(&report, NamespaceType::Ipc), Some(host(NamespaceType::Ipc)?));
    Ok(())
}

fn ipc_is_joined(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.set_namespace(NamespaceType::Ipc, format!("/proc/{}/ns/ipc", std::process::id()));
    let report = sandbox.report(&config)?;
    assert_eq!(of(&report, NamespaceType::Ipc), Some(host(NamespaceType::Ipc)?));
    Ok(())
}

fn each_kind_is_joined(sandbox: &Sandbox) -> Outcome {
    let mut own = sandbox.config();
    own.set_namespace(NamespaceType::Cgroup, "");
    let live = sleeper(sandbox, &own)?;
    for kind in KINDS.into_iter().chain([NamespaceType::Cgroup]) {
        let mut config = sandbox.config();
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.name.push_str("-joins");
        }
        set(&mut config, kind, Some(&file(&live, kind)));
        let joining = sandbox
            .start(&config, process(&["/guest", "sleep"]))
            .map_err(|error| format!("{kind}: {error}"))?;
        assert_eq!(of_live(&joining, kind)?, of_live(&live, kind)?, "{kind}");
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            assert_ne!(of_live(&joining, other)?, of_live(&live, other)?, "{kind}: {other}");
            assert_ne!(of_live(&joining, other)?, host(other)?, "{kind}: {other}");
        }
        joining.kill()?;
    }
    live.kill()?;
    Ok(())
}

fn all_kinds_are_joined_together(sandbox: &Sandbox) -> Outcome {
    let live = sleeper(sandbox, &sandbox.config())?;
    let mut config = sandbox.config();
    config.cgroups = None;
    for kind in KINDS {
        set(&mut config, kind, Some(&file(&live, kind)));
    }
    config.hostname.clear();
    let report = sandbox.report(&config)?;
    for kind in KINDS {
        assert_eq!(of(&report, kind), Some(of_live(&live, kind)?), "{kind}");
    }
    assert_eq!(report.hostname, "nsinit");
    live.kill()?;
    Ok(())
}

fn a_joined_pid_namespace_shows_its_processes(sandbox: &Sandbox) -> Outcome {
    let live = sleeper(sandbox, &sandbox.config())?;
    let mut config = sandbox.config();
    config.cgroups = None;
    set(&mut config, NamespaceType::Pid, Some(&file(&live, NamespaceType::Pid)));
    let output = sandbox.guest(&config, &["report", ",", "read", "/proc/1/cmdline"])?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    let report: Report = serde_json::from_str(lines.first().ok_or("no report")?)?;
    assert!(report.pid > 1, "{}", report.pid);
    let first: Read = serde_json::from_str(lines.get(1).ok_or("no line")?)?;
    assert_eq!(first.text, "/guest\0sleep\0");
    live.kill()?;
    Ok(())
}

fn a_joined_user_namespace_has_its_ids(sandbox: &Sandbox) -> Outcome {
    let live = sleeper(sandbox, &with_user_namespace(sandbox))?;
    let mut config = sandbox.config();
    config.cgroups = None;
    set(&mut config, NamespaceType::User, Some(&file(&live, NamespaceType::User)));
    let report = sandbox.report(&config)?;
    let user = of_live(&live, NamespaceType::User)?;
    assert_eq!(of(&report, NamespaceType::User), Some(user));
    assert_eq!(maps(&report)?, [[0, 100_000, 65536]]);
    assert_eq!(report.uid, [0; 3]);
    for kind in KINDS {
        assert_ne!(of(&report, kind), Some(host(kind)?), "{kind}");
        assert_ne!(of(&report, kind), Some(of_live(&live, kind)?), "{kind}");
    }
    live.kill()?;
    Ok(())
}

/// The second container of a pod joins namespaces of the first, with the host's users, new ones,
/// those of the first or those of a third container.
fn the_second_of_a_pod_joins_the_first(sandbox: &Sandbox) -> Outcome {
    const SHARED: [NamespaceType; 3] =
        [NamespaceType::Network, NamespaceType::Ipc, NamespaceType::Pid];
    let third = sleeper(sandbox, &with_user_namespace(sandbox))?;
    for first_has_users in [false, true] {
        let mut config =
            if first_has_users { with_user_namespace(sandbox) } else { sandbox.config() };
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.name.push_str("-first");
        }
        let first = sleeper(sandbox, &config)?;
        for users in ["host", "new", "first", "third"] {
            if users == "first" && !first_has_users {
                continue;
            }
            for kinds in [&SHARED[..], &SHARED[..1], &SHARED[1..2], &SHARED[2..]] {
                let case = format!("first with users: {first_has_users}, {users}, {kinds:?}");
                let mut config =
                    if users == "new" { with_user_namespace(sandbox) } else { sandbox.config() };
                config.cgroups = None;
                for kind in kinds {
                    set(&mut config, *kind, Some(&file(&first, *kind)));
                }
                let owner = match users {
                    "first" => Some(&first),
                    "third" => Some(&third),
                    _ => None,
                };
                if let Some(owner) = owner {
                    let path = file(owner, NamespaceType::User);
                    set(&mut config, NamespaceType::User, Some(&path));
                }
                let mut second = sandbox
                    .start(&config, process(&["/guest", "report", ",", "sleep"]))
                    .map_err(|error| format!("{case}: {error}"))?;
                let report: Report = second.say()?;
                for kind in KINDS {
                    let shared = of(&report, kind) == Some(of_live(&first, kind)?);
                    assert_eq!(shared, kinds.contains(&kind), "{case}: {kind}");
                }
                for (point, fstype) in
                    [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/mqueue", "mqueue")]
                {
                    let mount = report.mount(point).ok_or_else(|| format!("{case}: {point}"))?;
                    assert_eq!(mount.fstype, fstype, "{case}: {point}");
                }
                // A further process joins the same.
                let mut further = sandbox.join(&mut second.container, process(&["/guest"]))?;
                let output = pidone_tests::output(&mut further)?;
                let joined: Report = output.lines()?.pop().ok_or("no report")?;
                assert_eq!(joined.namespaces, report.namespaces, "{case}");
                second.kill()?;
            }
        }
        first.kill()?;
    }
    third.kill()?;
    Ok(())
}

fn a_bad_path_is_refused(sandbox: &Sandbox) -> Outcome {
    for kind in KINDS {
        for path in ["/nonexistent/namespace", "/etc/passwd", "/"] {
            let mut config = sandbox.config();
            set(&mut config, kind, Some(path));
            let started = sandbox.start(&config, process(&["/guest"]));
            assert!(started.is_err(), "{kind} {path}");
        }
    }
    Ok(())
}

fn a_path_of_another_kind_is_refused(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.set_namespace(NamespaceType::Ipc, "/proc/1/ns/uts");
    assert!(sandbox.start(&config, process(&["/guest"])).is_err());
    Ok(())
}

fn a_new_network_has_a_loopback_that_is_up(sandbox: &Sandbox) -> Outcome {
    for networks in [sandbox.config().networks, Vec::new()] {
        let mut config = sandbox.config();
        config.networks = networks;
        let output = sandbox.guest(&config, &["read", "/sys/class/net/lo/flags"])?;
        // IFF_UP | IFF_LOOPBACK
        assert_eq!(output.lines::<Read>()?[0].text, "0x9\n");
        let report = sandbox.report(&config)?;
        let interfaces = report.interfaces.ok_or("no interfaces")?;
        assert!(interfaces.len() == 3 && interfaces[2].contains("lo:"), "{interfaces:?}");
    }
    Ok(())
}

/// The lines of the uid map; that of the groups must be the same.
fn maps(report: &Report) -> Result<Vec<[u32; 3]>, Stop> {
    let read = |lines: &Option<Vec<String>>| -> Result<Vec<[u32; 3]>, Stop> {
        let lines = lines.as_ref().ok_or("no map")?;
        lines
            .iter()
            .map(|line| {
                let numbers: Result<Vec<u32>, _> =
                    line.split_ascii_whitespace().map(str::parse).collect();
                Ok(numbers?.try_into().map_err(|_| "not three numbers")?)
            })
            .collect()
    };
    let users = read(&report.uid_map)?;
    assert_eq!(users, read(&report.gid_map)?);
    Ok(users)
}

fn a_user_namespace_maps_ids(sandbox: &Sandbox) -> Outcome {
    let config = with_user_namespace(sandbox);
    let mut live = sandbox.start(&config, process(&["/guest", "report", ",", "sleep"]))?;
    let report: Report = live.say()?;
    assert_eq!(maps(&report)?, [[0, 100_000, 65536]]);
    assert_eq!((report.uid, report.gid), ([0; 3], [0; 3]));
    assert_eq!(report.groups, [] as [u32; 0]);
    let user = host(NamespaceType::User)?;
    assert_ne!(of(&report, NamespaceType::User), Some(user));
    let status = std::fs::read_to_string(format!("/proc/{}/status", live.running.pid()))?;
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
    assert!(status.contains("Gid:\t100000\t100000\t100000\t100000"), "{status}");
    live.kill()?;
    // A further process has the same ids.
    let mut live = sleeper(sandbox, &config)?;
    let mut joined = process(&["/guest"]);
    joined.user = "1000:29".into();
    let mut running = sandbox.join(&mut live.container, joined)?;
    let output = pidone_tests::output(&mut running)?;
    let report: Report = output.lines()?.pop().ok_or("no report")?;
    assert_eq!((report.uid, report.gid), ([1000; 3], [29; 3]));
    assert_eq!(maps(&report)?, [[0, 100_000, 65536]]);
    live.kill()?;
    Ok(())
}

fn a_user_namespace_of_many_ranges(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    // As many as the kernel takes, in the page that it takes.
    let map: Vec<IdMap> = (0..340)
        .map(|index| IdMap { container_id: index * 2, host_id: 1000 + index * 3, size: 1 })
        .collect();
    config.set_id_maps(map.clone(), map);
    for device in &mut config.devices {
        device.uid = 0;
    }
    let report = sandbox.report(&config)?;
    assert_eq!(maps(&report)?.len(), 340);
    Ok(())
}

fn a_user_namespace_owns_the_others(sandbox: &Sandbox) -> Outcome {
    let mut config = with_user_namespace(sandbox);
    config.capabilities.push("SYS_ADMIN".into());
    config.capabilities.push("NET_ADMIN".into());
    let name = libc::SYS_sethostname.to_string();
    let mount = libc::SYS_mount.to_string();
    let output = sandbox.guest(
        &config,
        &[
            "syscall", &name, "@inside", "6", ",", // its own host name
            "syscall", &mount, "@tmpfs", "@/tmp", "@tmpfs", "0", "0", ",", // its own mounts
            "report",
        ],
    )?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..2], ["0", "0"]);
    let report: Report = serde_json::from_str(lines[2])?;
    assert_eq!(report.hostname, "inside");
    assert_eq!(report.mount("/tmp").ok_or("no mount")?.fstype, "tmpfs");
    // But not what the host's user namespace owns.
    let reboot = libc::SYS_settimeofday.to_string();
    let output = sandbox.guest(&config, &["syscall", &reboot, "0", "0"])?;
    assert_eq!(output.stdout.trim(), libc::EPERM.to_string());
    Ok(())
}

/// The seed's `UsernsExecPS`.
fn a_user_namespace_runs_ps(sandbox: &Sandbox) -> Outcome {
    sandbox.add_busybox()?;
    let output = sandbox.run(&with_user_namespace(sandbox), process(&["/bin/busybox", "ps"]))?;
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[1].trim_start().starts_with("1 "), "{}", output.stdout);
    assert_eq!(output.exit.code, Some(0));
    Ok(())
}

fn a_cgroup_namespace_begins_at_the_container(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    let seen = |report: Report| -> Result<Vec<String>, Stop> {
        let lines = report.cgroups.ok_or("no cgroups")?;
        Ok(lines.into_iter().filter_map(|line| Some(line.splitn(3, ':').nth(2)?.into())).collect())
    };
    let paths = seen(sandbox.report(&config)?)?;
    assert!(paths.iter().any(|path| path.ends_with(sandbox.name())), "{paths:?}");
    config.set_namespace(NamespaceType::Cgroup, "");
    let mut live = sandbox.start(&config, process(&["/guest", "report", ",", "sleep"]))?;
    let paths = seen(live.say()?)?;
    assert!(paths.iter().all(|path| path == "/"), "{paths:?}");
    let mut running = sandbox.join(&mut live.container, process(&["/guest"]))?;
    let joined: Report = pidone_tests::output(&mut running)?.lines()?.pop().ok_or("no report")?;
    let paths = seen(joined)?;
    assert!(paths.iter().all(|path| path == "/"), "{paths:?}");
    live.kill()?;
    Ok(())
}

fn the_host_name_is_the_containers(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.hostname = "koye".into();
    let before = rustix::system::uname().nodename().to_owned();
    assert_eq!(sandbox.report(&config)?.hostname, "koye");
    config.hostname = "x".repeat(64);
    assert_eq!(sandbox.report(&config)?.hostname, "x".repeat(64));
    assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
    Ok(())
}
