//! What errors say: the mount, the field, the limit; and the words that clients look for.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::need::controller;
use pidone_tests::{Bench, Need, set};

pub(crate) const CASES: &[Case] = &[
    case("mount_errors_name_the_mount", &[], mount_errors_name_the_mount),
    case("what_is_too_long_is_named", &[], what_is_too_long_is_named),
    case("what_is_out_of_range_is_named", &[], what_is_out_of_range_is_named),
    case("ids_outside_of_the_map_are_named", &[], ids_outside_of_the_map_are_named),
    case("a_full_pids_limit_is_named", &[], a_full_pids_limit_is_named),
    case("the_systemd_driver_needs_cgroup_v2", &[Need::V1], the_systemd_driver_needs_cgroup_v2),
    case("the_systemd_driver_needs_systemd", &[], the_systemd_driver_needs_systemd),
];

/// The error of a container that cannot be created.
fn error_of(bench: &Bench, config: &Value) -> String {
    let bundle = bench.bundle(config);
    let error = bench.refused(&["run", "--bundle", &bundle, "x"]);
    bench.check_nothing_is_left();
    error
}

/// dockerd looks for "not a directory", and asks whether a directory is mounted on a file.
fn mount_errors_name_the_mount(bench: &Bench) {
    let (directory, file) = (bench.mkdir("directory"), bench.write("file", ""));
    fs::create_dir(bench.path("rootfs/place")).unwrap();
    fs::write(bench.path("rootfs/thing"), "").unwrap();
    let bind = |source: &str, at: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["bind"] });
    let tmpfs = |options: &[&str]| json!({ "destination": "/place", "type": "tmpfs", "source": "tmpfs", "options": options });
    for (mount, said) in [
        (bind(&directory, "/thing"), [&*format!("{directory} on /thing"), "Not a directory"]),
        (bind(&file, "/place"), [&*format!("{file} on /place"), "Not a directory"]),
        (bind(&file, "/thing/below"), [&*format!("{file} on /thing/below"), "Not a directory"]),
        (bind("/nonexistent", "/place"), ["on /place", "`/nonexistent`: No such file"]),
        (tmpfs(&["size=banana"]), ["tmpfs on /place", "size=banana"]),
        (tmpfs(&["nosuid", "bogus=1"]), ["tmpfs on /place", "bogus=1"]),
        (
            json!({ "destination": "/place", "type": "nosuchfs", "source": "none" }),
            ["nosuchfs on /place", "No such device"],
        ),
    ] {
        let mut config = bench.config(&["true"]);
        config["mounts"].as_array_mut().unwrap().push(mount.clone());
        let error = error_of(bench, &config);
        assert!(said.iter().all(|said| error.contains(said)), "{mount}: {error}");
    }
}

fn what_is_too_long_is_named(bench: &Bench) {
    let long = "x".repeat(300);
    let path = format!("/{long}");
    let deep = "/x".repeat(3000);
    let mount = |source: &str, at: &str| json!([{ "destination": at, "type": "bind", "source": source, "options": ["bind"] }]);
    for (place, value, said) in [
        ("mounts", mount("/tmp", &path), "`mounts[0].destination = "),
        ("mounts", mount("/tmp", &deep), "`mounts[0].destination = "),
        ("mounts", mount(&path, "/tmp"), "`mounts[0].source = "),
        ("linux/cgroupsPath", json!(format!("/a/{long}")), "`linux.cgroupsPath = "),
        ("linux/cgroupsPath", json!(deep), "`linux.cgroupsPath = "),
        ("root/path", json!(path), "`root.path = "),
        ("process/cwd", json!(path), "`process.cwd = "),
        ("hostname", json!(long), "`hostname = "),
    ] {
        let mut config = bench.config(&["true"]);
        set(&mut config, place, value);
        let error = error_of(bench, &config);
        assert!(error.contains(said) && error.len() < 400, "{place}: {error}");
    }
    let bundle = bench.bundle(&bench.config(&["true"]));
    for (length, reason) in [(256, "longer than a file name"), (1025, "longer than 1024 bytes")] {
        let id = "i".repeat(length);
        let error = bench.refused(&["run", "--bundle", &bundle, &id]);
        assert!(error.starts_with("id `iii") && error.contains(reason), "{error}");
    }
    let error = bench.run(&["state", &"i".repeat(256)]).error(1);
    assert!(error.ends_with("container does not exist"), "{error}");
}

