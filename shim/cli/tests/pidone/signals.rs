//! Signals that the caller of the command ignores or blocks, and how they reach the program.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("inherited_signals_break_nothing", &[Need::PS], inherited_signals_break_nothing),
    case("an_ignored_hangup_ends_no_program", &[], an_ignored_hangup_ends_no_program),
];

/// The command with these arguments, called by env(1) of coreutils with options.
fn called_with(bench: &Bench, options: &[&str], arguments: &[&str]) -> Command {
    let (program, state) = (bench.program().to_str().unwrap(), bench.text("state"));
    let all = [options, &[program, "--root", &state], arguments].concat();
    bench.command_of(Path::new("/usr/bin/env"), &all)
}

/// Whatever the caller ignores or blocks, statuses are right, and a program begins with nothing
/// ignored and nothing blocked, as in runc.
fn inherited_signals_break_nothing(bench: &Bench) {
    // No shell, which ignores signals itself.
    let line = ["cat", "/proc/self/status"];
    let is_clean = |status: &str| {
        let sets = status
            .lines()
            .filter(|line| line.starts_with("SigBlk:") || line.starts_with("SigIgn:"));
        sets.map(|line| line.ends_with("\t0000000000000000")).eq([true; 2])
    };
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exit 0"] }]);
    for options in [&["--ignore-signal"][..], &["--block-signal"], &["--ignore-signal=CHLD"]] {
        for init in [None, Some("--init")] {
            let run = |arguments: &[&str]| {
                let arguments = [arguments, init.as_slice()].concat();
                bench.finish(&mut called_with(bench, options, &arguments))
            };
            let mut config = bench.config(&line);
            config["hooks"] = json!({ "prestart": hook, "poststart": hook, "poststop": hook });
            let bundle = bench.bundle(&config);
            let outcome = run(&["run", "--bundle", &bundle, "s"]);
            assert!(is_clean(&outcome.stdout), "{options:?} {init:?}: {outcome:?}");
            assert_eq!((outcome.code(), &*outcome.stderr), (0, ""), "{options:?} {init:?}");
            let bundle = bench.bundle(&bench.config(&["sh", "-c", "exit 7"]));
            assert_eq!(run(&["run", "--bundle", &bundle, "s"]).code(), 7);
            let mut config = bench.staying();
            config["hooks"] = json!({ "prestart": hook, "poststart": hook, "poststop": hook });
            let bundle = bench.bundle(&config);
            let arguments = [&["create", "--bundle", &bundle, "s"], init.as_slice()].concat();
            let mut create = called_with(bench, options, &arguments);
            // The container must not hold the pipes of the test.
            create.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            assert_eq!(bench.finish(&mut create).code(), 0);
            let other = |arguments: &[&str]| {
                let outcome = bench.finish(&mut called_with(bench, options, arguments));
                assert_eq!(outcome.stderr, "", "{options:?} {init:?} {arguments:?}");
                (outcome.code(), outcome.stdout)
            };
            assert_eq!(other(&["start", "s"]), (0, String::new()));
            let (code, status) = other(&["exec", "s", "cat", "/proc/self/status"]);
            assert!(code == 0 && is_clean(&status), "{options:?} {init:?}: {status}");
            assert_eq!(other(&["exec", "--tty", "s", "sh", "-c", "exit 8"]).0, 8);
            assert_eq!(other(&["ps", "s"]).0, 0);
            assert_eq!(other(&["kill", "s", "KILL"]).0, 0);
            bench.wait_for("s", "stopped");
            assert_eq!(other(&["delete", "s"]).0, 0);
        }
    }
}

/// Starts a command under nohup(1), whose program has a handler for `SIGTERM` alone.
fn immune(bench: &Bench, arguments: &[&str]) -> Call {
    bench.start(&mut called_with(bench, &["--ignore-signal=HUP"], arguments))
}

fn an_ignored_hangup_ends_no_program(bench: &Bench) {
    let line = "trap 'exit 3' TERM; echo > /tmp/ready; while :; do sleep 0.02; done";
    let ends = |program: Call, id: &str| {
        let ready = || bench.run(&["exec", id, "cat", "/tmp/ready"]).code() == 0;
        assert!(eventually(ready));
        for signal in [Signal::HUP, Signal::TERM] {
            program.signal(signal);
        }
        // Signals are read in the order of their numbers.
        assert_eq!(program.finish().code(), 3, "{id}");
    };
    for init in [None, Some("--init")] {
        let bundle = bench.bundle(&bench.config(&["sh", "-c", line]));
        let run = [&["run", "--bundle", &bundle, "r"], init.as_slice()].concat();
        ends(immune(bench, &run), "r");
        let bundle = bench.bundle(&bench.staying());
        bench.detached(&[&["run", "--detach", "--bundle", &bundle, "e"], init.as_slice()].concat());
        ends(immune(bench, &["exec", "e", "sh", "-c", line]), "e");
        bench.delete("e");
    }
    // Control: a signal that is not ignored has its effect.
    let bundle = bench.bundle(&bench.config(&["sh", "-c", line]));
    let program = bench.start(&mut called_with(bench, &[], &["run", "--bundle", &bundle, "r"]));
    assert!(eventually(|| bench.run(&["exec", "r", "cat", "/tmp/ready"]).code() == 0));
    program.signal(Signal::HUP);
    assert_eq!(program.finish().code(), 129);
}
