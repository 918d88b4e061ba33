//! Tests of the whole way from the text of `config.json` to a configuration and a process.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

mod refusal;

use super::*;
use crate::config::mount::flags::{BIND, NODEV, NOEXEC, NOSUID, PRIVATE, RDONLY, REC, SLAVE};
use crate::config::{Config, NamespaceType};
use crate::{Code, TerminalSize};

/// Writes a bundle to a temporary directory and opens it.
fn bundle(text: &str) -> (TempDir, Result<Bundle>) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("rootfs")).unwrap();
    fs::write(directory.path().join("config.json"), text).unwrap();
    let bundle = Bundle::open(directory.path());
    (directory, bundle)
}

fn sample(name: &str) -> (TempDir, Bundle) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/oci");
    let (directory, bundle) = bundle(&fs::read_to_string(directory.join(name)).unwrap());
    (directory, bundle.unwrap())
}

/// `null` is what an absent property is, wherever one may be absent: Go's decoder does the same.
#[test]
fn null_is_an_absent_property() {
    /// Sets each member to `null` in turn, at every depth.
    fn each(value: &mut Value, document: &dyn Fn(&Value) -> Value, check: &dyn Fn(&Value, &Value)) {
        let names: Vec<String> = match value {
            Value::Object(object) => object.keys().cloned().collect(),
            Value::Array(list) => (0..list.len()).map(|index| index.to_string()).collect(),
            _ => return,
        };
        for name in names {
            if let Value::Object(object) = value {
                let own = object.insert(name.clone(), Value::Null).unwrap();
                let with_null = document(&Value::Object(object.clone()));
                object.remove(&name);
                check(&with_null, &document(&Value::Object(object.clone())));
                object.insert(name.clone(), own);
            }
            let copy = value.clone();
            let place = match value {
                Value::Object(object) => object.get_mut(&name),
                Value::Array(list) => list.get_mut(name.parse::<usize>().unwrap()),
                _ => None,
            };
            let within = |inner: &Value| {
                let mut outer = copy.clone();
                match &mut outer {
                    Value::Object(object) => object[&name] = inner.clone(),
                    Value::Array(list) => list[name.parse::<usize>().unwrap()] = inner.clone(),
                    _ => {}
                }
                document(&outer)
            };
            each(place.unwrap(), &within, check);
        }
    }
    for name in ["docker.json", "podman.json", "containerd.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/oci").join(name);
        let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        each(&mut value, &Value::clone, &|with_null, without| {
            let read = |value: &Value| Spec::from_json(value.to_string().as_bytes());
            match (read(with_null), read(without)) {
                (Ok(with_null), Ok(without)) => assert_eq!(with_null, without),
                (Err(with_null), Err(without)) => {
                    let missing = |error: &Error| error.to_string().contains("missing");
                    assert!(missing(&with_null) && missing(&without), "{with_null}");
                }
                (with_null, without) => panic!("{with_null:?} and {without:?}"),
            }
        });
    }
}

