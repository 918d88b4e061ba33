//! From the text of `config.json` to a configuration and a process, as a whole.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::mount::flags::{BIND, NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY, REC, SLAVE};
use crate::config::{Config, NamespaceType};
use crate::{Code, TerminalSize};

/// A bundle on disk, removed with the directory.
fn bundle(text: &str) -> (TempDir, Result<Bundle>) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("rootfs")).unwrap();
    fs::write(directory.path().join("config.json"), text).unwrap();
    let bundle = Bundle::open(directory.path());
    (directory, bundle)
}

fn sample(name: &str) -> (TempDir, Bundle) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/oci");
    let (directory, bundle) = bundle(&fs::read_to_string(directory.join(name)).unwrap());
    (directory, bundle.unwrap())
}

/// The default configuration with one property changed; `null` takes it away.
fn changed(pointer: &str, value: Value) -> String {
    let mut document = serde_json::to_value(default::spec(None)).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        Value::Object(object) if value.is_null() => {
            object.remove(name);
        }
        parent => parent[name] = value,
    }
    document.to_string()
}

fn made(text: &str) -> Result<(Config, crate::Process)> {
    let (_directory, bundle) = bundle(text);
    let bundle = bundle?;
    Ok((bundle.config()?, bundle.process()?))
}

fn made_with(pointer: &str, value: Value) -> (Config, crate::Process) {
    made(&changed(pointer, value)).unwrap()
}

fn mount<'a>(config: &'a Config, destination: &str) -> &'a crate::config::Mount {
    config.mounts.iter().find(|mount| mount.destination == destination).unwrap()
}

#[test]
fn dockers_configuration_is_understood() {
    let (directory, bundle) = sample("docker.json");
    let config = bundle.config().unwrap();
    assert_eq!(config.rootfs, directory.path().canonicalize().unwrap().join("rootfs"));
    assert_eq!(config.bundle, bundle.directory);
    assert_eq!(config.hostname, "b0ea352a5955");
    assert_eq!(config.namespaces.len(), 5);
    assert_eq!(config.networks.len(), 1);
    let data = mount(&config, "/data");
    assert_eq!((data.device.as_str(), data.source.as_str()), ("bind", "/srv/data"));
    assert_eq!((data.flags, data.propagation), (BIND | REC | RDONLY, PRIVATE | REC));
    let shm = mount(&config, "/dev/shm");
    assert_eq!(shm.flags, NOSUID | NOEXEC | NODEV);
    assert_eq!(shm.data, "mode=1777,size=67108864");
    assert_eq!(config.devices.len(), 6);
    assert_eq!(config.hooks.prestart[0].args[0], "libnetwork-setkey");
    assert_eq!(config.system_properties["net.ipv4.ip_unprivileged_port_start"], "0");
    let cgroup = config.cgroups.as_ref().unwrap();
    assert!(cgroup.parent == "/docker" && cgroup.name.starts_with("b0ea352a5955"));
    assert_eq!((cgroup.memory, cgroup.cpu_quota), (64 << 20, 50000));
    assert!(config.seccomp_profile.as_ref().unwrap().profile().unwrap().is_some());
    assert!(config.new_keyring);

    let process = bundle.process().unwrap();
    assert_eq!(process.args, ["/bin/sh"]);
    assert_eq!(process.terminal, Some(TerminalSize::default()));
    let sets = process.capability_sets.unwrap();
    assert_eq!((sets.bounding.len(), sets.ambient.len()), (14, 0));
    assert_eq!(process.ids.unwrap().groups, [0]);
    assert_eq!(process.oom_score_adj, Some(0));
    assert!(bundle.warnings().is_empty());
}

#[test]
fn podmans_configuration_is_understood() {
    let (_directory, bundle) = sample("podman.json");
    let config = bundle.config().unwrap();
    let shm = mount(&config, "/dev/shm");
    assert_eq!(shm.flags, BIND | NOSUID | NOEXEC | NODEV);
    assert_eq!(shm.propagation, PRIVATE | REC);
    let cgroup = mount(&config, "/sys/fs/cgroup");
    assert_eq!(cgroup.device, "cgroup");
    assert_eq!(config.cgroups.as_ref().unwrap().pids_limit, 2048);
    assert_eq!(config.annotations["io.container.manager"], "libpod");
    let process = bundle.process().unwrap();
    assert_eq!(process.ids.unwrap().umask, Some(0o22));
    let limits = process.rlimits.unwrap();
    assert_eq!((limits[1].kind, limits[1].soft), (libc::RLIMIT_NPROC, 32768));
    assert_eq!(config.rlimits, limits);
}

