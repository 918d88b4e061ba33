//! What the commands must not do to files, directories and times of others.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::leftover::{CGROUPS, find};
use pidone_tests::{Bench, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("details_are_lines_of_the_log", &[], details_are_lines_of_the_log),
    case("directories_of_others_are_no_containers", &[], directories_of_others),
    case("a_pid_file_is_a_regular_file", &[], a_pid_file_is_a_regular_file),
    case("the_longest_interval_is_no_panic", &[Need::Memory], the_longest_interval_is_no_panic),
    case("damaged_state_and_journal_are_reported", &[], damaged_state_and_journal_are_reported),
    case("spec_has_a_cgroup_namespace_only_for_v2", &[], spec_has_a_cgroup_namespace_only_for_v2),
];

/// As in runc: in the log, or without one on standard error.
fn details_are_lines_of_the_log(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    let run = ["run", "--bundle", &bundle, "d"];
    let outcome = bench.run(&[&["--debug"], &run[..]].concat());
    assert_eq!((outcome.code(), &*outcome.stdout), (0, ""));
    assert!(outcome.stderr.lines().count() > 2, "{outcome:?}");
    for line in outcome.stderr.lines() {
        assert!(line.starts_with("time=\"2") && line.contains(" level=debug msg=\""), "{line}");
    }
    let log = bench.text("log");
    for format in ["text", "json"] {
        let _ = fs::remove_file(&log);
        let options = ["--debug", "--log", &log, "--log-format", format];
        assert_eq!(bench.run(&[&options, &run[..]].concat()).ok(), "");
        // Every command has a line at least.
        bench.run(&[&options[..], &["list"]].concat()).ok();
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.lines().count() > 3, "{text}");
        for line in text.lines() {
            let is_debug = match format {
                "json" => serde_json::from_str::<Value>(line).unwrap()["level"] == "debug",
                _ => line.contains(" level=debug "),
            };
            assert!(is_debug, "{line}");
        }
        assert!(text.lines().last().unwrap().contains(": list"), "{text}");
    }
    // Control: without the option there are none.
    fs::remove_file(&log).unwrap();
    assert_eq!(bench.run(&[&["--log", &log], &run[..]].concat()).ok(), "");
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}

/// Somebody may have given a directory with other things as the root.
fn directories_of_others(bench: &Bench) {
    bench.create("mine", &bench.staying());
    for place in ["state/foreign", "state/full/state"] {
        fs::create_dir_all(bench.path(place)).unwrap();
    }
    fs::write(bench.path("state/full/precious"), "data").unwrap();
    fs::write(bench.path("state/file"), "data").unwrap();
    assert_eq!(bench.run(&["list", "--quiet"]).ok(), "mine\n");
    for verb in [&["state", "full"][..], &["delete", "full"], &["kill", "full"]] {
        let error = bench.run(verb).error(1);
        assert!(error.contains("container does not exist"), "{verb:?}: {error}");
    }
    bench.run(&["delete", "--force", "full"]).ok();
    assert_eq!(fs::read_to_string(bench.path("state/full/precious")).unwrap(), "data");
    bench.delete("mine");
    for place in ["state/foreign", "state/full"] {
        fs::remove_dir_all(bench.path(place)).unwrap();
    }
    fs::remove_file(bench.path("state/file")).unwrap();
}

