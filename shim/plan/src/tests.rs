//! Which operations a configuration compiles to, and in which order.

use std::path::{Path, PathBuf};

use pidone_config::config::{Command, Device, Hook, IdMap, Mount, NamespaceType};
use pidone_config::{Code, Config};
use pidone_proto::{Create, Op};

use super::barrier::{BARRIER_CGROUP, BARRIER_HOST, BARRIER_USER, mount_of_barrier};
use super::container::compile;
use super::dropped::DroppedPrivileges;
use super::facts::Facts;
use super::{Capabilities, Plan, Process, Source, clean, late_user};

const NEWNS: u32 = NamespaceType::Mount.clone_flag();
const NEWUSER: u32 = NamespaceType::User.clone_flag();
const NEWCGROUP: u32 = NamespaceType::Cgroup.clone_flag();
const NEWNET: u32 = NamespaceType::Network.clone_flag();
const NEWPID: u32 = NamespaceType::Pid.clone_flag();
const NEWIPC: u32 = NamespaceType::Ipc.clone_flag();

fn process() -> Process {
    Process {
        args: vec!["sh".into()],
        env: vec!["PATH=/a:/b".into()],
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        search: 0,
        groups: Some(vec![]),
        capabilities: Capabilities::default(),
        rlimits: vec![],
        terminal: None,
        preserved: 0,
        no_new_privileges: false,
        seccomp: None,
        umask: 0o022,
        parent_death_signal: 0,
        labels: vec![],
        make_cwd: false,
        scheduler: None,
        io_priority: None,
        affinity: [None, None],
    }
}

pub(super) fn facts() -> Facts<'static> {
    Facts {
        new: NEWNS,
        parallel_netns: false,
        joined: vec![],
        foreign: 0,
        in_user_namespace: false,
        makes_nodes: false,
        by_path: false,
        sees_host: false,
        at: "/r".into(),
        cgroups: std::collections::BTreeMap::new(),
        awaits_cgroup: false,
        barrier: false,
        dropped: DroppedPrivileges::default(),
        bare: vec![],
        is_directory: &|_| Ok(true),
        attributes: &|_| Ok(0),
        waits: false,
        keyring: None,
    }
}

fn mount(device: &str, destination: &str) -> Mount {
    Mount {
        source: device.into(),
        device: device.into(),
        destination: destination.into(),
        ..Mount::default()
    }
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.operations().map(|op| op.name()).collect()
}

