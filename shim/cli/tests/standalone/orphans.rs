//! Orphans: processes that a program leaves.

use std::process::Command;

use crate::{ALL, CATATONIT, Case, TINI, case};
use pidone_tests::{Call, Place, Running, Subject, children, eventually};

pub(crate) const CASES: &[Case] = &[
    case("a_thousand_orphans_are_reaped", ALL, a_thousand_orphans_are_reaped),
    case("a_thousand_orphans_are_reaped_by_process_1", ALL, by_process_1),
    case("orphans_are_adopted_by_the_init", ALL, orphans_are_adopted_by_the_init),
    case("the_variable_makes_a_subreaper", TINI, the_variable_makes_a_subreaper),
    case("reaping_prints_warnings", TINI, reaping_prints_warnings),
    case("a_pausing_init_reaps", CATATONIT, a_pausing_init_reaps),
    case("the_end_does_not_wait_for_orphans", ALL, the_end_does_not_wait_for_orphans),
];

/// Leaves so many orphans, which end all at once.
const ORPHANS: &str = "
import os, signal, sys
count = int(sys.argv[1])
wait, hold = os.pipe()
parent = os.fork()
if parent == 0:
    for _ in range(count):
        if os.fork() == 0:
            os.close(hold)
            os.read(wait, 1)
            break
    os._exit(0)
os.waitpid(parent, 0)
print('ready', flush=True)
signal.sigwait([signal.SIGUSR1])
os.close(hold)
print('released', flush=True)
signal.pause()
";

fn orphans(subject: Subject, place: Place, options: &[&str]) {
    let blocked = format!("import signal\nsignal.pthread_sigmask(0, [10])\n{ORPHANS}");
    let arguments = [options, &["--", "python3", "-c", &blocked, "1000"]].concat();
    let mut running = Running::start(subject.command_in(place, &arguments), place);
    assert_eq!(children(running.pid).len(), 1001);
    running.signal(10);
    assert_eq!(running.line(), "released");
    assert!(eventually(|| children(running.pid).len() == 1), "{:?}", children(running.pid));
    running.signal(15);
    assert_eq!(running.finish(), (143, String::new()));
}

fn a_thousand_orphans_are_reaped(&subject: &Subject) {
    // Only tini has to be asked.
    orphans(subject, Place::Child, subject.pick(&[], &["-s"], &[]));
}

fn by_process_1(&subject: &Subject) {
    orphans(subject, Place::First, &[]);
}

/// Prints what the parent of an orphan is, once it is one.
const ADOPTED: &str = "
import os, time
init = os.getppid()
read, write = os.pipe()
if os.fork() == 0:
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        os.write(write, b'init' if os.getppid() == init else b'other')
    os._exit(0)
print(os.read(read, 9).decode())
";

fn orphans_are_adopted_by_the_init(&subject: &Subject) {
    for (options, expected) in subject.pick(
        &[(&[][..], "init\n"), (&["-s"], "init\n")][..],
        // It warns instead.
        &[(&[], "other\n"), (&["-s"], "init\n")],
        &[(&[], "init\n")],
    ) {
        let outcome = subject.run(&[options, &["--", "python3", "-c", ADOPTED][..]].concat());
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, *expected), "{outcome:?}");
        let warned = outcome.stderr.contains("WARN");
        assert_eq!(warned, *expected == "other\n", "{outcome:?}");
    }
}

fn the_variable_makes_a_subreaper(&subject: &Subject) {
    let mut command = subject.command(&["--", "python3", "-c", ADOPTED]);
    assert_eq!(Call::start(command.env("TINI_SUBREAPER", "")).finish().ok(), "init\n");
}

fn reaping_prints_warnings(&subject: &Subject) {
    let script = "import os, time
for _ in range(50):
    child = os.fork()
    if child == 0:
        if os.fork():
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
# Until the init has no child but this one.
init = os.getppid()
while open(f'/proc/{init}/task/{init}/children').read().split() != [str(os.getpid())]:
    time.sleep(0.01)";
    let warnings = |options: &[&str]| {
        let outcome = subject.run(&[options, &["-s", "--", "python3", "-c", script]].concat());
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, ""), "{outcome:?}");
        let mut lines = outcome.stderr.lines();
        assert!(
            lines.all(|line| line.contains("] Reaped zombie process with pid=")),
            "{outcome:?}"
        );
        outcome.stderr.lines().filter(|line| line.starts_with("[WARN  ")).count()
    };
    assert_eq!(warnings(&["-w"]), 50);
    assert_eq!(warnings(&[]), 0);
}

fn a_pausing_init_reaps(&subject: &Subject) {
    let running = Running::start_silent(
        subject.path(),
        subject.command_in(Place::First, &["-P"]),
        Place::First,
    );
    for _ in 0..20 {
        let inside = Command::new("nsenter")
            .args([
                "--target",
                &running.pid.to_string(),
                "--pid",
                "sh",
                "-c",
                "sleep 0.05 & sleep 0.05 &",
            ])
            .status();
        assert!(inside.unwrap().success());
    }
    assert!(eventually(|| children(running.pid).is_empty()));
    running.signal(15);
    assert_eq!(running.finish().0, 0);
}

fn the_end_does_not_wait_for_orphans(&subject: &Subject) {
    // Longer than any wait for the end.
    let script = "sleep 1000 >/dev/null 2>&1 & exit 9";
    let command = &mut subject.command_in(Place::First, &["--", "sh", "-c", script]);
    assert_eq!(Call::start(command).finish().code(), 9);
}
