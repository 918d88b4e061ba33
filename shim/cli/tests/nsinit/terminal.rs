//! `--tty`: a person at a terminal, played by a test with a pty.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::{Case, case};
use pidone_tests::{Bench, Call, Finished, Need, Person, eventually};

pub(crate) const CASES: &[Case] = &[
    case("tty_makes_a_new_terminal", &[Need::SETSID], tty_makes_a_new_terminal),
    case("the_size_follows_the_callers", &[Need::SETSID], the_size_follows_the_callers),
    case("keys_reach_the_program", &[Need::SETSID], keys_reach_the_program),
    case("the_callers_terminal_is_restored", &[Need::SETSID], the_callers_terminal_is_restored),
    case("nothing_that_was_written_is_lost", &[], nothing_that_was_written_is_lost),
    case("input_that_is_no_terminal", &[], input_that_is_no_terminal),
    case("output_to_a_closed_pipe_ends_the_program", &[], output_to_a_closed_pipe_ends_the_program),
    case(
        "a_surviving_process_does_not_hold_up_nsinit",
        &[],
        a_surviving_process_does_not_hold_up_nsinit,
    ),
    case(
        "a_terminal_can_be_closed_and_opened_again",
        &[],
        a_terminal_can_be_closed_and_opened_again,
    ),
    case("signals_without_keys", &[Need::SETSID], signals_without_keys),
    case("a_lost_terminal_ends_the_shell", &[Need::SETSID], a_lost_terminal_ends_the_shell),
];

/// Starts a shell in a container, with a person's terminal.
fn start(person: &Person, bench: &Bench, line: &str) -> Call {
    person.starts(bench, &["exec", "--tty", "/bin/sh", "-c", line])
}

fn tty_makes_a_new_terminal(bench: &Bench) {
    let person = Person::new(24, 80);
    let line = "tty; test -t 0 && test -t 1 && test -t 2 && echo three; readlink /proc/self/fd/0; \
                test /dev/console -ef /dev/pts/0 && echo console; \
                test $(cut -d ' ' -f 7 /proc/self/stat) != 0 && echo controlling; exit 6";
    assert_eq!(start(&person, bench, line).finish().code(), 6);
    person.waits_for("controlling\r\n");
    let seen = person.seen();
    assert_eq!(seen, "/dev/pts/0\r\nthree\r\n/dev/pts/0\r\nconsole\r\ncontrolling\r\n");
}

fn the_size_follows_the_callers(bench: &Bench) {
    let person = Person::new(31, 97);
    let line = "stty size; trap 'stty size; exit 0' WINCH; echo ready; \
                while :; do sleep 0.02; done";
    let program = start(&person, bench, line);
    person.waits_for("ready\r\n");
    assert!(person.seen().starts_with("31 97\r\n"), "{}", person.seen());
    person.resize(50, 132);
    person.waits_for("50 132\r\n");
    assert_eq!(program.finish().code(), 0);
}

fn keys_reach_the_program(bench: &Bench) {
    let person = Person::new(24, 80);
    let line = "trap 'echo interrupted; exit 11' INT; echo ready; read line; echo got:$line; \
                while :; do sleep 0.02; done";
    let program = start(&person, bench, line);
    person.waits_for("ready\r\n");
    assert!(!person.is_cooked());
    person.types("hello\r");
    person.waits_for("got:hello\r\n");
    // The echo is that of the container's terminal, once.
    assert_eq!(person.seen().matches("hello").count(), 2, "{}", person.seen());
    person.types("\x03");
    person.waits_for("interrupted\r\n");
    assert_eq!(program.finish().code(), 11);
    assert!(person.is_cooked());
    // End-of-file is a key too.
    let program = start(&person, bench, "cat; echo end; exit 12");
    assert!(eventually(|| !person.is_cooked()));
    person.types("\x04");
    person.waits_for("end\r\n");
    assert_eq!(program.finish().code(), 12);
}

fn the_callers_terminal_is_restored(bench: &Bench) {
    let person = Person::new(24, 80);
    assert!(person.is_cooked());
    let program = start(&person, bench, "kill -KILL $$; sleep 1000");
    assert!(eventually(|| !person.is_cooked()));
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 143);
    assert!(person.is_cooked(), "after a signal");
    let program = start(&person, bench, "exit 0");
    assert_eq!(program.finish().code(), 0);
    assert!(person.is_cooked(), "after the program's end");
}