#[test]
fn containerds_configuration_of_a_pod_is_understood() {
    let (_directory, bundle) = sample("containerd.json");
    let config = bundle.config().unwrap();
    let network = config.namespace(NamespaceType::Network).unwrap();
    assert_eq!(network.path, "/proc/4711/ns/net");
    assert!(config.networks.is_empty());
    assert!(config.readonlyfs && config.has_new(NamespaceType::Cgroup));
    let bpf = mount(&config, "/sys/fs/bpf");
    assert_eq!((bpf.flags, bpf.cleared, bpf.propagation), (BIND | REC, RDONLY, SLAVE | REC));
    let cgroup = config.cgroups.unwrap();
    assert_eq!(cgroup.parent, "/kubepods/besteffort/pod1b4e28ba-2fa1-11d2-883f-0016d3cca427");
    assert_eq!(cgroup.unified["memory.oom.group"], "1");
    let process = bundle.process().unwrap();
    assert!(process.no_new_privileges);
    assert_eq!(process.oom_score_adj, Some(1000));
}

#[test]
fn the_configuration_to_start_from_is_valid() {
    for rootless in [None, Some((1000, 100))] {
        let text = serde_json::to_string_pretty(&default::spec(rootless)).unwrap();
        assert_eq!(Spec::from_json(text.as_bytes()).unwrap(), default::spec(rootless));
        let (config, process) = made(&text).unwrap();
        assert_eq!(process.args, ["sh"]);
        assert_eq!(config.cgroups.as_ref().unwrap().name, "", "the id is not known yet");
        assert_eq!(config.has_new(NamespaceType::User), rootless.is_some());
        assert_eq!(config.has_new(NamespaceType::Network), rootless.is_none());
        assert_eq!(config.host_uid(), Some(rootless.map_or(0, |(uid, _)| uid)));
        assert!(config.mask_paths.contains(&"/sys/devices/virtual/powercap".to_owned()));
        if rootless.is_some() {
            assert_eq!(mount(&config, "/sys").device, "bind");
            assert!(!mount(&config, "/dev/pts").data.contains("gid="));
        }
    }
}

#[test]
fn configurations_come_back_from_the_containers_state() {
    for name in ["docker.json", "podman.json", "containerd.json"] {
        let (_directory, bundle) = sample(name);
        let config = bundle.config().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config, "{name}");
        let spec = serde_json::to_vec(&bundle.spec).unwrap();
        assert_eq!(Spec::from_json(&spec).unwrap(), bundle.spec, "{name}");
    }
}

#[test]
fn a_bundle_is_found_through_links() {
    let (directory, opened) = bundle(&serde_json::to_string(&default::spec(None)).unwrap());
    let real = opened.unwrap().directory;
    let root = real.join("rootfs");
    fs::remove_dir(&root).unwrap();
    fs::create_dir(real.join("layer")).unwrap();
    symlink("layer", &root).unwrap();
    symlink(&real, directory.path().join("again")).unwrap();
    let config = Bundle::open(directory.path().join("again")).unwrap().config().unwrap();
    assert_eq!((config.bundle, config.rootfs), (real.clone(), real.join("layer")));

    fs::remove_file(&root).unwrap();
    let error = Bundle::open(&real).unwrap().config().unwrap_err();
    assert_eq!(error.code(), Code::ConfigInvalid);
    let text = format!("open `{}`: No such file or directory", root.display());
    assert_eq!(error.to_string(), text);

    fs::remove_file(real.join("config.json")).unwrap();
    let error = Bundle::open(&real).unwrap_err().to_string();
    let file = real.join("config.json");
    assert_eq!(error, format!("open `{}`: No such file or directory", file.display()));
    assert!(Bundle::open(real.join("absent")).is_err());
}

