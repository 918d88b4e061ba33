//! Configurations that are wrong: each is refused in one line that names the place, and leaves
//! nothing.

use std::fs;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, set};

pub(crate) const CASES: &[Case] = &[
    case("bad_documents", &[], bad_documents),
    case("bad_types", &[], bad_types),
    case("bad_processes", &[], bad_processes),
    case("bad_namespaces_and_names", &[], bad_namespaces_and_names),
    case("bad_mounts", &[], bad_mounts),
    case("bad_hooks", &[], bad_hooks),
    case("bad_bundles_and_files", &[], bad_bundles_and_files),
    case("bad_consoles", &[], bad_consoles),
    case("bad_pool_requests_are_refused", &[], bad_pool_requests_are_refused),
    case("unknown_properties_are_ignored", &[], what_is_unknown_is_ignored),
];

/// Changes one property of a configuration, and returns what `create` prints.
#[track_caller]
fn refused(bench: &Bench, place: &str, value: &Value) -> String {
    let mut config = bench.config(&["true"]);
    set(&mut config, place, value.clone());
    let bundle = bench.bundle(&config);
    let error = bench.refused(&["create", "-b", &bundle, "x"]);
    bench.check_nothing_is_left();
    error
}

/// Every change is refused, with these words.
#[track_caller]
fn all_refused(bench: &Bench, changes: &[(&str, Value, &str)]) {
    let mut wrong = Vec::new();
    for (place, value, said) in changes {
        let error = refused(bench, place, value);
        if !error.contains(said) {
            wrong.push(format!("{place} = {value}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn bad_documents(bench: &Bench) {
    let config = bench.config(&["true"]).to_string();
    let deep =
        |open: &str| format!("{{\"ociVersion\":\"1.0.0\",\"annotations\":{}", open.repeat(200_000));
    let not_text = [config.as_bytes().split_at(30).0, b"\xff\xfe"].concat();
    for (text, said) in [
        (&b""[..], "line 1 column 0"),
        (b"\0\0\0\0", "line 1 column 1"),
        (b"no json", "line 1 column 2"),
        (b"[]", "config.json"),
        (b"null", "config.json"),
        (b"{}", "ociVersion"),
        (&config.as_bytes()[..config.len() - 3], "line 1 column"),
        (format!("{config} x").as_bytes(), "line 1 column"),
        (&not_text, "line 1 column"),
        (deep("[").as_bytes(), "annotations`: expected an object"),
        (deep("{\"a\":").as_bytes(), "annotations"),
        (format!("{{\"x\":{}", "[".repeat(200_000)).as_bytes(), "EOF while parsing"),
    ] {
        bench.bundle(&json!({}));
        bench.write("bundle/config.json", text);
        let error = bench.refused(&["create", "-b", &bench.text("bundle"), "x"]);
        let start = String::from_utf8_lossy(&text[..text.len().min(40)]);
        assert!(error.contains(said) && error.len() < 1000, "{start:?}: {error}");
        assert!(error.contains("config.json") || error.contains("ociVersion"), "{error}");
        bench.check_nothing_is_left();
    }
}

fn bad_types(bench: &Bench) {
    // The place is named, as deep as it lies.
    all_refused(
        bench,
        &[
            ("ociVersion", json!(1), "ociVersion"),
            ("ociVersion", json!(""), "`ociVersion`: missing"),
            ("ociVersion", json!("2.0.0"), "`ociVersion = \"2.0.0\"`: only versions 1.*"),
            ("ociVersion", json!("11.0.0"), "`ociVersion = \"11.0.0\"`"),
            ("process", json!("sh"), "process"),
            ("process/args", json!("sh"), "process.args"),
            ("process/args", json!(["sh", 1]), "process.args[1]"),
            ("process/env", json!({ "A": "B" }), "process.env"),
            ("process/cwd", json!(7), "process.cwd"),
            ("process/user", json!("root"), "process.user"),
            ("process/user/uid", json!("0"), "process.user.uid"),
            ("process/user/additionalGids", json!([1, true]), "process.user.additionalGids[1]"),
            ("process/capabilities", json!(["CAP_KILL"]), "process.capabilities"),
            ("process/noNewPrivileges", json!("yes"), "process.noNewPrivileges"),
            (
                "process/rlimits",
                json!([{ "type": "RLIMIT_CORE", "soft": "1", "hard": 1 }]),
                "process.rlimits[0].soft",
            ),
            ("root", json!([]), "root"),
            ("root/readonly", json!(1), "root.readonly"),
            ("hostname", json!(["box"]), "hostname"),
            ("mounts", json!({}), "mounts"),
            ("mounts/1/destination", json!(5), "mounts[1].destination"),
            ("mounts/1/options", json!("ro"), "mounts[1].options"),
            ("annotations", json!({ "a": 1 }), "annotations.a"),
            ("hooks", json!([]), "hooks"),
            ("hooks/poststop", json!({ "path": "/bin/true" }), "hooks.poststop"),
            ("linux", json!("x"), "linux"),
            ("linux/namespaces", json!(["pid"]), "linux.namespaces[0]"),
            ("linux/maskedPaths", json!("/proc/kcore"), "linux.maskedPaths"),
            ("linux/sysctl", json!({ "net.ipv4.ip_forward": 1 }), "linux.sysctl"),
            ("linux/resources/memory/limit", json!("64m"), "linux.resources.memory.limit"),
            ("linux/resources/pids", json!(5), "linux.resources.pids"),
            ("linux/resources/cpu/shares", json!(-1), "linux.resources.cpu.shares"),
            ("linux/seccomp", json!("default"), "linux.seccomp"),
            (
                "linux/uidMappings",
                json!([{ "hostID": -1, "containerID": 0, "size": 1 }]),
                "linux.uidMappings[0].hostID",
            ),
        ],
    );
}

fn bad_processes(bench: &Bench) {
    let limit =
        |kind: &str, soft: u64, hard: u64| json!([{ "type": kind, "soft": soft, "hard": hard }]);
    all_refused(
        bench,
        &[
            ("process", Value::Null, "`process`: missing"),
            ("process/args", json!([]), "`process.args`: names no program"),
            ("process/args", json!([""]), "`args`: no program"),
            ("process/args", json!(["a\0b"]), "NUL"),
            ("process/cwd", json!("tmp"), "`process.cwd = \"tmp\"`: must be an absolute path"),
            ("process/cwd", json!(""), "`process.cwd"),
            (
                "process/env",
                json!(["NOVALUE"]),
                "`process.env[0] = \"NOVALUE\"`: must be NAME=value",
            ),
            ("process/env", json!(["A=1", "=x"]), "`process.env[1]"),
            ("process/user/uid", json!(-1), "process.user.uid"),
            ("process/user/uid", json!(4_294_967_296_u64), "process.user.uid"),
            ("process/user/uid", json!(4_294_967_295_u64), "`process.user.uid = 4294967295`"),
            ("process/user/gid", json!(4_294_967_295_u64), "`process.user.gid = 4294967295`"),
            (
                "process/rlimits",
                limit("RLIMIT_BOGUS", 1, 1),
                "`process.rlimits[0].type = \"RLIMIT_BOGUS\"`",
            ),
            ("process/rlimits", limit("NOFILE", 1, 1), "`process.rlimits[0].type = \"NOFILE\"`"),
            (
                "process/rlimits",
                limit("RLIMIT_NOFILE", 9, 8),
                "soft limit 9 is above the hard limit 8",
            ),
            ("process/rlimits", limit("RLIMIT_NOFILE", 8, 1 << 40), "setrlimit `RLIMIT_NOFILE`"),
            ("process/oomScoreAdj", json!(1001), "`process.oomScoreAdj = 1001`"),
            ("process/terminal", json!(true), "a detached process with a terminal needs one"),
            ("process/scheduler", json!({ "policy": "SCHED_BOGUS" }), "SCHED_BOGUS"),
            (
                "process/ioPriority",
                json!({ "class": "IOPRIO_CLASS_BOGUS", "priority": 1 }),
                "IOPRIO_CLASS_BOGUS",
            ),
        ],
    );
    // What is known only in the container fails the start.
    let mut config = bench.config(&["true"]);
    config["process"]["cwd"] = json!("/bin/busybox");
    let bundle = bench.bundle(&config);
    let error = bench.refused(&["run", "-b", &bundle, "x"]);
    assert!(error.contains("/bin/busybox`") && error.contains("Not a directory"), "{error}");
}

fn bad_namespaces_and_names(bench: &Bench) {
    let namespaces = |given: &[(&str, &str)]| -> Value {
        given.iter().map(|(kind, path)| json!({ "type": kind, "path": path })).collect()
    };
    let seccomp = |place: &str, value: Value| {
        let mut seccomp = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": ["chmod"], "action": "SCMP_ACT_ERRNO" }],
        });
        set(&mut seccomp, place, value);
        seccomp
    };
    let sysctl = |name: &str| json!({ name: "1" });
    all_refused(
        bench,
        &[
            (
                "linux/namespaces",
                namespaces(&[("mount", ""), ("bogus", "")]),
                "`linux.namespaces[1].type = \"bogus\"`",
            ),
            (
                "linux/namespaces",
                namespaces(&[("mount", ""), ("pid", ""), ("pid", "")]),
                "stands more than once",
            ),
            (
                "linux/namespaces",
                namespaces(&[("mount", ""), ("network", "relative")]),
                "linux.namespaces[1].path",
            ),
            (
                "linux/namespaces",
                namespaces(&[("mount", ""), ("uts", ""), ("network", "/nonexistent")]),
                "/nonexistent`: No such file",
            ),
            (
                "linux/namespaces",
                namespaces(&[("mount", ""), ("uts", ""), ("network", "/proc/self/ns/uts")]),
                "setns `NEWNET` (",
            ),
            ("linux/seccomp", seccomp("defaultAction", json!("SCMP_ACT_BOGUS")), "SCMP_ACT_BOGUS"),
            (
                "linux/seccomp",
                seccomp("architectures", json!(["SCMP_ARCH_BOGUS"])),
                "SCMP_ARCH_BOGUS",
            ),
            (
                "linux/seccomp",
                seccomp("syscalls/0/action", json!("SCMP_ACT_BOGUS")),
                "linux.seccomp.syscalls[0].action",
            ),
            (
                "linux/seccomp",
                seccomp(
                    "syscalls/0/args",
                    json!([{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }]),
                ),
                "args[0]",
            ),
            (
                "linux/seccomp",
                seccomp(
                    "syscalls/0/args",
                    json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_BOGUS" }]),
                ),
                "SCMP_CMP_BOGUS",
            ),
            ("linux/sysctl", sysctl("kernel.core_pattern"), "`linux.sysctl.kernel.core_pattern"),
            ("linux/sysctl", sysctl("vm.overcommit_memory"), "`linux.sysctl.vm.overcommit_memory"),
            ("linux/sysctl", sysctl("net/../kernel/core_pattern"), "linux.sysctl"),
            ("linux/sysctl", sysctl("net.ipv4.nosuch"), "nosuch"),
            ("linux/cgroupsPath", json!("/a/../../b"), "`linux.cgroupsPath"),
            ("linux/cgroupsPath", json!("../b"), "`linux.cgroupsPath"),
            ("linux/rootfsPropagation", json!("bogus"), "`linux.rootfsPropagation = \"bogus\"`"),
            (
                "linux/personality",
                json!({ "domain": "BOGUS" }),
                "`linux.personality.domain = \"BOGUS\"`",
            ),
            (
                "linux/resources/devices",
                json!([{ "allow": true, "access": "xyz" }]),
                "linux.resources.devices[0].access",
            ),
            (
                "linux/resources/devices",
                json!([{ "allow": true, "type": "q" }]),
                "linux.resources.devices[0].type",
            ),
            ("linux/devices", json!([{ "type": "z", "path": "/dev/x" }]), "linux.devices[0]"),
            ("linux/maskedPaths", json!([""]), "linux.maskedPaths[0]"),
            ("linux/readonlyPaths", json!(["x\0"]), "linux.readonlyPaths[0]"),
            ("hostname", json!("h".repeat(65)), "hostname"),
            ("vm", json!({}), "virtual machines are not supported"),
        ],
    );
}

fn bad_mounts(bench: &Bench) {
    let mount = |mount: Value| json!([mount]);
    all_refused(
        bench,
        &[
            (
                "mounts",
                mount(json!({ "destination": "", "type": "tmpfs" })),
                "mounts[0].destination",
            ),
            (
                "mounts",
                mount(json!({ "destination": "/x\0", "type": "tmpfs" })),
                "mounts[0].destination",
            ),
            ("mounts", mount(json!({ "destination": "/x", "type": "nosuchfs" })), "nosuchfs"),
            (
                "mounts",
                mount(json!({ "destination": "/x", "type": "bind" })),
                "`mounts[0].source`: missing",
            ),
            (
                "mounts",
                mount(json!({ "destination": "/x", "type": "bind", "source": "/nonexistent" })),
                "/nonexistent`: No such file or directory",
            ),
            (
                "mounts",
                mount(json!({ "destination": "/x", "type": "tmpfs", "options": ["bogus"] })),
                "bogus",
            ),
            (
                "mounts",
                mount(
                    json!({ "destination": "/x", "type": "tmpfs", "options": ["rprivate", "rslave"] }),
                ),
                "more than one kind of propagation",
            ),
            (
                "mounts",
                mount(json!({ "destination": "/bin/busybox", "type": "tmpfs" })),
                "/bin/busybox` (",
            ),
        ],
    );
}

fn bad_hooks(bench: &Bench) {
    let hook = |hook: Value| json!([hook]);
    all_refused(
        bench,
        &[
            ("hooks/prestart", hook(json!({ "path": "bin/true" })), "`hooks.prestart[0].path"),
            ("hooks/poststop", hook(json!({})), "hooks.poststop[0]"),
            (
                "hooks/createRuntime",
                hook(json!({ "path": "/bin/true", "timeout": 0 })),
                "`hooks.createRuntime[0].timeout = 0`",
            ),
            (
                "hooks/createContainer",
                hook(json!({ "path": "/bin/true", "env": ["X"] })),
                "`hooks.createContainer[0].env",
            ),
            (
                "hooks/createRuntime",
                hook(json!({ "path": "/nonexistent" })),
                "/nonexistent`: No such file or directory",
            ),
            ("hooks/createRuntime", hook(json!({ "path": "/bin/false" })), "createRuntime"),
        ],
    );
}

fn bad_bundles_and_files(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    let file = bench.write("file", "");
    fs::create_dir(bench.path("none")).unwrap();
    for (line, said) in [
        (&["-b", "/nonexistent"][..], "open `/nonexistent`: No such file or directory"),
        (&["-b", &file], "Not a directory"),
        (&["-b", &bench.text("none")], "config.json`: No such file or directory"),
        (&["-b", &bundle, "--pid-file", "/nonexistent/pid"], "/nonexistent/pid`: No such file"),
        (&["-b", &bundle, "--pid-file", &bench.text("none")], "is not a regular file"),
        (&["-b", &bundle, "--preserve-fds", "5"], "preserve descriptor `7`: Bad file"),
    ] {
        let error = bench.refused(&[&["create"], line, &["x"]].concat());
        assert!(error.contains(said), "{line:?}: {error}");
        bench.check_nothing_is_left();
    }
    let error = bench.refused(&["--log", "/nonexistent/log", "create", "-b", &bundle, "x"]);
    assert_eq!(error, "open `/nonexistent/log`: No such file or directory");
    bench.check_nothing_is_left();
    for (path, said) in [
        (Value::Null, "root.path"),
        (json!(""), "`root.path`: missing"),
        (json!("missing"), "bundle/missing`: No such file or directory"),
        (json!(file), "file\"`: not a directory"),
        (json!("a\0b"), "NUL"),
    ] {
        let error = refused(bench, "root/path", &path);
        assert!(error.contains(said), "{path}: {error}");
    }
    let error = refused(bench, "root", &Value::Null);
    assert!(error.contains("`root`: missing"), "{error}");
    // Clients reach it through links.
    std::os::unix::fs::symlink(bench.path("rootfs"), bench.path("link")).unwrap();
    let mut config = bench.config(&["sh", "-c", "echo inside"]);
    config["root"]["path"] = json!("../link");
    let bundle = bench.bundle(&config);
    assert_eq!(bench.run(&["run", "-b", &bundle, "x"]).ok(), "inside\n");
}

fn bad_consoles(bench: &Bench) {
    let mut config = bench.config(&["true"]);
    config["process"]["terminal"] = json!(true);
    let bundle = bench.bundle(&config);
    let file = bench.write("file", "");
    // One that nobody listens on any more.
    let dead = bench.text("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let long = format!("/{}", "d".repeat(5000));
    let name = format!("/tmp/{}", "n".repeat(300));
    for (socket, said) in [
        ("/nonexistent/console", "No such file or directory"),
        (&dead, "Connection refused"),
        (&file, "Connection refused"),
        ("/", "connect `/`: "),
        (&long, "File name too long"),
        (&name, "File name too long"),
    ] {
        let arguments = ["create", "-b", &bundle, "--console-socket", socket, "x"];
        let shown = &socket[..socket.len().min(40)];
        let error = bench.refused(&arguments);
        assert!(error.contains(said) && error.contains(shown), "{shown}: {error}");
        bench.check_nothing_is_left();
    }
}

/// What podman and docker look for in a message, to choose 126 or 127.
fn bad_pool_requests_are_refused(bench: &Bench) {
    fs::write(bench.path("rootfs/bin/plain"), "x").unwrap();
    let log = bench.text("log");
    for (program, words) in [
        ("nosuchcmd", "executable file not found in $PATH"),
        ("/nosuch/cmd", "no such file or directory"),
        ("plain", "permission denied"),
        ("/bin/plain", "permission denied"),
        ("/etc", "permission denied"),
    ] {
        let bundle = bench.bundle(&bench.config(&[program]));
        let arguments = ["--log", &log, "--log-format", "json", "create", "-b", &bundle, "x"];
        let error = bench.refused(&arguments);
        assert!(error.contains(words), "{program}: {error}");
        // containerd shows the last error of the log.
        let text = fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["level"], &last["msg"]), (&json!("error"), &json!(error)));
        bench.check_nothing_is_left();
    }
}

fn what_is_unknown_is_ignored(bench: &Bench) {
    let mut config = bench.config(&["sh", "-c", "echo ran"]);
    for place in ["bogus", "process/bogus", "root/bogus", "linux/bogus", "mounts/0/bogus"] {
        set(&mut config, place, json!({ "a": [1, null] }));
    }
    set(&mut config, "linux/namespaces/0/bogus", json!(1));
    let bundle = bench.bundle(&config);
    assert_eq!(bench.run(&["run", "-b", &bundle, "x"]).ok(), "ran\n");
    // A capability is too, aloud.
    set(&mut config, "process/capabilities/bounding", json!(["CAP_KILL", "CAP_BOGUS"]));
    let bundle = bench.bundle(&config);
    let outcome = bench.run(&["run", "-b", &bundle, "x"]);
    assert_eq!((outcome.code(), &*outcome.stdout), (0, "ran\n"), "{outcome:?}");
    let place = "`process.capabilities.bounding[1] = \"CAP_BOGUS\"`";
    assert!(outcome.stderr.contains(place), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
}
