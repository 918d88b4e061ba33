//! Limits and use: update, events.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, eventually, set};

pub(crate) const CASES: &[Case] = &[
    case("update_that_fails_changes_nothing", &[Need::Memory], update_that_fails_changes_nothing),
    case("processors_of_the_caller_do_not_count", &[], processors_of_the_caller_do_not_count),
    case("exec_at_the_limit_of_processes", &[], exec_at_the_limit_of_processes),
    case("no_processes_is_a_limit", &[], no_processes_is_a_limit),
    case("sysctls_of_interfaces_and_users", &[], sysctls_of_interfaces_and_users),
    case("update_changes_limits", &[Need::Memory], update_changes_limits),
    case("update_refuses_wrong_values", &[Need::Memory], update_refuses_wrong_values),
    case("statistics_have_runcs_names", &[Need::Memory], statistics_have_runcs_names),
    case("oom_events_are_reported", &[Need::Memory], oom_events_are_reported),
];

/// A file of the container's cgroup.
fn knob(bench: &Bench, controller: &str, file: &str) -> PathBuf {
    PathBuf::from("/sys/fs/cgroup").join(controller).join(bench.cgroup()).join(file)
}

#[track_caller]
fn is(bench: &Bench, controller: &str, file: &str, value: &str) {
    let text = fs::read_to_string(knob(bench, controller, file)).unwrap();
    assert_eq!(text.trim(), value, "{file}");
}

const MEMORY: &str = "memory.limit_in_bytes";

/// An update holds as a whole or not at all, in the cgroup as in the state.
fn update_that_fails_changes_nothing(bench: &Bench) {
    bench.keep("u", &bench.staying());
    bench.run(&["update", "--pids-limit", "30", "--memory", "64m", "--cpu-share", "512", "u"]).ok();
    let state = fs::read(bench.path("state/u/state.json")).unwrap();
    let line = ["update", "--pids-limit", "40", "--memory", "32m", "--cpu-share", "300"];
    // The machine has no such processor.
    let error = bench.run(&[&line[..], &["--cpuset-cpus", "4000", "u"]].concat()).error(1);
    assert!(error.contains("cpuset.cpus"), "{error}");
    is(bench, "memory", MEMORY, "67108864");
    is(bench, "cpu", "cpu.shares", "512");
    is(bench, "pids", "pids.max", "30");
    assert_eq!(fs::read(bench.path("state/u/state.json")).unwrap(), state);
    bench.run(&[&line[..], &["u"]].concat()).ok();
    is(bench, "pids", "pids.max", "40");
    bench.delete("u");
}

fn update_changes_limits(bench: &Bench) {
    bench.keep("u", &bench.staying());
    bench.run(&["update", "--memory", "64m", "--cpu-share", "512", "--pids-limit", "30", "u"]).ok();
    is(bench, "memory", MEMORY, "67108864");
    is(bench, "cpu", "cpu.shares", "512");
    is(bench, "pids", "pids.max", "30");
    bench.run(&["update", "u", "--cpu-quota", "20000", "--cpu-period", "100000"]).ok();
    is(bench, "cpu", "cpu.cfs_quota_us", "20000");
    is(bench, "memory", MEMORY, "67108864");
    bench
        .run(&["update", "--cpu-quota", "-1", "--pids-limit", "-1", "--kernel-memory", "1", "u"])
        .ok();
    is(bench, "cpu", "cpu.cfs_quota_us", "-1");
    is(bench, "pids", "pids.max", "max");

    let file = bench.write("limits", json!({ "memory": { "limit": 33_554_432 } }).to_string());
    bench.run(&["update", &format!("--resources={file}"), "u"]).ok();
    is(bench, "memory", MEMORY, "33554432");
    // An option has the last word, and rules about devices stay as they are.
    let devices = fs::read_to_string(knob(bench, "devices", "devices.list")).unwrap();
    let file = bench.write(
        "limits",
        json!({
            "memory": { "limit": 1_048_576 },
            "cpu": { "shares": 300 },
            "devices": [{ "allow": true, "access": "rwm" }],
        })
        .to_string(),
    );
    bench.run(&["update", "-r", &file, "--memory", "16m", "u"]).ok();
    is(bench, "memory", MEMORY, "16777216");
    is(bench, "cpu", "cpu.shares", "300");
    assert_eq!(fs::read_to_string(knob(bench, "devices", "devices.list")).unwrap(), devices);

    // As docker calls it.
    let input = bench.write("input", "{\"memory\":{\"limit\":50331648},\"cpu\":{\"shares\":0}}");
    let mut command = bench.command(&["update", "--resources", "-", "u"]);
    command.stdin(Stdio::from(fs::File::open(input).unwrap()));
    bench.finish(&mut command).ok();
    is(bench, "memory", MEMORY, "50331648");
    bench.run(&["update", "--memory", "-1", "u"]).ok();
    let limit: u64 =
        fs::read_to_string(knob(bench, "memory", MEMORY)).unwrap().trim().parse().unwrap();
    assert!(limit > 1 << 60, "{limit}");
    bench.delete("u");
}