/// What goes wrong: the property, its value, and the whole text of the error.
fn refusals() -> Vec<(&'static str, Value, &'static str)> {
    let twice = json!([{"type": "pid"}, {"type": "pid"}]);
    let user = json!([{"type": "mount"}, {"type": "user"}]);
    vec![
        ("/ociVersion", json!(""), "`ociVersion`: missing"),
        (
            "/ociVersion",
            json!("2.0.0"),
            "`ociVersion = \"2.0.0\"`: only versions 1.* of the specification are supported",
        ),
        ("/vm", json!({}), "`vm`: virtual machines are not supported"),
        ("/root", Value::Null, "`root`: missing"),
        ("/root/path", json!(""), "`root.path`: missing"),
        ("/process", Value::Null, "`process`: missing"),
        ("/process/args", json!([]), "`process.args`: names no program"),
        ("/process/cwd", json!("tmp"), "`process.cwd = \"tmp\"`: must be an absolute path"),
        ("/process/cwd", Value::Null, "`process.cwd = \"\"`: must be an absolute path"),
        ("/process/env/1", json!("TERM"), "`process.env[1] = \"TERM\"`: must be NAME=value"),
        ("/process/env/0", json!("=x"), "`process.env[0] = \"=x\"`: must be NAME=value"),
        (
            "/process/user",
            json!({"uid": u32::MAX}),
            "`process.user.uid = 4294967295`: is no id: the kernel reads it as no change",
        ),
        (
            "/process/consoleSize",
            json!({"height": 1, "width": 65536}),
            "`process.consoleSize.width = 65536`: must be from 0 to 65535",
        ),
        (
            "/process/rlimits/0/type",
            json!("RLIMIT_FILES"),
            "`process.rlimits[0].type = \"RLIMIT_FILES\"`: unknown resource limit",
        ),
        (
            "/process/rlimits/0/type",
            json!("NOFILE"),
            "`process.rlimits[0].type = \"NOFILE\"`: unknown resource limit",
        ),
        (
            "/process/rlimits/0/soft",
            json!(1025),
            "`process.rlimits[0].type = \"RLIMIT_NOFILE\"`: \
             the soft limit 1025 is above the hard limit 1024",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_AS", "hard": 1, "soft": 1},
                   {"type": "RLIMIT_AS", "hard": 1, "soft": 1}]),
            "`process.rlimits[1].type = \"RLIMIT_AS\"`: stands more than once",
        ),
        (
            "/process/oomScoreAdj",
            json!(-1001),
            "`process.oomScoreAdj = -1001`: must be from -1000 to 1000",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FAIR"}),
            "`process.scheduler.policy = \"SCHED_FAIR\"`: unknown policy",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "flags": ["SCHED_FLAG_X"]}),
            "`process.scheduler.flags[0] = \"SCHED_FLAG_X\"`: unknown flag",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "`process.scheduler.nice = 20`: must be from -20 to 19",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "priority": 1}),
            "`process.scheduler.priority = 1`: is for SCHED_FIFO and SCHED_RR, from 1 up",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "period": 1}),
            "`process.scheduler.period = 1`: is for SCHED_DEADLINE",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_NONE"}),
            "`process.ioPriority.class = \"IOPRIO_CLASS_NONE\"`: unknown class",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "`process.ioPriority.priority = 8`: must be from 0 to 7",
        ),
        (
            "/process/execCPUAffinity",
            json!({"initial": "0-"}),
            "`process.execCPUAffinity.initial = 0-`: is not a list of numbers like 0-2,7",
        ),
        (
            "/process/execCPUAffinity",
            json!({"final": ","}),
            "`process.execCPUAffinity.final = \",\"`: names no processor",
        ),
        ("/hostname", json!("a\nb"), "`hostname = \"a\\nb\"`: has a control character"),
        (
            "/mounts/0/type",
            json!("none"),
            "`mounts[0].type = \"none\"`: is no file system; a bind has the option bind or rbind",
        ),
        ("/mounts/0/type", Value::Null, "`mounts[0].type = \"\"`: missing"),
        ("/mounts/0/type", json!("a/b"), "`mounts[0].type = \"a/b\"`: is no name of a file system"),
        ("/mounts/0", json!({"destination": "/x", "type": "bind"}), "`mounts[0].source`: missing"),
        (
            "/mounts/0/destination",
            json!("/proc/self"),
            "`mounts[0].destination = \"/proc/self\"`: must not be inside /proc",
        ),
        (
            "/mounts/1/options",
            json!(["nosuid", "private", "rshared"]),
            "`mounts[1].options[2] = \"rshared\"`: more than one kind of propagation",
        ),
        (
            "/mounts/1/options",
            json!(["remount"]),
            "`mounts[1].options[0] = \"remount\"`: a new mount cannot be a remount",
        ),
        (
            "/mounts/0/options",
            json!(["tmpcopyup"]),
            "`mounts[0].options = true`: only a tmpfs can begin with a copy",
        ),
        (
            "/mounts/1/options",
            json!(["idmap"]),
            "`mounts[1]`: needs ids of its own, or a user namespace (NEWUSER)",
        ),
        (
            "/mounts/1/uidMappings",
            json!([{"containerID": 0, "hostID": 5, "size": 1}]),
            "`mounts[1]`: only a bind can have ids of its own",
        ),
        (
            "/linux/namespaces/1/type",
            json!("net"),
            "`linux.namespaces[1].type = \"net\"`: unknown namespace",
        ),
        ("/linux/namespaces", twice, "`linux.namespaces[1].type = \"pid\"`: stands more than once"),
        (
            "/linux/namespaces/1/path",
            json!("ns/net"),
            "`linux.namespaces[1].path = \"ns/net\"`: must be an absolute path",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "network"}, {"type": "uts"}]),
            "`mounts`: needs a new mount namespace (NEWNS)",
        ),
        (
            "/linux/uidMappings",
            json!([{"containerID": 0, "hostID": 0, "size": 1}]),
            "`linux.uidMappings`: needs a new user namespace (NEWUSER)",
        ),
        ("/linux/namespaces", user, "`linux.uidMappings`: id 0 of the container is not mapped"),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1}}),
            "`linux.timeOffsets`: needs a new time namespace (NEWTIME)",
        ),
        (
            "/linux/devices",
            json!([{"type": "x", "path": "/dev/x"}]),
            "`linux.devices[0].type = \"x\"`: must be c, b, u or p",
        ),
        (
            "/linux/devices",
            json!([{"type": "c", "path": "dev/x", "major": 1, "minor": 1}]),
            "`linux.devices[0].path = \"dev/x\"`: must be an absolute path",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "a/b"}}),
            "`linux.netDevices.eth0 = \"a/b\"`: \
             has a slash, a colon, a percent sign or a space",
        ),
        (
            "/linux/cgroupsPath",
            json!("a.slice:b:c"),
            "`linux.cgroupsPath = a.slice:b:c`: \
             needs the systemd cgroup driver; this is the cgroupfs driver",
        ),
        (
            "/linux/resources/cpu",
            json!({"shares": 1}),
            "`linux.resources.cpu.shares = 1`: the minimum allowed cpu-shares is 2",
        ),
        (
            "/linux/rootfsPropagation",
            json!("rbind"),
            "`linux.rootfsPropagation = \"rbind\"`: unknown propagation",
        ),
        (
            "/linux/maskedPaths/0",
            json!("proc"),
            "`linux.maskedPaths[0] = \"proc\"`: must be an absolute path",
        ),
        (
            "/linux/sysctl",
            json!({"kernel.core_pattern": "|/x"}),
            "`linux.sysctl.kernel.core_pattern = \"|/x\"`: \
             is not in a namespace, it would change the host",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_FOO"}),
            "`linux.seccomp.defaultAction = \"SCMP_ACT_FOO\"`: unknown action",
        ),
        ("/linux/intelRdt", json!({}), "`linux.intelRdt`: Intel RDT is not supported"),
        (
            "/linux/personality",
            json!({"domain": "SVR4"}),
            "`linux.personality.domain = \"SVR4\"`: unknown domain",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["X"]}),
            "`linux.personality.flags[0] = \"X\"`: unknown flag",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_FOO"}),
            "`linux.memoryPolicy.mode = \"MPOL_FOO\"`: unknown policy",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND"}),
            "`linux.memoryPolicy.mode = \"MPOL_BIND\"`: needs nodes",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}),
            "`linux.memoryPolicy.flags[0] = \"MPOL_F_X\"`: unknown flag",
        ),
        (
            "/hooks",
            json!({"poststop": [{"path": "x"}]}),
            "`hooks.poststop[0].path = \"x\"`: must be an absolute path",
        ),
    ]
}

