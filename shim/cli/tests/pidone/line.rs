//! The line itself: help, versions, wrong options, the log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::{Case, case};
use pidone_tests::Bench;

pub(crate) const CASES: &[Case] = &[
    case("the_version_has_runcs_lines", &[], the_version_has_runcs_lines),
    case("help_is_everywhere", &[], help_is_everywhere),
    case("verbs_that_are_always_refused_have_no_help", &[], verbs_without_help),
    case("wrong_lines_are_refused", &[], wrong_lines_are_refused),
    case("hostile_ids_are_refused", &[], hostile_ids_are_refused),
    case("errors_are_in_the_log", &[], errors_are_in_the_log),
    case("clients_put_the_name_before_the_message", &[], clients_name_the_runtime),
    case("spec_and_features", &[], spec_and_features),
    case("a_plan_is_printed_and_not_run", &[], a_plan_is_printed_and_not_run),
    case("init_image_writes_the_init", &[], init_image_writes_the_init),
];

fn the_version_has_runcs_lines(bench: &Bench) {
    for option in ["--version", "-v"] {
        let text = bench.run(&[option]).ok();
        let lines: Vec<&str> = text.lines().collect();
        // go-runc wants three; docker takes the name before and the text after `version`.
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], concat!("pidone version ", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].strip_prefix("commit: ").is_some_and(|commit| !commit.is_empty()));
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}

fn help_is_everywhere(bench: &Bench) {
    let all = bench.run(&["--help"]).ok();
    assert!(all.contains("Usage: pidone"), "{all}");
    assert!(!all.contains("checkpoint") && !all.contains("  init "), "{all}");
    for verb in [
        "create",
        "start",
        "run",
        "exec",
        "state",
        "kill",
        "delete",
        "list",
        "ps",
        "events",
        "pause",
        "resume",
        "update",
        "spec",
        "plan",
        "features",
        "init-image",
    ] {
        assert!(all.contains(&format!("\n  {verb}")), "{verb} in {all}");
        let help = bench.run(&[verb, "--help"]).ok();
        assert!(help.contains(&format!("Usage: pidone {verb}")), "{help}");
        assert_eq!(bench.run(&["help", verb]).ok(), help);
        let page = bench.run(&["man", verb]).ok();
        assert!(page.contains(&format!(".TH pidone-{verb} 1")), "{page}");
    }
    assert!(bench.run(&["completions", "bash"]).ok().contains("preserve-fds"));
}

/// podman and CRI-O take the exit status of `checkpoint --help` as the answer to whether containers
/// can be saved.
fn verbs_without_help(bench: &Bench) {
    for verb in ["checkpoint", "restore", "init"] {
        for line in [&[verb, "--help"][..], &[verb, "-h"], &[verb, "--version"], &[verb, "-v"]] {
            let error = bench.run(line).error(1);
            assert!(error.starts_with(&format!("command `{verb}`: ")), "{line:?}: {error}");
        }
        for line in [["help", verb], ["h", verb], ["man", verb]] {
            let error = bench.run(&line).error(1);
            assert_eq!(error, format!("command `{verb}`: always refused, and has no help"));
        }
    }
    let pages = bench.mkdir("pages");
    bench.run(&["man", "--all", &pages]).ok();
    for page in fs::read_dir(&pages).unwrap() {
        let text = fs::read_to_string(page.as_ref().unwrap().path()).unwrap();
        assert!(!text.contains("pidone-checkpoint") && !text.contains("--image-path"), "{page:?}");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = bench.run(&["completions", shell]).ok();
        assert!(!script.contains("checkpoint") && !script.contains("restore"), "{script}");
    }
}

