//! What a process keeps of the caller of the command: groups, and descriptors at their numbers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, eventually, set};

pub(crate) const CASES: &[Case] = &[
    case("groups_of_the_caller_are_kept", &[], groups_of_the_caller_are_kept),
    case("descriptors_keep_their_numbers", &[], descriptors_keep_their_numbers),
    case("annotations_that_change_access", &[], annotations_that_change_access),
];

/// Without an init that stays, and with one.
const INITS: [&[&str]; 2] = [&[], &["--init"]];

/// The program with these arguments, called by a process with these supplementary groups.
fn with_groups(bench: &Bench, groups: &str, arguments: &[&str]) -> Command {
    let program = bench.program().to_str().unwrap();
    let states = bench.text("state");
    let line = ["--groups", groups, program, "--root", &states];
    bench.command_of(Path::new("/usr/bin/setpriv"), &[&line[..], arguments].concat())
}

/// Maps all ids to themselves, so that groups of the host have names in the container.
fn map(config: &mut Value) {
    let ids = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    set(config, "linux/uidMappings", ids.clone());
    set(config, "linux/gidMappings", ids);
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
}

/// podman's `--group-add keep-groups`.
fn groups_of_the_caller_are_kept(bench: &Bench) {
    const KEEP: &str = "annotations/run.oci.keep_original_groups";
    let groups = |mut command: Command| bench.finish(&mut command).ok();
    for (init, mapped) in INITS.into_iter().flat_map(|init| [(init, false), (init, true)]) {
        let case = format!("{init:?} {mapped}");
        let config = |args: &[&str], keep: Option<&str>| {
            let mut config = bench.config(args);
            // podman adds those of the image's user.
            set(&mut config, "process/user/additionalGids", json!([77]));
            if mapped {
                map(&mut config);
            }
            if let Some(value) = keep {
                set(&mut config, KEEP, json!(value));
            }
            config
        };
        let run = |keep: Option<&str>| {
            let bundle = bench.bundle(&config(&["id", "-G"], keep));
            groups(with_groups(bench, "5,6", &[&["run", "-b", &bundle, "c"], init].concat()))
        };
        assert_eq!(run(Some("1")), "0 5 6\n", "{case}");
        assert_eq!(run(None), "0 77\n", "control: {case}");
        assert_eq!(run(Some("0")), "0 77\n", "{case}");

        // Of a created container, and for a further process those of the caller of `exec`.
        let script = "id -G >&2; trap 'exit 3' TERM; while :; do sleep 0.05; done";
        let bundle = bench.bundle(&config(&["sh", "-c", script], Some("1")));
        let log = bench.path("log");
        let mut create =
            with_groups(bench, "5,6", &[&["create", "-b", &bundle, "c"], init].concat());
        create.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        assert_eq!(bench.finish(&mut create).code(), 0, "{case}");
        groups(with_groups(bench, "7", &["start", "c"]));
        assert!(eventually(|| fs::read(&log).unwrap() == b"0 5 6\n"), "{case}");
        assert_eq!(groups(with_groups(bench, "8,9", &["exec", "c", "id", "-G"])), "0 8 9\n");
        let user = ["exec", "--user", "1000:1000", "c", "id", "-G"];
        assert_eq!(groups(with_groups(bench, "8,9", &user)), "1000 8 9\n", "{case}");
        let process = json!({ "args": ["id", "-G"], "cwd": "/", "user": {}, "env": ["PATH=/bin"] });
        let process = bench.write("process.json", process.to_string());
        let line = ["exec", "--process", &process, "c"];
        assert_eq!(groups(with_groups(bench, "8,9", &line)), "0 8 9\n", "{case}");
        bench.delete("c");
    }
}