fn update_refuses_wrong_values(bench: &Bench) {
    bench.keep("u", &bench.staying());
    for (options, said) in [
        (&["--memory", "lots"][..], "invalid value 'lots' for '--memory <SIZE>'"),
        (&["--cpu-share", "-1"], "invalid value '-1'"),
        (&["--blkio-weight", "5"], "blkio_weight"),
        (&["--cpuset-cpus", "x"], "cpuset"),
        (&["--l3-cache-schema", "L3:0=f"], "Intel RDT is not supported"),
        (&["--mem-bw-schema", "MB:0=20"], "Intel RDT is not supported"),
        (&["-r", "/nonexistent"], "open `/nonexistent`: No such file"),
    ] {
        let error = bench.run(&[&["update", "u"], options].concat()).error(1);
        assert!(error.contains(said), "{options:?}: {error}");
    }
    for text in ["", "[]", "{", "{\"memory\": {\"limit\": \"x\"}}", &"[".repeat(200_000)] {
        let file = bench.write("limits", text);
        let error = bench.run(&["update", "-r", &file, "u"]).error(1);
        assert!(error.contains("limits"), "{error}");
    }
    bench.delete("u");
}

fn statistics_have_runcs_names(bench: &Bench) {
    bench.keep("s", &bench.staying());
    let text = bench.run(&["events", "--stats", "s"]).ok();
    assert_eq!(text.lines().count(), 1, "{text}");
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&"stats".into(), &"s".into()));
    let data = &event["data"];
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{text}");
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{text}");
    assert!(data["pids"]["current"].as_u64().unwrap() > 0, "{text}");
    for name in ["cpuset", "blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
        assert!(!data[name].is_null(), "{name} in {text}");
    }
    bench.delete("s");
}

fn oom_events_are_reported(bench: &Bench) {
    let line = "trap 'exit 0' TERM; while :; do [ -e /tmp/go ] && /bin/busybox tail /dev/zero; \
                sleep 0.05; done";
    let mut config = bench.config(&["sh", "-c", line]);
    config["linux"]["resources"] = json!({ "memory": { "limit": 33_554_432, "swap": 33_554_432 } });
    bench.keep("o", &config);
    let out = bench.path("events");
    let mut command = bench.command(&["events", "--interval", "100ms", "o"]);
    let program = Call::start(command.stdout(fs::File::create(&out).unwrap()));
    let told = |kind: &str| {
        let text = fs::read_to_string(&out).unwrap();
        text.lines().any(|line| {
            serde_json::from_str::<Value>(line).is_ok_and(|event| event["type"] == kind)
        })
    };
    assert!(eventually(|| told("stats")));
    bench.run(&["exec", "o", "sh", "-c", "> /tmp/go"]).ok();
    assert!(eventually(|| told("oom")));
    bench.delete("o");
    assert_eq!(program.finish().code(), 0);
}

