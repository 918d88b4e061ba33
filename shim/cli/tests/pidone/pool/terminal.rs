//! `pidone pool run` and `exec` with a terminal, and `exec` without one.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use super::{Service, started, status};
use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, Person, eventually};

pub(crate) const CASES: &[Case] = &[
    case("pool_run_has_a_terminal", &[Need::SETSID], run_has_a_terminal),
    case("pool_exec_has_a_terminal", &[Need::SETSID], exec_has_a_terminal),
    case("pool_terminals_work_with_pipes", &[], terminals_work_with_pipes),
    case("a_lost_terminal_hangs_up_that_of_the_pool", &[Need::SETSID], a_lost_terminal_hangs_up),
    case("pool_exec_runs_further_programs", &[], exec_runs_further_programs),
    case("pool_exec_is_refused_elsewhere", &[], exec_is_refused_elsewhere),
];

/// Says where it is, and how large its terminal is whenever that changes, until it reads a line.
const TALKS: &str = "tty; stty size; trap 'stty size' WINCH; echo ready; \
                     while ! read -r line; do :; done; echo \"got $line\"; exit 5";

/// Talks to [`TALKS`] at a terminal that had 24 rows and 80 columns.
#[track_caller]
fn talk(person: &Person, program: Call) {
    person.waits_for("24 80\r\nready\r\n");
    assert!(!person.is_cooked(), "the keys are not passed on as they are");
    person.resize(33, 99);
    person.waits_for("33 99\r\n");
    person.types("hello\r");
    // The terminal in the container echoes.
    person.waits_for("hello\r\ngot hello\r\n");
    assert_eq!(program.finish().code(), 5, "{}", person.seen());
    assert!(person.is_cooked(), "the terminal is not as before");
}

fn run_has_a_terminal(bench: &Bench) {
    let service = Service::start(bench, "1");
    let person = Person::new(24, 80);
    let program = person.starts(bench, &["pool", "run", "--tty", "pool", "--", "sh", "-c", TALKS]);
    talk(&person, program);
    assert!(person.seen().starts_with("/dev/pts/0\r\n"), "{}", person.seen());
    assert_eq!(status(bench).unwrap()["warm"], 1);
    // Keys are signals of the terminal inside. Process 1 has no handler, and does not get them.
    let person = Person::new(24, 80);
    let script = "sh -c 'echo ready; exec sleep 60'; echo $?";
    let line = ["pool", "run", "-t", "pool", "--", "sh", "-c", script];
    let program = person.starts(bench, &line);
    person.waits_for("ready");
    person.types("\u{1c}");
    person.waits_for("131");
    assert_eq!(program.finish().code(), 0);
    // The time of a program holds for one with a terminal too, and the mode comes back.
    let person = Person::new(24, 80);
    let line = ["pool", "run", "-t", "--timeout", "0.3", "pool", "--", "sleep", "60"];
    let program = person.starts(bench, &line);
    assert_eq!(program.finish().code(), 137);
    assert!(person.is_cooked());
    person.waits_for("its time is over");
    service.end();
}

fn exec_has_a_terminal(bench: &Bench) {
    let service = Service::start(bench, "1");
    let (mut first, id) = started(bench, &["sleep", "60"]);
    for _ in 0..3 {
        let person = Person::new(24, 80);
        let line = ["pool", "exec", "-t", "pool", &id, "sh", "-c", TALKS];
        talk(&person, person.starts(bench, &line));
    }
    first.say("{\"signal\":9}\n");
    assert_eq!(first.answer().unwrap()["exited"]["signal"], 9);
    service.end();
}

/// As with `pidone exec --tty`: the end of the input is typed, and line feeds stay as they are.
fn terminals_work_with_pipes(bench: &Bench) {
    let service = Service::start(bench, "1");
    let (mut first, id) = started(bench, &["sleep", "60"]);
    let input = bench.write("input", "one\ntwo\n");
    let script = "stty -echo; test -t 0 && test -t 1 && test -t 2 && printf 'a\\nb\\r\\n'; cat";
    for line in [
        &["pool", "run", "-t", "pool", "--", "sh", "-c", script][..],
        &["pool", "exec", "-t", "pool", &id, "sh", "-c", script],
    ] {
        for _ in 0..3 {
            let mut command = bench.command(line);
            let outcome = bench.finish(command.stdin(fs::File::open(&input).unwrap()));
            let output = outcome.ok();
            // What was typed before the program has changed the mode is echoed.
            assert!(output.contains("a\nb\r\n"), "{line:?}: {output:?}");
            assert!(output.ends_with("one\ntwo\n"), "{line:?}: {output:?}");
        }
    }
    first.say("{\"signal\":9}\n");
    assert!(first.answer().unwrap()["exited"].is_object());
    // Without a terminal there is no mode of one.
    let mut client = super::Client::new(bench);
    client.say("{\"run\":{\"keep_newlines\":true}}\n");
    let answer = client.answer().unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("keep_newlines"), "{answer}");
    service.end();
}