/// podman passes single descriptors of its caller, and others below are closed.
fn descriptors_keep_their_numbers(bench: &Bench) {
    let (five, seven) = (bench.write("five", "5"), bench.write("seven", "7"));
    let script = "cat <&5; cat <&7; for n in 3 4 5 6 7 8 9; do
        [ -e /proc/$$/fd/$n ] && echo -n \" $n\"; done; echo";
    // Only 5, 7 and 8 are open in the command.
    let command = |arguments: &[&str]| {
        let program = bench.program().to_str().unwrap();
        let states = bench.text("state");
        let open = format!(
            "exec 3<&- 4<&- 5<{five} 6<&- 7<{seven} 8</dev/null; exec {program} --root {states} \"$@\""
        );
        let line = ["-c", &open, "sh"];
        bench.command_of(Path::new("/bin/sh"), &[&line[..], arguments].concat())
    };
    let run = |arguments: &[&str]| bench.finish(&mut command(arguments));
    let bundle = bench.bundle(&bench.config(&["sh", "-c", script]));
    assert_eq!(run(&["run", "--preserve-fds", "5", "-b", &bundle, "c"]).ok(), "57 5 7\n");
    // The last one is missing, or is a descriptor of the program itself.
    for (count, number) in [("4", "6"), ("7", "9"), ("100", "102")] {
        let error = run(&["run", "--preserve-fds", count, "-b", &bundle, "c"]).error(1);
        assert_eq!(error, format!("preserve descriptor `{number}`: Bad file descriptor"));
    }
    // An init that stays takes them without gaps.
    let error = run(&["run", "--init", "--preserve-fds", "5", "-b", &bundle, "c"]).error(1);
    assert!(error.contains("`descriptor = 3`: cannot stay closed below others"), "{error}");
    for init in INITS {
        let bundle = bench.bundle(&bench.staying());
        bench.detached(&[&["run", "-d", "-b", &bundle, "c"], init].concat());
        let exec = ["exec", "--preserve-fds", "5", "c", "sh", "-c", script];
        assert_eq!(run(&exec).ok(), "57 5 7\n", "{init:?}");
        bench.delete("c");
    }
}

/// What crun would do with the container is not done silently otherwise.
fn annotations_that_change_access(bench: &Bench) {
    let with = |name: &str, value: &str| {
        let mut config = bench.config(&["true"]);
        config["annotations"] = json!({ name: value });
        config
    };
    for (name, value) in [
        ("run.oci.handler", "krun"),
        ("run.oci.seccomp_bpf_data", "BgAAAAAA/38="),
        ("run.oci.seccomp.plugins", "/plugin.so"),
        ("run.oci.delegate-cgroup", "init"),
        ("run.oci.timens_offset", "7 100 0"),
    ] {
        let bundle = bench.bundle(&with(name, value));
        let error = bench.refused(&["run", "-b", &bundle, "c"]);
        assert!(error.contains(&format!("`annotations.{name} = {value}`")), "{error}");
        bench.check_nothing_is_left();
    }
    for name in ["run.oci.systemd.subgroup", "run.oci.hooks.stdout", "run.oci.new"] {
        let bundle = bench.bundle(&with(name, "x"));
        bench.run(&["run", "-b", &bundle, "c"]).ok();
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["swapoff", "fly"], "action": "SCMP_ACT_ERRNO" }],
    });
    for (value, is_refused) in [("1", true), ("0", false)] {
        let mut config = with("run.oci.seccomp_fail_unknown_syscall", value);
        set(&mut config, "linux/seccomp", profile.clone());
        let bundle = bench.bundle(&config);
        if is_refused {
            let error = bench.refused(&["run", "-b", &bundle, "c"]);
            assert!(
                error.ends_with("`linux.seccomp.syscalls = fly`: is no system call"),
                "{error}"
            );
        } else {
            bench.run(&["run", "-b", &bundle, "c"]).ok();
        }
    }
    let features: Value = serde_json::from_str(&bench.run(&["features"]).ok()).unwrap();
    let unsafe_annotations = json!(["org.pidone.", "org.systemd.property.", "run.oci."]);
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], unsafe_annotations);
}
