//! `--trace`: where the time of a start went.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, set};

pub(crate) const CASES: &[Case] = &[
    case("trace_as_json", &[], as_json),
    case("trace_as_a_picture", &[], as_a_picture),
    case("trace_as_a_table", &[], as_a_table),
    case("trace_of_create_and_exec", &[], of_create_and_exec),
    case("trace_of_a_late_user", &[], of_a_late_user),
    case("trace_of_a_failure", &[], of_a_failure),
    case("trace_that_cannot_be_written", &[], that_cannot_be_written),
];

fn read(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&fs::read(bench.path(name)).unwrap()).unwrap()
}

/// The spans of one side, as names, objects, beginnings and ends in nanoseconds.
fn spans(trace: &Value, who: &str) -> Vec<(String, String, u64, u64)> {
    let spans = trace["spans"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    spans
        .filter(|span| span["who"] == who)
        .map(|span| {
            let start = span["start"].as_u64().unwrap();
            let end = start + span["duration"].as_u64().unwrap();
            (text(&span["name"]), text(&span["object"]), start, end)
        })
        .collect()
}

fn as_json(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["sh", "-c", "exit 7"]));
    // What was there before is gone.
    let file = bench.write("t.json", "x".repeat(1 << 20));
    let run = bench.run(&["run", "--trace", &file, "-b", &bundle, "t"]);
    assert_eq!((run.code(), run.stderr.as_str()), (7, ""));
    let trace = read(bench, "t.json");
    assert_eq!((&trace["strategy"], &trace["reason"]), (&json!("host"), &json!("asked for")));
    assert_eq!(trace["error"], Value::Null);
    let total = trace["total"].as_u64().unwrap();
    let (host, init) = (spans(&trace, "host"), spans(&trace, "init"));
    for side in [&host, &init] {
        let mut last = 0;
        for (name, _, start, end) in side {
            assert!(last <= *start && start <= end && *end <= total, "{name}: {trace:#}");
            last = *end;
        }
    }
    // Nearly all of the time has a name, unless something else has the processor in between.
    let named = |trace: &Value| {
        let named: u64 = spans(trace, "host").iter().map(|(_, _, start, end)| end - start).sum();
        named > trace["total"].as_u64().unwrap() / 10 * 8
    };
    let again = || {
        bench.run(&["run", "--trace", &file, "-b", &bundle, "t"]);
        read(bench, "t.json")
    };
    assert!(named(&trace) || (0..10).any(|_| named(&again())), "{trace:#}");
    let begin = |name: &str| {
        let step = host.iter().find(|(step, ..)| step == name);
        step.unwrap_or_else(|| panic!("{name}: {trace:#}")).2
    };
    let steps = [
        "start this program",
        "read the bundle",
        "check the configuration",
        "make cgroups",
        "compile the plan",
        "open descriptors",
        "send the plan",
        "clone",
        "start seen",
    ];
    assert!(steps.map(begin).is_sorted(), "{trace:#}");
    assert_eq!(host[1].1, bundle);
    has_the_whole_plan(bench, &bundle, &trace);
    // It lives from the clone on until the host has seen its exec.
    let rest = host.iter().find(|(_, _, start, _)| *start > begin("start seen")).unwrap().2;
    assert!(init[0].2 >= begin("clone") && init.last().unwrap().3 <= rest, "{trace:#}");
}

/// Asserts that a trace has all operations that the plan has, as it is printed: before any id, and
/// with every barrier.
fn has_the_whole_plan(bench: &Bench, bundle: &str, trace: &Value) {
    let plan = bench.run(&["plan", bundle]).ok().replace("keyring _ses", "keyring _ses.t");
    let planned = plan.lines().map(|line| line.trim_start().split_once(' ').unwrap().1);
    let planned = planned.filter(|line| !line.starts_with("barrier"));
    // The network namespace may have been made beside it, and is then entered.
    let init = spans(trace, "init");
    let told = init[1..].iter().filter(|(name, ..)| !["barrier", "setns"].contains(&name.as_str()));
    let told: Vec<_> =
        told.map(|(name, object, ..)| format!("{name} {object}").trim_end().to_owned()).collect();
    assert_eq!(told, planned.collect::<Vec<_>>());
}

/// The rest of the plan follows when the user is found in the container.
fn of_a_late_user(bench: &Bench) {
    let mut config = bench.config(&["true"]);
    let mount = json!({ "destination": "/etc", "type": "tmpfs", "source": "tmpfs" });
    config["mounts"].as_array_mut().unwrap().push(mount);
    let bundle = bench.bundle(&config);
    let file = bench.text("t.json");
    bench.run(&["run", "--trace", &file, "-b", &bundle, "t"]).ok();
    let trace = read(bench, "t.json");
    has_the_whole_plan(bench, &bundle, &trace);
    let find = |who, name: &str| {
        let found = spans(&trace, who).into_iter().find(|(span, ..)| span == name);
        found.unwrap_or_else(|| panic!("{name}: {trace:#}"))
    };
    let (found, waited) = (find("host", "find the user"), find("init", "barrier"));
    assert!(waited.2 <= found.2 && found.3 <= waited.3, "{trace:#}");
}