/// Runs nsinit with a terminal for the program, and none for itself.
fn with_tty(bench: &Bench, line: &str, input: Stdio) -> Finished {
    let mut command = bench.command(&["exec", "--tty", "/bin/sh", "-c", line]);
    bench.finish(command.stdin(input))
}

fn nothing_that_was_written_is_lost(bench: &Bench) {
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    for _ in 0..5 {
        let outcome = with_tty(bench, "seq 20000", Stdio::null());
        assert_eq!(outcome.code(), 0);
        assert!(outcome.stdout == expected, "{} bytes", outcome.stdout.len());
    }
    for _ in 0..30 {
        let outcome = with_tty(bench, "printf last; exit 2", Stdio::null());
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (2, "last"));
    }
    // A slow reader gets it all too.
    let line = format!(
        "{} --root {} exec --tty seq 20000 </dev/null | {{ sleep 1; cat; }}",
        bench.program().display(),
        bench.text("state")
    );
    let outcome = bench.finish(&mut bench.command_of(Path::new("/bin/sh"), &["-c", &line]));
    assert!(outcome.stdout == expected, "{} bytes", outcome.stdout.len());
}

fn input_that_is_no_terminal(bench: &Bench) {
    let lines: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    bench.write("input", &lines);
    let input = File::open(bench.path("input")).unwrap();
    // All of it arrives, and then its end.
    let outcome = with_tty(bench, "stty -echo; echo; wc -l; exit 3", input.into());
    assert_eq!(outcome.code(), 3, "{outcome:?}");
    let outcome = with_tty(bench, "cat; echo end", Stdio::null());
    assert_eq!(outcome.code(), 0);
    assert!(outcome.stdout.ends_with("end\n"), "{outcome:?}");
}

fn output_to_a_closed_pipe_ends_the_program(bench: &Bench) {
    let line = format!(
        "trap '' PIPE; {{ {} --root {} exec --tty sh -c 'while echo y; do :; done; exit 7'; \
         echo $? >&2; }} </dev/null | head -n 1",
        bench.program().display(),
        bench.text("state")
    );
    let outcome = bench.finish(&mut bench.command_of(Path::new("/bin/sh"), &["-c", &line]));
    // The terminal is hung up, which ends the loop.
    assert_eq!(outcome.stdout, "y\n");
    assert!(matches!(outcome.stderr.as_str(), "7\n" | "129\n"), "{outcome:?}");
    let line = format!(
        "{} --root {} exec --tty sh -c 'while echo y; do :; done' </dev/null >/dev/full",
        bench.program().display(),
        bench.text("state")
    );
    let outcome = bench.finish(&mut bench.command_of(Path::new("/bin/sh"), &["-c", &line]));
    assert_eq!(outcome.error(1), "write `stdout`: No space left on device");
}

fn a_surviving_process_does_not_hold_up_nsinit(bench: &Bench) {
    let first = bench.stay(&[]);
    // A process that stays has the terminal open and goes on writing.
    let line = "trap '' HUP; (while echo y; do :; done) & printf last; exit 4";
    let outcome = with_tty(bench, line, Stdio::null());
    assert_eq!(outcome.code(), 4);
    assert!(outcome.stdout.contains("last"));
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}

fn a_terminal_can_be_closed_and_opened_again(bench: &Bench) {
    // As an init does that leaves its console to others.
    let line = "exec </dev/null >/dev/null 2>&1; sleep 0.2; echo again > /dev/pts/0; sleep 0.2; \
                echo last > /dev/pts/0";
    let outcome = with_tty(bench, line, Stdio::null());
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "again\nlast\n"));
}

fn signals_without_keys(bench: &Bench) {
    let person = Person::new(24, 80);
    let line = "trap 'exit 21' TERM; echo ready; while :; do sleep 0.02; done";
    let program = start(&person, bench, line);
    person.waits_for("ready\r\n");
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 21);
    assert!(person.is_cooked());
}

fn a_lost_terminal_ends_the_shell(bench: &Bench) {
    let person = Person::new(24, 80);
    let program = start(&person, bench, "echo ready; while read line; do :; done; exit 0");
    person.waits_for("ready\r\n");
    // nsinit leads the session here, and gets the signal of the loss.
    person.leaves();
    let outcome = program.finish();
    assert!(matches!(outcome.code(), 0 | 129), "{outcome:?}");
}