#[test]
fn what_cannot_be_honoured_is_named_with_its_place() {
    for (pointer, value, text) in refusals() {
        let error = made(&changed(pointer, value.clone())).expect_err(pointer);
        assert_eq!(error.code(), Code::ConfigInvalid, "{pointer}");
        assert_eq!(error.to_string(), format!("configuration {text}"), "{pointer} {value}");
    }
}

#[test]
fn sections_of_other_platforms_are_ignored_beside_linux() {
    made_with("/windows", json!({"layerFolders": []}));
    let mut alone: Value = serde_json::from_str(&changed("/windows", json!({}))).unwrap();
    alone.as_object_mut().unwrap().remove("linux");
    let error = made(&alone.to_string()).unwrap_err().to_string();
    assert_eq!(error, "configuration `windows`: this is Linux, and linux is missing");
}

#[test]
fn unknown_properties_are_ignored_and_wrong_types_are_not() {
    made_with("/linux/newThing", json!({"a": [1]}));
    made_with("/process/user/username", json!("x"));
    let error = made(&changed("/process/args", json!("sh"))).unwrap_err().to_string();
    let place = "config.json line 1 column ";
    assert!(error.starts_with("configuration `process.args = \"sh\"`: expected a"), "{error}");
    assert!(error.contains(place), "{error}");
    let error = made("{").unwrap_err().to_string();
    assert!(error.contains("config.json line 1 column 1`: EOF while parsing"), "{error}");
    assert!(made("[]").is_err() && made("").is_err());
    let deep = "[".repeat(1 << 20);
    assert!(made(&format!("{{\"ociVersion\":\"1.0.0\",\"windows\":{deep}")).is_err());
}

