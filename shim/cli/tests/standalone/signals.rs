//! Signals on their way to the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::{ALL, CATATONIT, Case, TINI, case};
use pidone_tests::{Place, Running, Subject, eventually, status};

pub(crate) const CASES: &[Case] = &[
    case("every_signal_is_forwarded", ALL, every_signal_is_forwarded),
    case("every_signal_is_forwarded_by_process_1", ALL, every_signal_is_forwarded_by_process_1),
    case("a_group_gets_signals", ALL, a_group_gets_signals),
    case("a_group_gets_signals_by_the_variable", TINI, a_group_gets_signals_by_the_variable),
    case("the_death_of_the_parent_sends_a_signal", TINI, the_death_of_the_parent_sends_a_signal),
    case(
        "a_program_killed_by_a_signal_exits_128_plus_it",
        ALL,
        a_program_killed_by_a_signal_exits_128_plus_it,
    ),
    case("a_pause_ends_by_a_signal", CATATONIT, a_pause_ends_by_a_signal),
    case(
        "messages_to_a_closed_pipe_are_no_signal",
        &[Subject::Image],
        messages_to_a_closed_pipe_are_no_signal,
    ),
    case(
        "a_program_that_may_not_be_signalled_is_waited_for",
        ALL,
        a_program_that_may_not_be_signalled_is_waited_for,
    ),
];

/// Prints the number of each signal that it gets, and ends with its parent. SIGALRM ends it.
const REPORTER: &str = "
import os, signal, sys
every = {s for s in range(1, 65) if s not in (9, 19, 32, 33)}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
parent = os.getppid()
twice = len(sys.argv) > 1 and os.fork() == 0
if twice:
    parent = os.getppid()
    print('ready', flush=True)
elif len(sys.argv) == 1:
    print('ready', flush=True)
while os.getppid() == parent:
    got = signal.sigtimedwait(every, 0.1)
    if got is None or got.si_signo == 17:
        continue
    if got.si_signo == 14:
        sys.exit(7)
    # In one piece: there may be two who write.
    os.write(1, (('child ' if twice else '') + str(got.si_signo) + chr(10)).encode())
";

const KILL: u8 = 9;
const ALRM: u8 = 14;
const TERM: u8 = 15;
const CHLD: u8 = 17;
const STOP: u8 = 19;
const TSTP: u8 = 20;
const TTIN: u8 = 21;
const TTOU: u8 = 22;

/// ILL TRAP ABRT BUS FPE SEGV SYS, which the kernel sends for faults: the others end by them, and
/// leave the program running. The image forwards those that are sent; the kernel still ends it for
/// its own faults.
const FAULTS: [u8; 7] = [4, 5, 6, 7, 8, 11, 31];

fn every_signal_is_forwarded(&subject: &Subject) {
    forwards(subject, Place::Child);
}

fn every_signal_is_forwarded_by_process_1(&subject: &Subject) {
    forwards(subject, Place::First);
}

fn forwards(subject: Subject, place: Place) {
    let start =
        || Running::start(subject.command_in(place, &["--", "python3", "-c", REPORTER]), place);
    let mut running = start();
    // Those of tini are ignored by it, and catatonit leaves out what could stop it.
    let dropped: &[u8] = subject.pick(&[], &[TTIN, TTOU], &[TSTP, TTIN, TTOU]);
    let all = (1..=31).chain([34, 50, 64]);
    let sent = all.filter(|signal| ![KILL, STOP, CHLD, ALRM].contains(signal));
    for signal in sent.filter(|signal| subject == Subject::Image || !FAULTS.contains(signal)) {
        running.signal(signal);
        if !dropped.contains(&signal) {
            assert_eq!(running.line(), signal.to_string());
        }
    }
    // SIGCHLD is for the init.
    running.signal(CHLD);
    running.signal(1);
    assert_eq!(running.line(), "1");
    // Many at once: each kind arrives, those of real time as often as they were sent. What is
    // pending is taken in the order of the numbers, so that the last is the end.
    for signal in [1, 2, 3, 10, 12, 1, 2, 3, 10, 12, 34, 34, 34, 64] {
        running.signal(signal);
    }
    let mut seen = Vec::new();
    while seen.last().is_none_or(|line| line != "64") {
        seen.push(running.line());
    }
    let count = |signal: &str| seen.iter().filter(|line| *line == signal).count();
    assert!(["1", "2", "3", "10", "12"].into_iter().all(|signal| count(signal) >= 1), "{seen:?}");
    assert_eq!(count("34"), 3, "{seen:?}");
    running.signal(ALRM);
    assert_eq!(running.finish(), (7, String::new()));
    if subject != Subject::Image && place == Place::Child {
        for signal in FAULTS {
            let running = start();
            running.signal(signal);
            assert_eq!(running.finish().0, 128 + i32::from(signal));
        }
    }
}

fn a_group_gets_signals(&subject: &Subject) {
    group(subject, &["-g"], false);
}

fn a_group_gets_signals_by_the_variable(&subject: &Subject) {
    group(subject, &[], true);
}

fn group(subject: Subject, options: &[&str], variable: bool) {
    let start = |options: &[&str], variable: bool| {
        let arguments = [options, &["--", "python3", "-c", REPORTER, "twice"]].concat();
        let mut command = subject.command(&arguments);
        if variable {
            command.env("TINI_KILL_PROCESS_GROUP", "");
        }
        Running::start(command, Place::Child)
    };
    let mut running = start(options, variable);
    running.signal(TERM);
    let mut lines = [running.line(), running.line()];
    lines.sort();
    assert_eq!(lines, ["15", "child 15"]);
    running.signal(ALRM);
    assert_eq!(running.finish().0, 7);

    let mut running = start(&[], false);
    running.signal(TERM);
    assert_eq!(running.line(), "15");
    running.signal(ALRM);
    assert_eq!(running.finish(), (7, String::new()), "control: the program alone");
}