fn what_is_out_of_range_is_named(bench: &Bench) {
    let limits = |part: &str, field: &str, value: Value| json!({ part: { field: value } });
    for (place, value, said) in [
        ("linux/resources", limits("cpu", "shares", json!(1.9e19)), "`linux.resources.cpu.shares"),
        (
            "linux/resources",
            limits("memory", "limit", json!(1e30)),
            "`linux.resources.memory.limit",
        ),
        ("process/user/uid", json!(4_294_967_296_u64), "`process.user.uid = 4294967296`"),
        ("process/oomScoreAdj", json!(5000), "`process.oomScoreAdj = 5000`: must be from"),
        (
            "process/execCPUAffinity",
            json!({ "final": "0,99999999999" }),
            "`process.execCPUAffinity.final = 0,99999999999`: 99999999999 is out of range",
        ),
    ] {
        let mut config = bench.config(&["true"]);
        set(&mut config, place, value);
        let error = error_of(bench, &config);
        let has_range = error.contains(" from ") || error.contains("at most");
        assert!(error.contains(said) && has_range, "{place}: {error}");
    }
    // Processors that the machine does not have.
    let mut config = bench.staying();
    config["process"]["execCPUAffinity"] = json!({ "initial": "8000" });
    bench.keep("e", &config);
    let error = bench.run(&["exec", "e", "true"]).error(255);
    assert!(error.contains("execCPUAffinity") && error.contains("Invalid argument"), "{error}");
    bench.delete("e");
}

fn ids_outside_of_the_map_are_named(bench: &Bench) {
    let mut config = bench.config(&["true"]);
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 10 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    for (field, id) in [("uid", 1000), ("gid", 10)] {
        let mut config = config.clone();
        config["process"]["user"][field] = json!(id);
        let error = error_of(bench, &config);
        let said = format!(
            "`process.user.{field} = {id}`: not in the id map of the user namespace, which has 10 \
             ids from 0"
        );
        assert!(error.contains(&said), "{error}");
    }
    // Control.
    config["process"]["user"]["uid"] = json!(9);
    let bundle = bench.bundle(&config);
    assert_eq!(bench.run(&["run", "--bundle", &bundle, "x"]).ok(), "");
}

/// The caller's own cgroup is full. That of the container limits only what the container forks.
fn a_full_pids_limit_is_named(bench: &Bench) {
    let Ok(hierarchy) = controller("pids") else { return };
    let full = hierarchy.join(bench.new_cgroup());
    fs::create_dir(&full).unwrap();
    let bundle = bench.bundle(&bench.config(&["true"]));
    let pidone = bench.command(&["run", "--bundle", &bundle, "x"]);
    let script = "echo 1 >$0/pids.max; echo $$ >$0/cgroup.procs; exec \"$@\"";
    let mut command = bench.command_of("/bin/sh".as_ref(), &["-c", script]);
    command.arg(&full).arg(pidone.get_program()).args(pidone.get_args());
    let error = bench.finish(&mut command).error(1);
    fs::remove_dir(&full).unwrap();
    assert!(error.contains("Resource temporarily unavailable"), "{error}");
    assert!(error.contains("the limit of processes of the cgroup"), "{error}");
    bench.check_nothing_is_left();
}

/// By the flag of runc, and by the name that `--cgroup-manager` has for it.
const SYSTEMD: [&[&str]; 2] = [&["--systemd-cgroup"], &["--cgroup-manager", "systemd"]];

/// systemd 258 and later know nothing else.
fn the_systemd_driver_needs_cgroup_v2(bench: &Bench) {
    let mut config = bench.config(&["true"]);
    config["linux"]["cgroupsPath"] = json!(format!(":pidone:{}", bench.cgroup()));
    let bundle = bench.bundle(&config);
    for flags in SYSTEMD {
        let error = bench.refused(&[flags, &["run", "--bundle", &bundle, "x"]].concat());
        assert!(error.contains("systemd") && error.contains("needs cgroup v2"), "{error}");
        bench.check_nothing_is_left();
    }
}

/// Where there is only cgroup v2, and no socket of systemd or of a bus.
fn the_systemd_driver_needs_systemd(bench: &Bench) {
    let mut config = bench.config(&["true"]);
    config["linux"]["cgroupsPath"] = json!(format!(":pidone:{}", bench.cgroup()));
    let bundle = bench.bundle(&config);
    let alone = "umount --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
                 mount -t tmpfs tmpfs /run && exec \"$@\"";
    let (program, state) = (bench.program().to_str().unwrap(), bench.text("state"));
    for flags in SYSTEMD {
        let outer = ["--mount", "sh", "-c", alone, "-", program, "--root", &state];
        let all = [&outer, flags, &["run", "--bundle", &bundle, "x"]].concat();
        let finished = bench.finish(&mut bench.command_of(Path::new("/usr/bin/unshare"), &all));
        let error = finished.error(1);
        assert!(error.contains("needs a running systemd"), "{error}");
        bench.check_nothing_is_left();
    }
}