#[test]
fn namespaces_of_all_kinds_are_new_or_joined() {
    let all: Vec<Value> = linux::NAMESPACES
        .iter()
        .map(|(kind, _)| json!({"type": kind, "path": if *kind == "mount" { "" } else { "/x" }}))
        .collect();
    let (config, _) = made_with("/linux/namespaces", json!(all));
    assert_eq!(config.namespaces.len(), 8);
    assert!(config.networks.is_empty(), "an interface of a network that is joined is left alone");
}

#[test]
fn a_user_namespace_that_is_joined_has_its_own_maps() {
    let maps = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let mut document: Value =
        serde_json::from_str(&changed("/linux/uidMappings", maps.clone())).unwrap();
    let namespaces = json!([{"type": "mount"}, {"type": "uts"}, {"type": "user", "path": "/x"}]);
    document["linux"]["namespaces"] = namespaces;
    let (_directory, bundle) = bundle(&document.to_string());
    let bundle = bundle.unwrap();
    assert!(bundle.config().unwrap().uid_mappings.is_empty());
    let text = "configuration `linux.uidMappings`: \
                the user namespace that is joined has its own, ignored";
    assert_eq!(bundle.warnings(), [text]);
}

#[test]
fn every_property_of_linux_has_its_field() {
    let mut document: Value = serde_json::from_str(&changed("/domainname", json!("nis"))).unwrap();
    let linux = &mut document["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    linux["timeOffsets"] = json!({"monotonic": {"secs": -5, "nanosecs": 7}});
    linux["devices"] = json!([
        {"type": "u", "path": "/dev/tty", "major": 5, "minor": 0, "fileMode": 0o20620, "gid": 5},
        {"type": "p", "path": "/run/fifo"}]);
    linux["netDevices"] = json!({"eth0": {"name": "net0"}, "eth1": {}});
    linux["rootfsPropagation"] = json!("rshared");
    linux["mountLabel"] = json!("system_u:object_r:x:s0");
    linux["sysctl"] = json!({"kernel.domainname": "x", "net/ipv4/ip_forward": "1"});
    linux["personality"] = json!({"domain": "LINUX32"});
    linux["memoryPolicy"] =
        json!({"mode": "MPOL_BIND", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]});
    let (config, _) = made(&document.to_string()).unwrap();
    assert_eq!(config.domainname, "nis");
    assert_eq!(config.time_offsets["monotonic"].secs, -5);
    assert_eq!(config.devices.len(), 7, "the default devices but the one that is given");
    let tty = &config.devices[0];
    assert_eq!((tty.kind, tty.file_mode, tty.gid), ('c', 0o620, 5));
    assert_eq!((config.devices[1].kind, config.devices[1].file_mode), ('p', 0o666));
    assert_eq!((&*config.net_devices["eth0"], &*config.net_devices["eth1"]), ("net0", "eth1"));
    assert_eq!(config.root_propagation, libc::MS_SHARED | REC);
    assert_eq!(config.mount_label, "system_u:object_r:x:s0");
    assert_eq!(config.personality, Some(8));
    let policy = config.memory_policy.unwrap();
    assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, vec![0, 1]));
}