/// Returns the default configuration with one property replaced; `null` removes it.
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
fn configuration_of_docker_is_lowered() {
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
fn configuration_of_podman_is_lowered() {
    let (_directory, bundle) = sample("podman.json");
    let config = bundle.config().unwrap();
    let shm = mount(&config, "/dev/shm");
    assert_eq!(shm.flags, BIND | NOSUID | NOEXEC | NODEV);
    assert_eq!(shm.propagation, PRIVATE | REC);
    let cgroup = mount(&config, "/sys/fs/cgroup");
    assert_eq!(cgroup.device, "cgroup");
    assert_eq!(config.cgroups.as_ref().unwrap().pids_limit, Some(2048));
    assert_eq!(config.annotations["io.container.manager"], "libpod");
    let process = bundle.process().unwrap();
    assert_eq!(process.ids.unwrap().umask, Some(0o22));
    let limits = process.rlimits.unwrap();
    assert_eq!((limits[1].kind, limits[1].soft), (libc::RLIMIT_NPROC, 32768));
    assert_eq!(config.rlimits, limits);
}

#[test]
fn configuration_of_a_containerd_pod_is_lowered() {
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
fn exec_cpu_affinity_applies_to_further_processes_only() {
    let text = changed("/process/execCPUAffinity", json!({"final": "0"}));
    let (_directory, bundle) = bundle(&text);
    let bundle = bundle.unwrap();
    assert_eq!(bundle.process().unwrap().affinity, None);
    assert_eq!(bundle.further_process().unwrap().affinity.unwrap().last, "0");
}

#[test]
fn default_configuration_is_valid() {
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
fn configurations_are_unchanged_by_writing_and_reading() {
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
fn bundle_paths_are_resolved() {
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

#[test]
fn unsupported_values_are_refused_with_their_property() {
    for (pointer, value, text) in refusal::all() {
        let error = made(&changed(pointer, value.clone())).expect_err(pointer);
        assert_eq!(error.code(), Code::ConfigInvalid, "{pointer}");
        assert_eq!(error.to_string(), format!("configuration {text}"), "{pointer} {value}");
    }
}

#[test]
fn sections_of_other_platforms_are_ignored_if_there_is_linux() {
    made_with("/windows", json!({"layerFolders": []}));
    let mut alone: Value = serde_json::from_str(&changed("/windows", json!({}))).unwrap();
    alone.as_object_mut().unwrap().remove("linux");
    let error = made(&alone.to_string()).unwrap_err().to_string();
    assert_eq!(error, "configuration `windows`: this is Linux, and linux is missing");
}

#[test]
fn unknown_properties_are_ignored_and_wrong_types_refused() {
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
fn namespaces_of_all_types_can_be_joined() {
    let all: Vec<Value> = linux::NAMESPACES
        .iter()
        .map(|(kind, _)| json!({"type": kind, "path": if *kind == "mount" { "" } else { "/x" }}))
        .collect();
    let (config, _) = made_with("/linux/namespaces", json!(all));
    assert_eq!(config.namespaces.len(), 8);
    assert!(config.networks.is_empty(), "an interface of a network that is joined is left alone");
}

#[test]
fn id_maps_of_a_joined_user_namespace_are_ignored_with_a_warning() {
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
fn id_maps_that_differ_from_the_joined_user_namespace_are_refused() {
    let of_own = fs::read_to_string("/proc/self/uid_map").unwrap();
    let lines = of_own.lines().map(|line| {
        let numbers: Vec<u32> =
            line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        json!({"containerID": numbers[0], "hostID": numbers[1], "size": numbers[2]})
    });
    let user = json!({"type": "user", "path": "/proc/self/ns/user"});
    let namespaces = json!([{"type": "mount"}, {"type": "uts"}, user]);
    let mut document: Value =
        serde_json::from_str(&changed("/linux/namespaces", namespaces)).unwrap();
    document["linux"]["uidMappings"] = lines.collect();
    made(&document.to_string()).unwrap();
    document["linux"]["uidMappings"] = json!([{"containerID": 3, "hostID": 3, "size": 3}]);
    assert_eq!(
        made(&document.to_string()).unwrap_err().to_string(),
        "configuration `linux.uidMappings`: is not the map of the user namespace that is joined"
    );
}

#[test]
fn properties_of_linux_are_lowered_to_fields() {
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
fn container_in_the_hosts_mounts_has_no_devices() {
    let text = json!({"ociVersion": "1.0.0", "root": {"path": "rootfs"},
        "process": {"args": ["x"], "cwd": "/"}});
    let (config, process) = made(&text.to_string()).unwrap();
    assert!(config.devices.is_empty() && config.namespaces.is_empty());
    assert_eq!(process.capability_sets, Some(crate::config::CapabilitySets::default()));
}

#[test]
fn features_list_what_is_supported() {
    let features = serde_json::to_value(features()).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["mountOptions"].as_array().unwrap().len(), 62);
    assert_eq!(features["linux"]["capabilities"][0], "CAP_CHOWN");
    assert_eq!(features["linux"]["capabilities"].as_array().unwrap().len(), 41);
    assert_eq!(features["linux"]["namespaces"].as_array().unwrap().len(), 8);
    assert_eq!(features["linux"]["cgroup"]["systemdUser"], true);
    assert_eq!(features["linux"]["seccomp"]["archs"].as_array().unwrap().len(), 23);
    let rdt = json!({"enabled": true, "schemata": true, "monitoring": true});
    assert_eq!(features["linux"]["intelRdt"], rdt);
    let unsafe_annotations = json!(["org.pidone.", "org.systemd.property.", "run.oci."]);
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], unsafe_annotations);
}

#[test]
fn state_has_the_form_of_runc() {
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
    fn arbitrary_property_values_do_not_panic(index in 0usize..40, value in value()) {
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
    fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
        let _ = (Spec::from_json(&bytes), Process::from_json(&bytes));
    }
}
