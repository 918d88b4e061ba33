//! Waiting for something to happen.
//!
//! A test never sleeps for a fixed time and hopes: it asks again and again until a condition holds.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::{Outcome, Stop};

/// When a wait is given up. Nothing takes this long, even on a machine with other work: the
/// deadline only turns a hang into a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long to wait before a condition is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until a condition holds. Returns whether it does before the deadline.
pub fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// Waits until a condition holds that can also fail.
///
/// # Errors
/// The condition fails, or does not hold before the deadline; `what` names it then.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool, Stop>) -> Outcome {
    let mut failed = None;
    let held = eventually(|| {
        holds().unwrap_or_else(|stop| {
            failed = Some(stop);
            true
        })
    });
    match failed {
        Some(stop) => Err(stop),
        None if held => Ok(()),
        None => Err(Stop::Failed(format!("{what}: not within {} s", DEADLINE.as_secs()))),
    }
}

/// Stops a process by `SIGSTOP`, and waits until it has stopped: it may run on for a while after
/// the signal was sent.
///
/// # Errors
/// If the signal cannot be sent or the process does not stop.
pub fn stop(pid: Pid) -> Outcome {
    rustix::process::kill_process(pid, Signal::STOP)?;
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    until("it has stopped", || Ok(std::fs::read_to_string(&stat)?.contains(") T ")))
}