fn wrong_lines_are_refused(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    for (line, said) in [
        (&["--bogus", "list"][..], "option `--bogus`: unknown (see pidone --help)"),
        (&["bogus"], "command `bogus`: unknown (see pidone --help)"),
        (&["create"], "required arguments were not provided: <ID>"),
        (&["create", "a", "b"], "unexpected argument 'b' found"),
        (&["create", "--bogus", "a"], "unexpected argument '--bogus' found"),
        (&["checkpoint", "--image-path", "/x", "a"], "checkpoint and restore are not supported"),
        (&["restore", "a"], "checkpoint and restore are not supported"),
        (&["init"], "the init of containers is a program of its own"),
        (&["create", "-b", "/nonexistent", "a"], "/nonexistent"),
        (&["state", "none"], "container does not exist"),
        (&["start", "none"], "container does not exist"),
        (&["kill", "none", "9"], "container does not exist"),
        (&["delete", "none"], "container does not exist"),
        (&["pause", "none"], "container does not exist"),
        (&["ps", "none"], "container does not exist"),
        (&["events", "none"], "container does not exist"),
        (&["update", "--memory", "1g", "none"], "container does not exist"),
        (&["kill", "none", "SIGFOO"], "no such signal"),
        (&["list", "--format", "xml"], "invalid value 'xml'"),
        (
            &["run", "-b", &bundle, "--console-socket", "/x", "a"],
            "needs a process that is detached",
        ),
        (&["create", "-b", &bundle, "--console-socket", "/x", "a"], "needs a process with a term"),
        (&["create", "-b", &bundle, "--pidfd-socket", "/nonexistent", "a"], "connect `/nonexiste"),
        (
            &["create", "-b", &bundle, "--preserve-fds", "1", "a"],
            "preserve descriptor `3`: Bad file",
        ),
        (
            &["create", "-b", &bundle, "--preserve-fds", "4294967295", "a"],
            "preserve descriptor `4294967295`: Bad file",
        ),
    ] {
        let error = bench.run(line).error(1);
        assert!(error.contains(said), "{line:?}: {error}");
    }
    // exec has another status, and so have errors of its command line.
    assert!(bench.run(&["exec", "none", "sh"]).error(255).contains("container does not exist"));
    assert!(bench.run(&["exec", "--bogus", "none"]).error(1).contains("unexpected argument"));
}

fn hostile_ids_are_refused(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    let long = "x".repeat(2000);
    for id in ["", ".", "..", "a/b", "../a", "a b", "a\u{1b}[2J", "ä", &long] {
        for line in [&["create", "-b", &bundle][..], &["state"], &["delete", "-f"], &["kill"]] {
            let error = bench.run(&[line, &["--", id]].concat()).error(1);
            let rule = if *id == long {
                "longer than 1024 bytes"
            } else {
                "not 1 to 1024 of A-Z a-z 0-9 _ + . -"
            };
            assert!(error.contains(rule), "{line:?}: {error}");
        }
    }
    assert!(bench.run(&["state", "--", "-x"]).error(1).contains("no leading -"));
}

fn errors_are_in_the_log(bench: &Bench) {
    let log = bench.text("log");
    let json = ["--log", &log, "--log-format", "json"];
    let error = bench.run(&[&json[..], &["state", "none"]].concat()).error(1);
    bench.run(&[&json[..], &["state", "--bogus\""]].concat()).error(1);
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!((&lines[0]["level"], &lines[0]["msg"]), (&"error".into(), &error.into()));
    assert!(lines[1]["msg"].as_str().unwrap().contains("--bogus\""), "{text}");
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'), "{text}");
    // crun's callers write it in one word.
    let log = bench.text("log.text");
    bench.run(&[&format!("--log={log}"), "state", "none"]).error(1);
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.starts_with("time=\"2") && text.contains("level=error msg=\"load `none`: "),
        "{text}"
    );
}

