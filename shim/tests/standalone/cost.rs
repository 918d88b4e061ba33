//! What an init costs while it waits, and what it holds.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::subject::{Place, Running, Subject, status};
use crate::{ALL, Case, case};

pub(crate) const CASES: &[Case] = &[
    case("memory_while_waiting", &[Subject::Image], memory_while_waiting),
    case("nothing_happens_without_a_signal", ALL, nothing_happens_without_a_signal),
    case("nothing_is_held", ALL, nothing_is_held),
];

const SLEEP: [&str; 4] = ["--", "sh", "-c", "echo ready; exec sleep 100"];

fn start(subject: Subject) -> Running {
    Running::start(subject.command_in(Place::First, &SLEEP), Place::First)
}

/// Of the field of `/proc/PID/status`, in kilobytes.
fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS").split(' ').next().unwrap().parse().unwrap()
}

fn memory_while_waiting(image: Subject) {
    let running = start(image);
    sleep(Duration::from_millis(100));
    let own = resident(running.pid);
    for other in [Subject::Tini, Subject::Catatonit] {
        if let Some(missing) = other.missing() {
            eprintln!("memory_while_waiting: not compared with {}: {missing}", other.name());
            continue;
        }
        let running = start(other);
        sleep(Duration::from_millis(100));
        let its = resident(running.pid);
        eprintln!("memory while waiting: image {own} kB, {} {its} kB", other.name());
        assert!(own * 3 < its, "{own} kB, {} {its} kB", other.name());
        end(running);
    }
    end(running);
    // All of the image, and the stack.
    assert!(own <= 64, "{own} kB");
}

fn nothing_happens_without_a_signal(subject: Subject) {
    let running = start(subject);
    sleep(Duration::from_millis(200));
    let switches = || status(running.pid, "voluntary_ctxt_switches").parse::<u64>().unwrap();
    let before = switches();
    sleep(Duration::from_millis(2500));
    // tini looks each second.
    let woken = switches() - before;
    match subject {
        Subject::Tini => assert!(woken >= 2, "control: {woken}"),
        _ => assert_eq!(woken, 0),
    }
    end(running);
}

fn nothing_is_held(subject: Subject) {
    let mut command = subject.command_in(Place::First, &SLEEP);
    command.current_dir("/usr");
    let running = Running::start(command, Place::First);
    sleep(Duration::from_millis(100));
    let directory = fs::read_link(format!("/proc/{}/cwd", running.pid)).unwrap();
    let expected = subject.pick("/", "/usr", "/usr");
    assert_eq!(directory.to_str(), Some(expected));
    end(running);
}

fn end(running: Running) {
    running.signal(9);
    // As unshare(1) tells it.
    assert_ne!(running.finish().0, 0);
}