fn as_a_picture(bench: &Bench) {
    let mut config = bench.config(&["true"]);
    let destination = "/tmp/<&\"'>\u{1}]]>";
    fs::create_dir_all(bench.path("rootfs/tmp")).unwrap();
    let mount = json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" });
    config["mounts"].as_array_mut().unwrap().push(mount);
    let bundle = bench.bundle(&config);
    let file = bench.text("t.svg");
    bench.run(&["run", "--trace", &file, "-b", &bundle, "t"]).ok();
    let svg = fs::read_to_string(&file).unwrap();
    check_xml(&svg);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{svg}");
    assert!(svg.contains("strategy: host (asked for)</title>"), "{svg}");
    assert!(svg.contains("&lt;&amp;&quot;&apos;&gt;"), "{svg}");
    for name in ["clone", "pivot_root", "wait for the init"] {
        assert!(svg.contains(&format!(">{name}")), "{name}: {svg}");
    }
}

/// Elements are closed in their order, and text contains no markup.
fn check_xml(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, behind) = piece.split_once('>').unwrap();
        assert!(!behind.contains('>'), "{behind}");
        for entity in behind.split('&').skip(1) {
            let name = entity.split(';').next().unwrap();
            assert!(["lt", "gt", "amp", "quot", "apos"].contains(&name), "{behind}");
        }
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{text}");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        assert!(tag.matches('"').count() % 2 == 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

fn as_a_table(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    let run = bench.run(&["run", "--trace", "-", "-b", &bundle, "t"]);
    assert_eq!((run.code(), run.stdout.as_str()), (0, ""));
    let file = bench.text("t.txt");
    bench.run(&["run", "--trace", &file, "-b", &bundle, "t"]).ok();
    for table in [run.stderr, fs::read_to_string(&file).unwrap()] {
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("start: ") && lines[0].contains("strategy: host"), "{table}");
        assert!(lines.iter().any(|line| line.contains("| init attach proc at /proc")), "{table}");
        assert!(lines.last().unwrap().starts_with("host: "), "{table}");
    }
    // Once, where both are asked for.
    let run = bench.run(&["--debug", "run", "--trace", "-", "-b", &bundle, "t"]);
    assert_eq!(run.stderr.matches("| init pivot_root").count(), 1, "{}", run.stderr);
}

fn of_create_and_exec(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    let (made, joined) = (bench.text("made.json"), bench.text("joined.json"));
    bench.detached(&["create", "--trace", &made, "--bundle", &bundle, "t"]);
    let made = spans(&read(bench, "made.json"), "init");
    assert_eq!(made.last().unwrap().0, "wait for the start");
    bench.run(&["start", "t"]).ok();
    bench.run(&["exec", "--trace", &joined, "t", "true"]).ok();
    let joined = spans(&read(bench, "joined.json"), "init");
    assert_eq!(joined.last().unwrap().0, "exec");
    assert!(joined.iter().any(|(name, ..)| name == "setns"), "{joined:?}");
    bench.delete("t");
}

fn of_a_failure(bench: &Bench) {
    let file = bench.text("t.json");
    let fails = |config: &Value, code| {
        let bundle = bench.bundle(config);
        let error = bench.run(&["run", "--trace", &file, "-b", &bundle, "t"]).error(code);
        let trace = read(bench, "t.json");
        assert_eq!(trace["error"], error, "{trace:#}");
        let failed: Vec<_> = trace["spans"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|span| span["failed"] == true)
            .map(|span| format!("{} {}", span["who"], span["name"]).replace('"', ""))
            .collect();
        let table = bench.run(&["run", "--trace", "-", "-b", &bundle, "t"]).stderr;
        assert_eq!(table.matches(" FAILED\n").count(), failed.len(), "{table}");
        failed
    };
    assert_eq!(fails(&bench.config(&["/missing"]), 1), ["init exec"]);
    let mut config = bench.config(&["true"]);
    set(&mut config, "mounts/3/destination", json!("/etc/../link/x"));
    // It cannot be made below what is no directory.
    symlink("bin/busybox", bench.path("rootfs/link")).unwrap();
    assert_eq!(fails(&config, 1), ["init attach"]);
    let bind = json!({ "destination": "/x", "type": "bind", "source": "/missing",
        "options": ["bind"] });
    set(&mut config, "mounts/3", bind);
    assert_eq!(fails(&config, 1), ["host compile the plan"]);
    assert_eq!(fails(&json!("no object"), 1), ["host read the bundle"]);
}

fn that_cannot_be_written(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    let missing = bench.text("no/t.json");
    let error = bench.run(&["run", "--trace", &missing, "-b", &bundle, "t"]).error(1);
    assert_eq!(error, format!("open `{missing}`: No such file or directory"));
    let error = bench.run(&["run", "--trace", "t.html", "-b", &bundle, "t"]).error(1);
    assert!(error.contains("must be - or end in .json, .svg or .txt"), "{error}");
    // The container runs and its status counts, whatever becomes of the file.
    symlink("/dev/full", bench.path("full.txt")).unwrap();
    let run = bench.run(&["run", "--trace", &bench.text("full.txt"), "-b", &bundle, "t"]);
    assert_eq!(run.code(), 0);
    assert!(run.stderr.ends_with("full.txt`: No space left on device\n"), "{}", run.stderr);
}