#[test]
fn a_container_in_the_hosts_mounts_has_no_devices_of_its_own() {
    let text = json!({"ociVersion": "1.0.0", "root": {"path": "rootfs"},
        "process": {"args": ["x"], "cwd": "/"}});
    let (config, process) = made(&text.to_string()).unwrap();
    assert!(config.devices.is_empty() && config.namespaces.is_empty());
    assert_eq!(process.capability_sets, Some(crate::config::CapabilitySets::default()));
}

#[test]
fn features_are_those_of_the_specification() {
    let features = serde_json::to_value(features()).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["mountOptions"].as_array().unwrap().len(), 61);
    assert_eq!(features["linux"]["capabilities"][0], "CAP_CHOWN");
    assert_eq!(features["linux"]["capabilities"].as_array().unwrap().len(), 41);
    assert_eq!(features["linux"]["namespaces"].as_array().unwrap().len(), 8);
    assert_eq!(features["linux"]["cgroup"]["systemdUser"], false);
    assert_eq!(features["linux"]["seccomp"]["archs"].as_array().unwrap().len(), 23);
    assert_eq!(features["linux"]["intelRdt"]["enabled"], false);
}

#[test]
fn a_state_is_written_as_runc_writes_it() {
    let annotations = [("a".to_owned(), "b".to_owned())].into();
    let state = State::new("box", Status::Running, Some(7), "/srv/box", &annotations);
    let text = r#"{"ociVersion":"1.3.0","id":"box","pid":7,"status":"running","bundle":"/srv/box","annotations":{"a":"b"}}"#;
    assert_eq!(serde_json::to_string(&state).unwrap(), text);
    assert_eq!(serde_json::from_str::<State>(text).unwrap(), state);
    let state = State::new("box", Status::Creating, None, "/srv/box", &Default::default());
    let text = r#"{"ociVersion":"1.3.0","id":"box","status":"creating","bundle":"/srv/box"}"#;
    assert_eq!(serde_json::to_string(&state).unwrap(), text);
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    let names = [
        "type",
        "path",
        "options",
        "destination",
        "source",
        "names",
        "action",
        "args",
        "hostID",
        "size",
        "policy",
        "nodes",
        "devices",
        "uid",
        "fileMode",
        "mode",
    ];
    let key = prop::sample::select(names.to_vec());
    scalar.prop_recursive(3, 24, 4, move |inner| {
        let entry = (key.clone().prop_map(str::to_owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Into::into),
            prop::collection::vec(entry, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_of_a_property_panics(index in 0usize..40, value in value()) {
        let pointers = ["/process", "/process/user", "/process/env", "/process/capabilities",
            "/process/rlimits", "/process/scheduler", "/process/ioPriority",
            "/process/execCPUAffinity", "/process/consoleSize", "/mounts", "/mounts/0",
            "/mounts/0/options", "/hooks", "/annotations", "/linux", "/linux/namespaces",
            "/linux/uidMappings", "/linux/devices", "/linux/netDevices", "/linux/sysctl",
            "/linux/seccomp", "/linux/personality", "/linux/memoryPolicy", "/linux/timeOffsets",
            "/linux/resources", "/linux/cgroupsPath", "/linux/maskedPaths", "/hostname"];
        let text = changed(pointers[index % pointers.len()], value);
        if let Ok(spec) = Spec::from_json(text.as_bytes()) {
            let bundle = Bundle { directory: PathBuf::from("/"), spec };
            let _ = (bundle.config(), bundle.process(), bundle.warnings());
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = (Spec::from_json(&bytes), Process::from_json(&bytes));
    }
}
