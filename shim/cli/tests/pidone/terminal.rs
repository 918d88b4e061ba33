//! Terminals that the command relays itself: `run` and `exec --tty` in the foreground.

use std::fs;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Need, Person, eventually};

pub(crate) const CASES: &[Case] = &[
    case("exec_with_a_terminal_works_again_and_again", &[], exec_works_again_and_again),
    case("line_feeds_stay_as_they_are", &[], line_feeds_stay_as_they_are),
    case("a_lost_terminal_ends_no_handler", &[Need::SETSID], a_lost_terminal_ends_no_handler),
    case("a_lost_terminal_hangs_up_the_containers", &[Need::SETSID], a_lost_terminal_hangs_up),
];

/// A configuration of a shell with a terminal.
fn with_terminal(bench: &Bench, line: &str) -> Value {
    let mut config = bench.config(&["sh", "-c", line]);
    config["process"]["terminal"] = json!(true);
    config
}

/// The plain init, and one that stays process 1.
const INITS: [&[&str]; 2] = [&[], &["--init"]];

/// A container may have a directory of the host at `/dev`.
fn exec_works_again_and_again(bench: &Bench) {
    let dev = bench.mkdir("dev/pts");
    for init in INITS {
        let mut config = bench.staying();
        config["mounts"][1] = json!({
            "destination": "/dev", "type": "bind", "source": bench.path("dev"), "options": ["bind"],
        });
        let bundle = bench.bundle(&config);
        bench.detached(&[&["run", "--detach", "--bundle", &bundle, "e"], init].concat());
        let mountinfo = format!("/proc/{}/mountinfo", bench.state("e")["pid"]);
        let before = fs::read_to_string(&mountinfo).unwrap();
        for _ in 0..3 {
            assert_eq!(bench.run(&["exec", "--tty", "e", "tty"]).ok(), "/dev/pts/0\n");
            assert_eq!(fs::read_to_string(&mountinfo).unwrap(), before);
            assert!(!bench.path("dev/console").exists());
        }
        bench.delete("e");
    }
    assert!(fs::exists(dev).unwrap());
}

/// As in runc, where the output of the command is no terminal.
fn line_feeds_stay_as_they_are(bench: &Bench) {
    let line = "printf 'a\\nb\\r\\n'; echo c";
    for init in INITS {
        let bundle = bench.bundle(&with_terminal(bench, line));
        for _ in 0..5 {
            let run = [&["run", "--bundle", &bundle, "t"], init].concat();
            assert_eq!(bench.run(&run).ok(), "a\nb\r\nc\n", "{init:?}");
        }
        let bundle = bench.bundle(&bench.staying());
        bench.detached(&[&["run", "--detach", "--bundle", &bundle, "e"], init].concat());
        for _ in 0..5 {
            let output = bench.run(&["exec", "--tty", "e", "sh", "-c", line]).ok();
            assert_eq!(output, "a\nb\r\nc\n", "{init:?}");
        }
        bench.delete("e");
    }
}

/// The handler of a program runs to its end, whatever the lost terminal returns meanwhile.
fn a_lost_terminal_ends_no_handler(bench: &Bench) {
    let place = bench.mkdir("place");
    let handler = "echo > /place/got; while ! test -e /place/go; do sleep 0.02; done; \
                   echo said to nobody; echo > /place/done; exit 9";
    let line = format!("trap '{handler}' HUP; echo ready; while :; do sleep 0.02; done");
    for (verb, init) in
        [("run", INITS[0]), ("run", INITS[1]), ("exec", INITS[0]), ("exec", INITS[1])]
    {
        let mut config = if verb == "run" { with_terminal(bench, &line) } else { bench.staying() };
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "destination": "/place", "type": "bind", "source": place, "options": ["bind"],
        }));
        fs::create_dir_all(bench.path("rootfs/place")).unwrap();
        let bundle = bench.bundle(&config);
        let person = Person::new(24, 80);
        let mut program = if verb == "run" {
            person.starts(bench, &[&["run", "--bundle", &bundle, "t"], init].concat())
        } else {
            bench.detached(&[&["run", "--detach", "--bundle", &bundle, "t"], init].concat());
            person.starts(bench, &["exec", "--tty", "t", "sh", "-c", &line])
        };
        person.waits_for("ready\r\n");
        person.leaves();
        let got = bench.path("place/got");
        assert!(eventually(|| got.exists() || !program.is_running()), "{verb} {init:?}");
        fs::write(bench.path("place/go"), "").unwrap();
        let outcome = program.finish();
        assert_eq!(outcome.code(), 9, "{verb} {init:?}: {outcome:?}");
        for name in ["got", "go", "done"] {
            fs::remove_file(bench.path("place").join(name)).expect(name);
        }
        if verb == "exec" {
            assert_eq!(bench.state("t")["status"], "running");
            bench.delete("t");
        }
    }
}

/// In raw mode there is no end-of-file key: only a terminal that hangs up ends the input.
fn a_lost_terminal_hangs_up(bench: &Bench) {
    let line = "trap : HUP; busybox stty raw; echo ready; cat > /dev/null; exit 6";
    let bundle = bench.bundle(&with_terminal(bench, line));
    let person = Person::new(24, 80);
    let program = person.starts(bench, &["run", "--bundle", &bundle, "t"]);
    person.waits_for("ready");
    person.leaves();
    let outcome = program.finish();
    assert_eq!(outcome.code(), 6, "{outcome:?}");
}
