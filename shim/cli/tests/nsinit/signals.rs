//! Signals to nsinit are signals to the program.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("a_handler_gets_the_signal", &[], a_handler_gets_the_signal),
    case("without_a_handler_signals_have_their_default_action", &[], without_a_handler),
    case("an_ignored_signal_is_ignored", &[], an_ignored_signal_is_ignored),
    case("a_signal_that_is_waited_for", &[Need::PYTHON], a_signal_that_is_waited_for),
    case("a_joined_process_gets_its_own_signals", &[], a_joined_process_gets_its_own_signals),
    case("an_early_signal_leaves_nothing", &[], an_early_signal_leaves_nothing),
    case("stopping_nsinit_stops_the_program", &[], stopping_nsinit_stops_the_program),
];

/// Starts a shell that says by a file when its traps are set, and then does something for ever.
fn ready(bench: &Bench, traps: &str, forever: &str) -> Call {
    let place = bench.mkdir("ready");
    let flag = bench.path("ready/flag");
    let _ = std::fs::remove_file(&flag);
    let bind = format!("{place}:/tmp");
    let line = format!("{traps}; echo > /tmp/flag; {forever}");
    let mut program = bench.spawn(&["exec", "--bind", &bind, "sh", "-c", &line]);
    assert!(eventually(|| flag.exists() || !program.is_running()));
    if !flag.exists() {
        panic!("{:?}", program.finish());
    }
    program
}

const LOOP: &str = "while :; do sleep 0.02; done";

fn a_handler_gets_the_signal(bench: &Bench) {
    for (name, signal, status) in [
        ("TERM", Signal::TERM, 41),
        ("HUP", Signal::HUP, 42),
        ("INT", Signal::INT, 43),
        ("USR1", Signal::USR1, 44),
        ("WINCH", Signal::WINCH, 45),
        ("URG", Signal::URG, 46),
    ] {
        let program = ready(bench, &format!("trap 'exit {status}' {name}"), LOOP);
        program.signal(signal);
        assert_eq!(program.finish().code(), status, "{name}");
        bench.check_nothing_is_left();
    }
}

fn without_a_handler(bench: &Bench) {
    for (signal, status) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::USR2, 140)]
    {
        // Not a shell, which has its own handlers.
        let program = ready(bench, ":", "exec sleep 1000");
        let pid = bench.wait_running("nsinit")["init_process_pid"].as_u64().unwrap();
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert!(eventually(|| name() == "sleep\n"));
        program.signal(signal);
        let outcome = program.finish();
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (status, ""), "{signal:?}");
        bench.check_nothing_is_left();
    }
}

fn an_ignored_signal_is_ignored(bench: &Bench) {
    let program = ready(bench, "trap '' TERM; trap 'exit 9' USR1", LOOP);
    program.signal(Signal::TERM);
    // Long enough to end by it.
    std::thread::sleep(Duration::from_millis(100));
    program.signal(Signal::USR1);
    assert_eq!(program.finish().code(), 9);
}

/// Blocked, and taken by sigwait(3): neither a handler nor a default.
fn a_signal_that_is_waited_for(bench: &Bench) {
    let place = bench.mkdir("ready");
    let bind = format!("{place}:/tmp");
    let line = "import signal, sys, os; s = [signal.SIGTERM]; \
                signal.pthread_sigmask(signal.SIG_BLOCK, s); open('/tmp/flag', 'w'); \
                sys.exit(40 + signal.sigwait(s))";
    let program = bench.spawn(&["exec", "--bind", &bind, "/usr/bin/python3", "-c", line]);
    assert!(eventually(|| bench.path("ready/flag").exists()));
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 40 + Signal::TERM.as_raw());
}

fn a_joined_process_gets_its_own_signals(bench: &Bench) {
    let first = bench.stay(&[]);
    let line = "trap 'exit 7' TERM; echo > /tmp/ready; while :; do sleep 0.02; done";
    let joined = bench.spawn(&["exec", "sh", "-c", line]);
    assert!(eventually(|| bench.shell("test -e /tmp/ready").code() == 0));
    joined.signal(Signal::TERM);
    assert_eq!(joined.finish().code(), 7);
    assert_eq!(bench.shell("echo still there").ok(), "still there\n");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}

/// Whenever it comes, the program is ended and the container removed, or there was none yet.
fn an_early_signal_leaves_nothing(bench: &Bench) {
    for delay in (0..24).map(|step| Duration::from_micros(step * step * 60)) {
        let program = bench.spawn(&["exec", "sleep", "1000"]);
        // At another moment of the start each time.
        std::thread::sleep(delay);
        program.signal(Signal::TERM);
        let outcome = program.finish();
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (143, ""), "after {delay:?}");
        bench.check_nothing_is_left();
    }
}

fn stopping_nsinit_stops_the_program(bench: &Bench) {
    let place = bench.mkdir("shared");
    let line = "while :; do date +%N > /tmp/clock; sleep 0.01; done";
    let bind = format!("{place}:/tmp");
    let mut command = bench.command(&["exec", "--bind", &bind, "sh", "-c", line]);
    // A group that no shell could continue is not stopped: this one has the test for its shell.
    let program = bench.start(command.process_group(0));
    let clock = || std::fs::read_to_string(bench.path("shared/clock")).unwrap_or_default();
    let moves = || {
        let before = clock();
        // Long enough for a program that runs to write once.
        std::thread::sleep(Duration::from_millis(150));
        clock() != before
    };
    assert!(eventually(moves));
    let state = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    };
    program.signal(Signal::TSTP);
    assert!(eventually(|| state(program.pid()) == 'T'), "nsinit does not stop");
    assert!(eventually(|| !moves()), "the program does not stop");
    program.signal(Signal::CONT);
    assert!(eventually(moves), "the program does not go on");
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 143);
}