/// Whatever else there is would be replaced, such as `/dev/null`.
fn a_pid_file_is_a_regular_file(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    let target = bench.write("target", "data");
    let link = bench.text("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let fifo = bench.text("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let directory = bench.mkdir("directory");
    let refused = |line: &[&str], code: i32, path: &str| {
        let (status, said) = bench.quietly(line);
        let reason = format!("`--pid-file = {path}`: is not a regular file");
        assert!(status == code && said.contains(&reason), "{line:?}: {status} {said}");
    };
    bench.keep("running", &bench.staying());
    for path in [&*link, &fifo, &directory] {
        refused(&["create", "--bundle", &bundle, "--pid-file", path, "p"], 1, path);
        refused(&["run", "--detach", "--bundle", &bundle, "--pid-file", path, "p"], 1, path);
        refused(&["exec", "--pid-file", path, "running", "true"], 255, path);
    }
    assert_eq!(bench.run(&["list", "--quiet"]).ok(), "running\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "data");
    bench.delete("running");
    // Control: a regular file is replaced.
    bench.detached(&["create", "--bundle", &bundle, "--pid-file", &target, "p"]);
    assert_eq!(fs::read_to_string(&target).unwrap(), bench.state("p")["pid"].to_string());
    bench.delete("p");
}

/// The longest that Go's durations have.
fn the_longest_interval_is_no_panic(bench: &Bench) {
    bench.keep("e", &bench.staying());
    let events = bench.start(&mut bench.command(&["events", "--interval", "2562047h47m16s", "e"]));
    let longer =
        bench.start(&mut bench.command(&["events", "--interval", "2562047788015215h", "e"]));
    // It has asked for events, and waits.
    let waits = || {
        let files = fs::read_dir(format!("/proc/{}/fd", events.pid()));
        files.into_iter().flatten().flatten().any(|file| {
            let target = fs::read_link(file.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            target.contains("inotify") || target.contains("eventfd")
        })
    };
    assert!(eventually(waits), "{events:?}");
    // They end with the cgroup.
    bench.delete("e");
    assert_eq!(events.finish().ok(), "");
    let longer = longer.finish();
    assert!(longer.code() <= 1 && !longer.stderr.contains("panicked"), "{longer:?}");
}

fn damaged_state_and_journal_are_reported(bench: &Bench) {
    let has_cgroup = || find(Path::new(CGROUPS), 6, bench.cgroup());
    let files = ["state/d/state.json", "state/d/journal"].map(|name| bench.path(name));
    for (damage, both) in [("", true), ("garbage\n", true), ("{", true), ("garbage\n", false)] {
        bench.keep("d", &bench.staying());
        let pid = bench.state("d")["pid"].to_string();
        fs::write(&files[0], damage).unwrap();
        if !both {
            // The journal is enough.
            bench.run(&["delete", "--force", "d"]).ok();
            assert_eq!(has_cgroup(), None);
            continue;
        }
        let journal = fs::read(&files[1]).unwrap();
        fs::write(&files[1], damage).unwrap();
        let error = bench.run(&["delete", "d"]).error(1);
        assert!(error.contains("its processes and cgroups cannot be found"), "{damage:?}: {error}");
        let outcome = bench.run(&["delete", "--force", "d"]);
        assert!(outcome.stderr.contains("processes and cgroups may be left"), "{outcome:?}");
        assert!(!files[0].exists() && has_cgroup().is_some());
        // What is left is removed as if the journal had been found again.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::create_dir(bench.path("state/d")).unwrap();
        fs::set_permissions(bench.path("state/d"), mode).unwrap();
        fs::write(&files[1], journal).unwrap();
        bench.run(&["delete", "--force", "d"]).ok();
        assert!(!Path::new("/proc").join(&pid).join("root/bin").exists());
    }
}

fn spec_has_a_cgroup_namespace_only_for_v2(bench: &Bench) {
    let directory = bench.mkdir("spec");
    let file = bench.path("spec/config.json");
    let has_namespace = |spec: Value| {
        let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
        namespaces.contains(&json!({ "type": "cgroup" }))
    };
    for option in [None, Some("--rootless")] {
        for (prepare, expected) in [
            ("mount -t tmpfs none /sys/fs/cgroup", false),
            ("mount -t cgroup2 none /sys/fs/cgroup", true),
        ] {
            let program = bench.program().display();
            let option = option.unwrap_or("");
            let line = format!("umount -R /sys/fs/cgroup; {prepare} && {program} spec {option}");
            let mut command =
                bench.command_of(Path::new("/usr/bin/unshare"), &["-m", "sh", "-c", &line]);
            assert_eq!(bench.finish(command.current_dir(&directory)).code(), 0);
            let spec = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            assert_eq!(has_namespace(spec), expected, "{option} {prepare}");
            fs::remove_file(&file).unwrap();
        }
    }
}
