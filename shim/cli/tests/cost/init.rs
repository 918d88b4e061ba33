//! What an init costs while it waits.

use std::thread::sleep;
use std::time::Duration;

use pidone_tests::{Case, Place, Running, Stop, Subject, eventually, status};

pub(crate) const CASES: &[Case<Subject>] = &[
    Case::panicking("memory_while_waiting", memory_while_waiting).ways(&[Subject::Image]),
    Case::panicking("waiting_init_is_not_woken", waiting_init_is_not_woken),
];

const SLEEP: [&str; 4] = ["--", "sh", "-c", "echo ready; exec sleep 100"];

/// Starts an init, and waits until it waits itself.
fn start(subject: Subject) -> Running {
    let running = Running::start(subject.command_in(Place::First, &SLEEP), Place::First);
    assert!(eventually(|| status(running.pid, "State").starts_with('S')));
    running
}

/// The field `VmRSS` of `/proc/PID/status`, in kilobytes.
fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS").split(' ').next().unwrap().parse().unwrap()
}

fn memory_while_waiting(&image: &Subject) {
    let running = start(image);
    let own = resident(running.pid);
    for other in [Subject::Tini, Subject::Catatonit] {
        if let Err(Stop::Lacking(missing)) = other.check() {
            eprintln!("memory_while_waiting: not compared with {}: {missing}", other.name());
            continue;
        }
        let running = start(other);
        let its = resident(running.pid);
        eprintln!("memory while waiting: image {own} kB, {} {its} kB", other.name());
        assert!(own * 3 < its, "{own} kB, {} {its} kB", other.name());
        end(running);
    }
    end(running);
    // All of the image, and the stack.
    assert!(own <= 64, "{own} kB");
}

fn waiting_init_is_not_woken(&subject: &Subject) {
    let running = start(subject);
    let switches = || status(running.pid, "voluntary_ctxt_switches").parse::<u64>().unwrap();
    let before = switches();
    // Long enough for tini, which looks each second.
    sleep(Duration::from_millis(2500));
    let woken = switches() - before;
    match subject {
        Subject::Tini => assert!(woken >= 2, "control: {woken}"),
        _ => assert_eq!(woken, 0),
    }
    end(running);
}

fn end(running: Running) {
    running.signal(9);
    // As unshare(1) reports it.
    assert_ne!(running.finish().0, 0);
}