/// A dot in the name of an interface is a slash in a key with dots, as for sysctl(8).
fn sysctls_of_interfaces_and_users(bench: &Bench) {
    let mut config = bench.config(&[
        "cat",
        "/proc/sys/net/ipv4/conf/lo/rp_filter",
        "/proc/sys/net/ipv4/conf/default/rp_filter",
        "/proc/sys/user/max_net_namespaces",
    ]);
    let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    set(&mut config, "linux/uidMappings", ids.clone());
    set(&mut config, "linux/gidMappings", ids);
    set(
        &mut config,
        "linux/sysctl",
        json!({
            "net.ipv4.conf.lo.rp_filter": "2",
            "net/ipv4/conf/default/rp_filter": "1",
            "user.max_net_namespaces": "7",
        }),
    );
    let bundle = bench.bundle(&config);
    let line = ["run", "--bundle", &bundle, "c"];
    let error = bench.run(&line).error(1);
    assert!(error.contains("user"), "{error}");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    bench.bundle(&config);
    assert_eq!(bench.run(&line).ok(), "2\n1\n7\n");
    // There is no such interface: the error has the path of the file, with the dot.
    set(&mut config, "linux/sysctl", json!({ "net.ipv4.conf.eth0/1.rp_filter": "1" }));
    bench.bundle(&config);
    let error = bench.run(&line).error(1);
    assert!(error.contains("net/ipv4/conf/eth0.1/rp_filter"), "{error}");
}

/// The caller may run on fewer processors than the container.
fn processors_of_the_caller_do_not_count(bench: &Bench) {
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap();
    one.set(first);
    // Of this thread, and of what it starts.
    let narrowly = |arguments: &[&str]| {
        sched_setaffinity(None, &one).unwrap();
        let outcome = bench.run(arguments);
        sched_setaffinity(None, &all).unwrap();
        outcome.ok()
    };
    let list = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    };
    let mine = list(&fs::read_to_string("/proc/thread-self/status").unwrap());
    let bundle = bench.bundle(&bench.config(&["cat", "/proc/self/status"]));
    for init in [&[][..], &["--init"]] {
        let run = [&["run", "--bundle", &bundle, "c"], init].concat();
        assert_eq!(list(&narrowly(&run)), mine, "{init:?}");
    }
    bench.keep("c", &bench.staying());
    assert_eq!(list(&narrowly(&["exec", "c", "cat", "/proc/self/status"])), mine);
    // What the process asks for counts more.
    let process = json!({
        "args": ["cat", "/proc/self/status"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": { "uid": 0, "gid": 0 },
        "execCPUAffinity": { "initial": first.to_string() },
    });
    let file = bench.write("process.json", process.to_string());
    let exec = ["exec", "--process", &file, "c"];
    assert_eq!(list(&bench.run(&exec).ok()), first.to_string());
    bench.delete("c");
}

/// As in runc, a further process enters the cgroup when it exists, which no limit refuses.
fn exec_at_the_limit_of_processes(bench: &Bench) {
    for (init, limit) in [(&[][..], 1), (&["--init"], 2)] {
        let mut config = bench.config(&["sleep", "1000"]);
        set(&mut config, "linux/resources", json!({ "pids": { "limit": limit } }));
        let bundle = bench.bundle(&config);
        bench.detached(&[&["run", "--detach", "--bundle", &bundle, "c"], init].concat());
        let cgroups = bench.run(&["exec", "c", "cat", "/proc/self/cgroup"]).ok();
        assert!(cgroups.contains(bench.cgroup()), "{init:?}: {cgroups}");
        // The control: it has no room for a child.
        let forks = bench.run(&["exec", "c", "sh", "-c", "cat /proc/self/cgroup; true"]);
        assert!(forks.stderr.contains("fork"), "{init:?}: {}", forks.stderr);
        bench.delete("c");
    }
}

/// A limit of 0 processes: the first one still starts, and has no children.
fn no_processes_is_a_limit(bench: &Bench) {
    let mut config = bench.config(&["sh", "-c", "echo one; cat /proc/self/cgroup; exit 3"]);
    set(&mut config, "linux/resources", json!({ "pids": { "limit": 0 } }));
    let bundle = bench.bundle(&config);
    let outcome = bench.run(&["run", "--bundle", &bundle, "c"]);
    assert_eq!(outcome.stdout, "one\n");
    assert!(outcome.stderr.contains("fork"), "{}", outcome.stderr);
    set(&mut config, "linux/resources/pids/limit", json!(-1));
    bench.bundle(&config);
    let outcome = bench.run(&["run", "--bundle", &bundle, "c"]);
    assert!(outcome.stdout.contains(bench.cgroup()), "{}", outcome.stdout);
}