fn position(plan: &Plan, name: &str) -> usize {
    names(plan).iter().position(|op| *op == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_minimal_configuration_compiles_to_these_operations() {
    let config = Config { rootfs: "/srv/x".into(), ..Config::default() };
    let plan = compile(&config, &process(), &facts()).unwrap();
    assert_eq!(
        names(&plan),
        [
            "mount attributes",
            "root",
            "pivot_root",
            "stdio",
            "setsid",
            "bounding set",
            "setgroups",
            "set ids",
            "umask",
            "chdir",
            "capabilities",
            "exec",
        ]
    );
    let tree = Source::Tree { path: "/srv/x".into(), recursive: true, ids: None };
    assert_eq!(plan.parts()[0].sources, [tree]);
}

#[test]
fn propagation_to_the_host_is_cut_first() {
    let config = Config { rootfs: "/srv/x".into(), ..Config::default() };
    let plan = compile(&config, &process(), &Facts { sees_host: true, ..facts() }).unwrap();
    assert_eq!(names(&plan)[0], "propagation");
}

#[test]
fn file_systems_are_mounted_after_pivot_root() {
    let config = Config { mounts: vec![mount("proc", "/proc")], ..Config::default() };
    let plan = compile(&config, &process(), &facts()).unwrap();
    assert!(position(&plan, "pivot_root") < position(&plan, "mount"));
}

#[test]
fn operations_in_the_network_namespace_are_a_separate_part() {
    let mounts = vec![mount("proc", "/proc"), mount("sysfs", "/sys"), mount("tmpfs", "/run")];
    let config = Config { mounts, ..Config::default() };
    let facts = Facts { new: NEWNS | NEWNET, parallel_netns: true, ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    let [early, network] = plan.parts() else { panic!("{} parts", plan.parts().len()) };
    assert_eq!(plan.early_parts(), 1);
    assert_eq!(early.operations().last().unwrap().name(), "attach", "proc");
    assert_eq!(network.sources, [Source::Network]);
    let names: Vec<_> = network.operations().map(|op| op.name()).collect();
    assert_eq!(names[..3], ["setns", "mount", "attach"]);
    assert!(names.contains(&"loopback"));
    // Without a sysfs, the loopback interface is the first to need the namespace.
    let plan = compile(&Config::default(), &process(), &facts).unwrap();
    assert_eq!(plan.parts()[1].operations().nth(1).unwrap().name(), "loopback");
}

/// As below rootless podman: the container is in the user namespace of the caller.
#[test]
fn in_a_user_namespace_sysfs_is_created_in_the_network_namespace() {
    let mounts = vec![mount("proc", "/proc"), mount("sysfs", "/sys"), mount("tmpfs", "/run")];
    let config = Config { mounts, ..Config::default() };
    let facts = Facts {
        new: NEWNS | NEWNET | NEWPID,
        parallel_netns: true,
        in_user_namespace: true,
        ..facts()
    };
    let plan = compile(&config, &process(), &facts).unwrap();
    let [early, network] = plan.parts() else { panic!("{} parts", plan.parts().len()) };
    let names = |part: &crate::Part| part.operations().map(|op| op.name()).collect::<Vec<_>>();
    assert_eq!(names(early), ["mount"], "proc");
    assert_eq!(names(network)[..2], ["setns", "mount"], "{plan}");
    assert_eq!(names(network).iter().filter(|name| **name == "setns").count(), 1, "{plan}");
}

#[test]
fn file_systems_of_an_unknown_type_are_mounted_in_the_network_namespace() {
    let config = Config { mounts: vec![mount("nfs", "/data")], ..Config::default() };
    let facts = Facts { new: NEWNS | NEWNET, parallel_netns: true, ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    assert!(position(&plan, "setns") < position(&plan, "mount"));
}

#[test]
fn in_a_user_namespace_proc_is_created_before_pivot_root() {
    let config = Config { mounts: vec![mount("proc", "/proc")], ..Config::default() };
    let facts = Facts { new: NEWNS | NEWUSER | NEWPID, in_user_namespace: true, ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    assert_eq!(names(&plan)[0], "set ids", "before any file is created");
    assert!(position(&plan, "mount") < position(&plan, "pivot_root"));
    assert!(position(&plan, "pivot_root") < position(&plan, "attach"));
}

#[test]
fn file_systems_of_namespaces_of_another_owner_come_from_the_host() {
    let mounts = vec![mount("proc", "/proc"), mount("sysfs", "/sys"), mount("mqueue", "/mqueue")];
    let config = Config { mounts, ..Config::default() };
    let joined: Vec<(u32, PathBuf)> =
        vec![(NEWPID, "/pid".into()), (NEWNET, "/net".into()), (NEWIPC, "/ipc".into())];
    let of = |foreign| {
        let joined = joined.clone();
        let new = NEWNS | NEWUSER;
        let facts = Facts { new, joined, foreign, in_user_namespace: true, ..facts() };
        compile(&config, &process(), &facts).unwrap()
    };
    let own = of(0);
    assert_eq!(names(&own).iter().filter(|op| **op == "mount").count(), 3);
    let foreign = of(NEWPID | NEWNET | NEWIPC);
    assert!(!names(&foreign).contains(&"mount"));
    let sources: Vec<&Source> = foreign.parts().iter().flat_map(|part| &part.sources).collect();
    let proc = Source::Tree { path: "/proc".into(), recursive: true, ids: None };
    assert!(sources.contains(&&proc));
    for (fstype, namespace) in
        [("sysfs", (NEWNET, "/net".into())), ("mqueue", (NEWIPC, "/ipc".into()))]
    {
        let made = Source::FileSystem { fstype, attributes: 0, namespace };
        assert!(sources.contains(&&made), "{fstype}: {sources:?}");
    }
}

#[test]
fn host_paths_are_opened_before_pivot_root() {
    let bind = Mount { source: "/data".into(), flags: 4096, ..mount("bind", "/data") };
    let config =
        Config { mounts: vec![bind], mask_paths: vec!["/proc/kcore".into()], ..Config::default() };
    let plan = compile(&config, &process(), &Facts { by_path: true, ..facts() }).unwrap();
    let last_path = names(&plan).iter().rposition(|op| *op == "bind").unwrap();
    assert!(last_path < position(&plan, "pivot_root"));
    assert!(plan.parts().iter().all(|part| part.sources.is_empty()), "no descriptors are sent");
}

#[test]
fn mount_commands_run_before_pivot_root() {
    let command = Command { path: "touch".into(), ..Command::default() };
    let entry = Mount {
        premount_cmds: vec![command.clone()],
        postmount_cmds: vec![command],
        ..mount("tmpfs", "/tmp")
    };
    let config = Config { mounts: vec![entry], ..Config::default() };
    let plan = compile(&config, &process(), &Facts { sees_host: true, ..facts() }).unwrap();
    let order: Vec<_> = names(&plan)
        .into_iter()
        .filter(|op| matches!(*op, "barrier" | "attach" | "pivot_root"))
        .collect();
    assert_eq!(order, ["barrier", "attach", "barrier", "pivot_root"]);
    let barriers: Vec<_> = plan
        .operations()
        .filter_map(|op| match op {
            Op::Barrier { id } => Some(mount_of_barrier(id)),
            _ => None,
        })
        .collect();
    assert_eq!(barriers, [Some((0, false)), Some((0, true))]);
    assert_eq!(mount_of_barrier(BARRIER_HOST), None);
}

#[test]
fn a_user_who_is_found_late_costs_a_barrier() {
    assert_eq!(mount_of_barrier(BARRIER_USER), None);
    for (supervise, waits) in [(false, false), (false, true), (true, false)] {
        let config = Config { supervise, ..Config::template("/r".into()) };
        let facts = Facts { waits, ..facts() };
        let whole = compile(&config, &process(), &facts).unwrap();
        let unknown = Process { uid: u32::MAX, gid: u32::MAX, ..process() };
        let mut plan = late_user::compile(&config, &unknown, &facts).unwrap();
        assert_eq!(plan.operations().last(), Some(Op::Barrier { id: BARRIER_USER }));
        let sent = plan.parts().len();
        late_user::compile_rest(&mut plan, &config, &process(), facts.end()).unwrap();
        assert_eq!(plan.parts().len(), sent + 1);
        let mut late = names(&plan);
        let barrier = plan.operations().position(|op| op == Op::Barrier { id: BARRIER_USER });
        late.remove(barrier.unwrap());
        assert_eq!(late, names(&whole));
        assert_eq!(plan.user(), whole.user());
    }
}

#[test]
fn proc_and_sysfs_do_not_follow_symbolic_links() {
    let mounts = vec![mount("proc", "/proc"), mount("sysfs", "/sys"), mount("tmpfs", "/tmp")];
    let config = Config { mounts, ..Config::default() };
    let plan = compile(&config, &process(), &facts()).unwrap();
    let follow: Vec<bool> = plan
        .operations()
        .filter_map(|op| match op {
            Op::Attach { follow, .. } => Some(follow),
            _ => None,
        })
        .collect();
    assert_eq!(follow, [false, false, true]);
}

#[test]
fn a_bound_file_creates_a_file() {
    let bind = Mount { source: "/etc/hosts".into(), flags: 4096, ..mount("bind", "/etc/hosts") };
    let config = Config { mounts: vec![bind], ..Config::default() };
    let facts = Facts { is_directory: &|path| Ok(path != Path::new("/etc/hosts")), ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    let created = plan.operations().find_map(|op| match op {
        Op::Attach { create, .. } => Some(create),
        _ => None,
    });
    assert_eq!(created, Some(Create::File));
}

#[test]
fn devices_are_created_or_bound_in_a_user_namespace() {
    let device = Device {
        kind: 'c',
        path: "/dev/null".into(),
        major: 1,
        minor: 3,
        file_mode: 0o666,
        ..Device::default()
    };
    let config = Config { devices: vec![device], ..Config::default() };
    let made = compile(&config, &process(), &facts()).unwrap();
    assert!(
        made.operations()
            .any(|op| matches!(op, Op::MakeNode { mode: 0o020_666, major: 1, minor: 3, .. }))
    );
    let facts = Facts { new: NEWNS | NEWUSER, in_user_namespace: true, ..facts() };
    let bound = compile(&config, &process(), &facts).unwrap();
    assert!(!names(&bound).contains(&"mknod"));
    let null = Source::Tree { path: "/dev/null".into(), recursive: false, ids: None };
    assert!(bound.parts()[0].sources.contains(&null));
}

#[test]
fn sysctls_are_written_before_proc_becomes_read_only() {
    let config = Config {
        system_properties: [("net.ipv4.ip_forward".into(), "1".into())].into(),
        readonly_paths: vec!["/proc/sys".into()],
        mask_paths: vec!["/proc/kcore".into()],
        readonlyfs: true,
        ..Config::default()
    };
    let plan = compile(&config, &process(), &facts()).unwrap();
    let order: Vec<_> = ["sysctl", "read-only path", "mask", "read-only root", "setsid"]
        .map(|name| position(&plan, name))
        .to_vec();
    assert!(order.is_sorted(), "{:?}", names(&plan));
    let path = plan.operations().find_map(|op| match op {
        Op::Sysctl { path, .. } => Some(path.0.to_owned()),
        _ => None,
    });
    assert_eq!(path.unwrap().to_str(), Ok("net/ipv4/ip_forward"));
}

#[test]
fn a_cgroup_mount_comes_after_the_cgroup_namespace() {
    let config = Config { mounts: vec![mount("cgroup", "/sys/fs/cgroup")], ..Config::default() };
    let cgroups = [(String::new(), PathBuf::from("/sys/fs/cgroup/x"))].into();
    let facts = Facts { new: NEWNS | NEWCGROUP, barrier: true, cgroups, ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    assert_eq!(names(&plan)[..2], ["barrier", "unshare"]);
    assert!(plan.operations().any(|op| matches!(
        op,
        Op::MakeMount { fstype, .. } if fstype.0 == c"cgroup2"
    )));
}

/// The order of the operations about cgroups, and of the mounts at the paths.
fn late_order(config: &Config) -> Vec<String> {
    let cgroups = [(String::new(), PathBuf::from("/sys/fs/cgroup/x"))].into();
    let facts = Facts { new: NEWNS | NEWCGROUP, awaits_cgroup: true, cgroups, ..facts() };
    let plan = compile(config, &process(), &facts).unwrap();
    let one = |op: Op<'_>| match op {
        Op::Barrier { id: BARRIER_CGROUP } => Some("wait".to_owned()),
        Op::Barrier { .. } => Some("hooks".to_owned()),
        Op::Unshare { .. } => Some("namespace".to_owned()),
        Op::Attach { at, .. } => Some(at.0.to_string_lossy().into_owned()),
        _ => None,
    };
    plan.operations().filter_map(one).collect()
}

#[test]
fn the_wait_for_the_cgroup_comes_after_the_other_mounts_and_before_hooks() {
    let mounts = vec![mount("cgroup", "/sys/fs/cgroup"), mount("tmpfs", "/data")];
    let mut config = Config { mounts, ..Config::default() };
    assert_eq!(late_order(&config), ["/data", "wait", "namespace", "/sys/fs/cgroup"]);
    config.hooks.create_runtime.push(Hook { path: "/hook".into(), ..Hook::default() });
    assert_eq!(late_order(&config), ["/data", "wait", "namespace", "/sys/fs/cgroup", "hooks"]);
    // A mount below it needs it.
    config.mounts.push(mount("tmpfs", "/sys/fs/cgroup/x"));
    assert_eq!(
        late_order(&config),
        ["wait", "namespace", "/sys/fs/cgroup", "/data", "/sys/fs/cgroup/x", "hooks"]
    );
    config = Config::default();
    assert_eq!(late_order(&config), ["wait", "namespace"]);
}

#[test]
fn cgroup_v1_hierarchies_are_bound_as_the_mount_says() {
    for flags in [0, 1] {
        let mounts = vec![Mount { flags, ..mount("cgroup", "/sys/fs/cgroup") }];
        let config = Config { mounts, ..Config::default() };
        let cgroups = [("cpu", "/c/cpu/x"), ("cpuacct", "/c/cpu/x"), ("memory", "/c/memory/x")]
            .map(|(controller, path)| (controller.into(), path.into()))
            .into();
        let plan = compile(&config, &process(), &Facts { cgroups, ..facts() }).unwrap();
        let places: Vec<String> = plan
            .operations()
            .filter_map(|op| match op {
                Op::Attach { at, .. } => Some(at.0.to_string_lossy().into_owned()),
                Op::MakeLink { path, .. } => Some(path.0.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(
            places,
            [
                "/sys/fs/cgroup",
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/cpu",
                "/sys/fs/cgroup/cpuacct",
                "/sys/fs/cgroup/memory",
            ]
        );
        let sets = |op| matches!(op, Op::SetAttributes { set: 1, .. });
        let read_only = plan.operations().filter(|op| sets(*op)).count();
        assert_eq!(read_only, if flags == 0 { 0 } else { 2 });
    }
}

/// What the cgroup2 file system shows, or which directory is bound in its place.
#[test]
fn a_user_namespace_binds_cgroup_v2_that_it_may_not_mount() {
    const USER: &str = "/sys/fs/cgroup/x";
    for (in_user_namespace, joined, bound) in [
        (false, vec![], None),
        (false, vec![(NEWCGROUP, PathBuf::from("/ns"))], None),
        (true, vec![], Some("/sys/fs/cgroup")),
        (true, vec![(NEWCGROUP, PathBuf::from("/ns"))], Some(USER)),
    ] {
        let mounts = vec![mount("cgroup", "/sys/fs/cgroup")];
        let config = Config { mounts, ..Config::default() };
        let cgroups = [(String::new(), PathBuf::from(USER))].into();
        let facts = Facts { in_user_namespace, joined, cgroups, ..facts() };
        let plan = compile(&config, &process(), &facts).unwrap();
        let made = |op| matches!(op, Op::MakeMount { fstype, .. } if fstype.0 == c"cgroup2");
        assert_eq!(plan.operations().any(made), bound.is_none());
        let sources = plan.parts().iter().flat_map(|part| &part.sources);
        let paths: Vec<&Path> = sources
            .filter_map(|source| match source {
                Source::Tree { path, .. } => Some(path.as_path()),
                _ => None,
            })
            .collect();
        assert_eq!(paths[1..], Vec::from_iter(bound.map(Path::new)));
    }
}

/// Without pivot_root(2) the procs of the host are covered: after the container's own were made,
/// which need them, and before the root is attached.
#[test]
fn bare_mounts_are_covered_before_the_root_is_attached() {
    let config =
        Config { mounts: vec![mount("proc", "/proc")], no_pivot_root: true, ..Config::default() };
    let bare = vec![PathBuf::from("/chroot/proc"), PathBuf::from("/proc")];
    let facts = Facts { new: NEWNS | NEWPID, in_user_namespace: true, bare, ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    assert_eq!(
        names(&plan)[..6],
        ["mount", "mount", "attach", "mount", "attach", "mount attributes"]
    );
    assert!(position(&plan, "attach") < position(&plan, "root"));
    let same = Config { no_pivot_root: false, ..config };
    let plan = compile(&same, &process(), &facts).unwrap();
    assert!(position(&plan, "root") < position(&plan, "attach"));
}

#[test]
fn a_filter_is_part_of_exec_only_with_no_new_privileges() {
    let with = |no_new_privileges| {
        let filter = Some((0, vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f]));
        let process = Process { seccomp: filter, no_new_privileges, ..process() };
        compile(&Config::default(), &process, &facts()).unwrap()
    };
    let privileged = with(false);
    assert!(position(&privileged, "seccomp") < position(&privileged, "capabilities"));
    let last = with(true);
    assert!(!names(&last).contains(&"seccomp"));
    assert!(last.operations().any(|op| matches!(op, Op::Exec { filter, .. } if filter.len() == 8)));
}

#[test]
fn a_tmpfs_with_a_copy_becomes_read_only_after_it() {
    let copy = Mount { flags: 1, copy_up: true, ..mount("tmpfs", "/x") };
    let config = Config { mounts: vec![copy], ..Config::default() };
    let plan = compile(&config, &process(), &facts()).unwrap();
    let made = |op| matches!(op, Op::MakeMount { attributes, .. } if attributes & 1 != 0);
    assert!(!plan.operations().any(made));
    let after = plan.operations().skip_while(|op| !matches!(op, Op::CopyUp { .. }));
    let after: Vec<_> = after.collect();
    assert!(matches!(after[1..], [Op::Attach { .. }, Op::Remount { set: 1, .. }, ..]));
}

#[test]
fn clearing_noatime_clears_the_whole_access_time_field() {
    let atime = Mount { flags: 4096, cleared: 1024, ..mount("bind", "/x") };
    let config = Config { mounts: vec![atime], ..Config::default() };
    let plan = compile(&config, &process(), &facts()).unwrap();
    let cleared =
        |op| matches!(op, Op::SetAttributes { set: 0, clear, .. } if clear & 0x70 == 0x70);
    assert!(plan.operations().any(cleared));
}

#[test]
fn joining_a_namespace_needs_a_fork() {
    let joined = vec![(NEWNET, PathBuf::from("/run/netns/x"))];
    let facts = Facts { joined, ..facts() };
    let plan = compile(&Config::default(), &process(), &facts).unwrap();
    assert_eq!(names(&plan)[..2], ["setns", "fork"]);
    assert!(plan.operations().any(|op| op == Op::Fork { flags: NEWNS }));
}

#[test]
fn a_thousand_sources_are_split_into_parts() {
    let bind = |number| Mount {
        source: format!("/data/{number}"),
        flags: 4096,
        ..mount("bind", &format!("/data/{number}"))
    };
    let config = Config { mounts: (0..1000).map(bind).collect(), ..Config::default() };
    let plan = compile(&config, &process(), &facts()).unwrap();
    assert!(plan.parts().len() > 3);
    for part in plan.parts() {
        assert!(part.sources.len() <= 252);
        for op in part.operations() {
            if let Op::SetAttributes { mount, .. } = op
                && mount.0 < 256
            {
                assert!(usize::from(mount.0) < part.sources.len(), "a slot of another part");
            }
        }
    }
}

#[test]
fn programs_are_searched_in_the_path_of_their_environment() {
    let plan = compile(&Config::default(), &process(), &facts()).unwrap();
    let Some(Op::Exec { candidates, .. }) = plan.operations().last() else { panic!("no exec") };
    let candidates: Vec<_> = candidates.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(candidates, ["/a/sh", "/b/sh"]);
}

#[test]
fn arguments_that_exec_would_refuse_are_an_error() {
    let refused = |process: Process| compile(&Config::default(), &process, &facts()).unwrap_err();
    let long = refused(Process { args: vec!["x".into(), "y".repeat(131_072).into()], ..process() });
    assert_eq!(long.code(), Code::ConfigInvalid);
    assert!(long.to_string().contains("longer than 131071 bytes"));
    let many = refused(Process { args: vec!["y".repeat(100_000).into(); 70], ..process() });
    assert!(many.to_string().contains("6291456"));
    for env in ["A", "=b", ""] {
        let error = refused(Process { env: vec![env.into()], ..process() });
        assert!(error.to_string().contains("NAME=value"), "{error}");
    }
    assert!(refused(Process { args: vec![], ..process() }).to_string().contains("no program"));
    assert!(
        refused(Process { args: vec!["a\0b".into()], ..process() }).to_string().contains("NUL")
    );
}

#[test]
fn joining_a_container_enters_all_namespaces_in_one_call() {
    let joined = super::join::Joined {
        flags: NEWNS | NEWUSER,
        keyring: Some("_ses.x".into()),
        clocks: None,
    };
    let plan = super::join::compile(&Config::default(), &process(), &joined).unwrap();
    assert_eq!(names(&plan)[..4], ["setns", "fork", "set ids", "session keyring"]);
    assert_eq!(plan.parts()[0].sources, [Source::Container]);
}

#[test]
fn paths_cannot_leave_the_root() {
    for (path, cleaned) in
        [("a//b/./c", "/a/b/c"), ("/../../x", "/x"), ("/a/../../b/", "/b"), ("", "/"), ("/", "/")]
    {
        assert_eq!(clean(path), cleaned);
    }
}

#[test]
fn the_init_takes_the_smallest_mapped_ids() {
    let map = |container_id| IdMap { container_id, host_id: 1000, size: 1 };
    let config = Config {
        uid_mappings: vec![map(5), map(0)],
        gid_mappings: vec![map(7)],
        ..Config::default()
    };
    let facts = Facts { new: NEWUSER | NEWNS, in_user_namespace: true, ..facts() };
    let plan = compile(&config, &process(), &facts).unwrap();
    assert_eq!(plan.operations().next(), Some(Op::Ids { uid: 0, gid: 7 }));
    assert_eq!(NEWUSER, 0x1000_0000);
}

/// What is done under a filter must be allowed by it.
#[test]
fn little_is_done_after_the_filter() {
    let config = Config { rootfs: "/root".into(), ..Config::default() };
    for (uid, no_new_privileges) in [(0, false), (7, false), (7, true)] {
        let process = Process {
            cwd: "/work".into(),
            seccomp: Some((0, vec![6, 0, 0, 0, 0, 0, 0, 0])),
            parent_death_signal: 9,
            search: 4,
            uid,
            no_new_privileges,
            ..process()
        };
        let plan = compile(&config, &process, &facts()).unwrap();
        let ops: Vec<_> = plan.operations().collect();
        let Some(Op::Exec { filter, .. }) = ops.last() else { panic!("{plan}") };
        assert_eq!(filter.is_empty(), !no_new_privileges);
        let at = |name| ops.iter().position(|op| op.name() == name).unwrap();
        // The program is found, and so tried once.
        assert!(matches!(ops[at("exec")], Op::FindProgram { .. }), "{plan}");
        assert!(at("set ids") < at("chdir"), "{plan}");
        if !no_new_privileges {
            let names: Vec<_> = ops[at("seccomp")..].iter().map(Op::name).collect();
            assert_eq!(names, ["seccomp", "capabilities", "exec"], "{plan}");
        }
        let raised = ops.iter().find_map(|op| match *op {
            Op::Capabilities { effective, .. } => Some(effective),
            _ => None,
        });
        let load = if no_new_privileges { 0 } else { 1 << 21 };
        assert_eq!(raised, Some(if uid == 0 { 0 } else { 4 | load }), "{plan}");
    }
}