fn the_death_of_the_parent_sends_a_signal(&subject: &Subject) {
    for name in subject.pick(&["SIGUSR1", "USR1", "10"][..], &["SIGUSR1"], &[]) {
        // The first shell ends when the program is ready.
        const PARENT: &str = "\"$@\" & while ! [ -e \"$READY\" ]; do sleep 0.05; done";
        const PROGRAM: &str = "trap 'echo got; exit 0' USR1; >\"$READY\"
            i=0; while [ $i -lt 1200 ]; do i=$((i+1)); sleep 0.05; done; echo nothing";
        let directory = tempfile::tempdir().unwrap();
        let call = |options: &[&str]| {
            let mut parent = Command::new("sh");
            parent.args(["-c", PARENT, "-", subject.path()]).args(options);
            parent.args(["--", "sh", "-c", PROGRAM]).env("READY", directory.path().join("ready"));
            String::from_utf8(parent.output().unwrap().stdout).unwrap()
        };
        assert_eq!(call(&["-p", name]), "got\n", "{name}");
    }
}

fn a_program_killed_by_a_signal_exits_128_plus_it(&subject: &Subject) {
    for place in [Place::Child, Place::First] {
        for signal in [1, 2, 3, 10, 15, 34] {
            let script = "echo ready; while :; do sleep 0.05; done";
            let command = subject.command_in(place, &["--", "sh", "-c", script]);
            let running = Running::start(command, place);
            running.signal(signal);
            assert_eq!(running.finish().0, 128 + i32::from(signal), "{place:?}");
        }
    }
}

fn a_pause_ends_by_a_signal(&subject: &Subject) {
    for place in [Place::Child, Place::First] {
        for signal in [2, TERM] {
            let mut running =
                Running::start_silent(subject.path(), subject.command_in(place, &["-P"]), place);
            for ignored in [1, 3, 10, TSTP, TTIN, CHLD, 34] {
                running.signal(ignored);
            }
            // Taken, and without effect.
            assert!(eventually(|| {
                let pending = status(running.pid, "ShdPnd");
                pending.trim_start_matches('0').is_empty()
            }));
            assert!(running.is_running());
            running.signal(signal);
            assert_eq!(running.finish(), (0, String::new()), "{place:?}");
        }
    }
}

fn a_program_that_may_not_be_signalled_is_waited_for(&subject: &Subject) {
    // A program that gains privileges, so that the init may not send it anything.
    const PROGRAM: &str = "
import os, time
os.setresuid(0, 0, 0)
init = os.getppid()
print('ready', flush=True)
# An init that gives up is no longer the parent.
while os.getppid() == init and not os.path.exists(os.environ['GO']):
    time.sleep(0.01)
os._exit(8)
";
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let python = directory.path().join("python3");
    fs::copy("/usr/bin/python3", &python).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o4755)).unwrap();
    let mut image = subject.path().to_owned();
    if subject == Subject::Image {
        // That user may not look into the directories of the build.
        image = directory.path().join("init").to_str().unwrap().to_owned();
        fs::copy(subject.path(), &image).unwrap();
    }
    let mut command = Command::new(image);
    command.args(["--", python.to_str().unwrap(), "-c", PROGRAM]).uid(65534).gid(65534);
    let go = directory.path().join("go");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).env("GO", &go);
    let running = Running::start(command, Place::Child);
    running.signal(10);
    // The init has taken it, or has ended.
    let pending = || status(running.pid, "ShdPnd");
    assert!(eventually(|| pending().trim_start_matches('0').is_empty()));
    fs::write(go, "").unwrap();
    // tini gives up.
    assert_eq!(running.finish().0, subject.pick(8, 1, 8));
}

/// Leaves orphans, one after another, until each was reaped. SIGPIPE kills it.
const ORPHANS: &str = "
import os, signal, sys, time
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
print('ready', flush=True)
for _ in range(20):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        orphan = os.fork()
        if orphan == 0:
            os._exit(0)
        os.write(writer, str(orphan).encode())
        os._exit(0)
    os.waitpid(child, 0)
    orphan = os.read(reader, 20).decode()
    while os.path.exists('/proc/' + orphan):
        time.sleep(0.001)
sys.exit(7)
";

/// The init raises SIGPIPE in itself by its own message: that is not for the program. tini forwards
/// it, and with it the next message raises the next one.
fn messages_to_a_closed_pipe_are_no_signal(&subject: &Subject) {
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let command = subject.command(&["-vvv", "--", "python3", "-c", REPORTER]);
    let mut running = Running::start_saying_to(closed(), command, Place::Child);
    for signal in [TERM, 13, 1] {
        // One that somebody sends is forwarded, SIGPIPE too.
        running.signal(signal);
        assert_eq!(running.line(), signal.to_string());
    }
    running.signal(ALRM);
    assert_eq!(running.finish(), (7, String::new()));
    let command = subject.command(&["-w", "-s", "--", "python3", "-c", ORPHANS]);
    let running = Running::start_saying_to(closed(), command, Place::Child);
    assert_eq!(running.finish(), (7, String::new()));
}