fn a_lost_terminal_hangs_up(bench: &Bench) {
    let service = Service::start(bench, "1");
    let script = "trap 'echo > /tmp/got; while ! test -e /tmp/go; do sleep 0.02; done; exit 9' HUP;
                  echo ready; while :; do sleep 0.02; done";
    let person = Person::new(24, 80);
    let program = person.starts(bench, &["pool", "run", "-t", "pool", "--", "sh", "-c", script]);
    person.waits_for("ready\r\n");
    let status = status(bench).unwrap();
    let id = status["running"][0].as_str().unwrap();
    let pid = bench.state(id)["pid"].as_i64().unwrap();
    let inside = |name: &str| format!("/proc/{pid}/root/tmp/{name}");
    person.leaves();
    assert!(eventually(|| fs::exists(inside("got")).unwrap()));
    fs::write(inside("go"), "").unwrap();
    assert_eq!(program.finish().code(), 9);
    service.end();
}

fn exec_runs_further_programs(bench: &Bench) {
    let service = Service::start(bench, "1");
    let (mut first, id) = started(bench, &["sh", "-c", "echo here > /tmp/mark; sleep 60"]);
    let exec = |options: &[&str], program: &[&str]| {
        bench.command(&[&["pool", "exec"], options, &["pool", &id, "--"], program].concat())
    };
    // In the container of the first program, with its own settings and what comes through pipes.
    let said =
        eventually(|| bench.finish(&mut exec(&[], &["cat", "/tmp/mark"])).stdout == "here\n");
    assert!(said);
    let options = ["--env", "FROM=client", "--cwd", "/bin", "--user", "5:6"];
    let script = "test $$ != 1; echo $? $FROM $PWD; id; cat; echo no >&2; exit 7";
    let mut command = exec(&options, &["sh", "-c", script]);
    let input = bench.write("input", "from a file\n");
    let outcome = bench.finish(command.stdin(fs::File::open(input).unwrap()));
    assert_eq!(outcome.stdout, "0 client /bin\nuid=5 gid=6\nfrom a file\n");
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (7, "no\n"));
    let mut command = exec(&[], &["/no/such"]);
    let missing = bench.finish(&mut command).error(127);
    assert!(missing.contains("no such file"), "{missing}");
    let outcome = bench.finish(&mut exec(&["--timeout", "0.05"], &["sleep", "60"]));
    assert_eq!(outcome.code(), 137);
    assert!(outcome.stderr.contains("its time is over"), "{outcome:?}");
    // Signals reach it, and not the first program.
    let out = bench.path("out");
    let mut command = exec(&[], &["sh", "-c", "echo on; exec sleep 60"]);
    let client = Call::start(command.stdout(fs::File::create(&out).unwrap()));
    assert!(eventually(|| fs::read_to_string(&out).unwrap() == "on\n"));
    client.signal(Signal::INT);
    assert_eq!(client.finish().code(), 130);
    first.say("{\"signal\":0}\n");
    assert_eq!(first.answer().unwrap(), json!({ "running": {} }));
    // It ends with the container.
    let client = Call::start(&mut exec(&[], &["sh", "-c", "echo > /tmp/up; exec sleep 60"]));
    let inside = format!("/proc/{}/root/tmp/up", bench.state(&id)["pid"]);
    assert!(eventually(|| fs::exists(&inside).unwrap()));
    first.say("{\"signal\":9}\n");
    assert_eq!(client.finish().code(), 137);
    service.end();
}

fn exec_is_refused_elsewhere(bench: &Bench) {
    let service = Service::start(bench, "1");
    let listed = bench.run(&["list", "--quiet"]).ok();
    let ready = listed.lines().find(|id| id.starts_with("pool-")).unwrap();
    for id in [ready, "no-such", "../x"] {
        let error = bench.run(&["pool", "exec", "pool", id, "true"]).error(125);
        assert!(error.contains("no client has a program"), "{error}");
    }
    // The control: where a program runs.
    let (mut first, id) = started(bench, &["sleep", "60"]);
    bench.run(&["pool", "exec", "pool", &id, "true"]).ok();
    let status = status(bench).unwrap();
    assert_eq!(status["running"], json!([id]));
    first.say("{\"signal\":9}\n");
    assert!(first.answer().unwrap()["exited"].is_object());
    assert!(eventually(|| super::status(bench).unwrap()["running"] == json!([])));
    let gone = bench.run(&["pool", "exec", "pool", &id, "true"]).error(125);
    assert!(gone.contains("no client has a program"), "{gone}");
    for line in [&["pool", "exec", "pool"][..], &["pool", "exec", "pool", &id]] {
        let error = bench.run(line).error(1);
        assert!(error.contains("required arguments"), "{error}");
    }
    service.end();
}