/// podman writes `Error: pidone: ` and what the runtime has written: to the log that it asks for,
/// or to standard error for conmon, which asks for a pid file.
fn clients_name_the_runtime(bench: &Bench) {
    bench.keep("running", &bench.staying());
    let mut config = bench.config(&["nosuch"]);
    config["linux"]["cgroupsPath"] = format!("/{}", bench.new_cgroup()).into();
    let bundle = bench.bundle(&config);
    let (log, pid) = (bench.text("log"), bench.text("pid"));
    let said = |line: &[&str]| {
        let said = bench.quietly(line).1;
        assert_eq!(said.lines().count(), 1, "{line:?}: {said}");
        said
    };
    for line in [
        &["create", "-b", &*bundle, "c"][..],
        &["run", "-d", "-b", &bundle, "c"],
        &["exec", "-d", "running", "nosuch"],
    ] {
        let (verb, rest) = line.split_first().unwrap();
        assert!(said(line).starts_with("pidone: "), "control: {line:?}");
        for line in [
            &[&[*verb, "--pid-file", &*pid][..], rest].concat(),
            &[&["--log", &*log, "--log-format=json"][..], line].concat(),
        ] {
            let said = said(line);
            assert!(!said.contains("pidone") && said.contains("nosuch"), "{line:?}: {said}");
        }
    }
    for line in fs::read_to_string(&log).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(!line["msg"].as_str().unwrap().contains("pidone"), "{line}");
    }
    let said = said(&["--log", &log, "state", "none"]);
    assert_eq!(said, "load `none`: container does not exist\n");
    bench.delete("running");
}

fn spec_and_features(bench: &Bench) {
    let directory = bench.text("rootfs/tmp");
    bench.run(&["spec", "-b", &directory]).ok();
    let path = bench.path("rootfs/tmp/config.json");
    let spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"][0], "sh", "{spec}");
    let refused = bench.run(&["spec", "--bundle", &directory]).error(1);
    assert!(refused.contains("File config.json exists. Remove it first"), "{refused}");
    fs::remove_file(&path).unwrap();
    bench.run(&["spec", "--rootless", "--bundle", &directory]).ok();
    let spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(spec["linux"]["uidMappings"][0]["hostID"].is_number(), "{spec}");
    let features: Value = serde_json::from_str(&bench.run(&["features"]).ok()).unwrap();
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1.3"), "{features}");
}

fn a_plan_is_printed_and_not_run(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["touch", "/run"]));
    let text = bench.run(&["plan", &bundle]).ok();
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    for (index, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("{} ", index + 1)), "{line} in {text}");
    }
    let has = |words: &str| assert!(lines.iter().any(|line| line.contains(words)), "{text}");
    has("mount proc ");
    has("attach proc at /proc, a directory if missing, no symbolic link");
    has("pivot_root");
    assert!(
        lines
            .last()
            .unwrap()
            .contains(" exec \"touch\" \"/run\" from \"/bin/touch\", environment of "),
        "{text}"
    );
    assert_eq!(bench.run(&["list", "-q"]).ok(), "");
    assert!(bench.run(&["plan", "/nonexistent"]).error(1).contains("/nonexistent"));
}

fn init_image_writes_the_init(bench: &Bench) {
    let image = pidone::launch::image::EMBEDDED.bytes();
    let file = bench.text("init");
    // What was there is replaced, even while it runs.
    for _ in 0..2 {
        assert_eq!(bench.run(&["init-image", &file]).ok(), "");
        assert_eq!(fs::read(&file).unwrap(), image);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode(), 0o100_755);
    }
    let version = std::process::Command::new(&file).arg("--version").output().unwrap();
    let expected = concat!("tini version ", env!("CARGO_PKG_VERSION"), "_pidone-init\n");
    assert_eq!(version.stdout, expected.as_bytes());
    for line in [&["init-image"][..], &["init-image", "-"]] {
        let said = bench.run(line).ok();
        assert_eq!(said, String::from_utf8_lossy(image));
    }

    let supervisor = bench.text("supervisor");
    assert_eq!(bench.run(&["init-image", "--supervise", &supervisor]).ok(), "");
    let bytes = pidone::launch::image::SUPERVISOR.bytes();
    assert!(fs::read(&supervisor).unwrap() == bytes && bytes != image);

    let directory = bench.text("directory");
    fs::create_dir(&directory).unwrap();
    for (path, said) in [
        ("/no/such/init", "create `/no/such/init`: No such file or directory"),
        (&directory, "Is a directory"),
        ("/", "Is a directory"),
        ("/dev/full/x", "Not a directory"),
    ] {
        let error = bench.run(&["init-image", path]).error(1);
        assert!(error.contains(said), "{path}: {error}");
    }
    let left = fs::read_dir(Path::new(&directory).parent().unwrap()).unwrap();
    let left = left.filter_map(Result::ok).map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
}
