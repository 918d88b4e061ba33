//! What an init holds while its program runs.

use std::fs;

use pidone_tests::{Place, Running, Subject, eventually};

use crate::{ALL, Case, case};

pub(crate) const CASES: &[Case] =
    &[case("working_directory_is_not_held", ALL, working_directory_is_not_held)];

fn working_directory_is_not_held(&subject: &Subject) {
    let line = ["--", "sh", "-c", "echo ready; exec sleep 100"];
    let mut command = subject.command_in(Place::First, &line);
    command.current_dir("/usr");
    let running = Running::start(command, Place::First);
    let expected = subject.pick("/", "/usr", "/usr");
    let directory = || fs::read_link(format!("/proc/{}/cwd", running.pid)).unwrap();
    assert!(eventually(|| directory().to_str() == Some(expected)), "{:?}", directory());
    running.signal(9);
    // As unshare(1) reports it.
    assert_ne!(running.finish().0, 0);
}
