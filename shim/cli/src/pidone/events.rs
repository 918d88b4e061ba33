//! `pidone events`: prints resource statistics and out-of-memory events of a container.

use std::time::{Duration, Instant};

use pidone::Container;
use pidone_config::{Code, Error};
use pidone_host::cgroup::Notice;
use pidone_host::deadline::after;
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::{begin, flags, usage};
use crate::arguments::Invocation;
use crate::counters::stats_of_running;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::report::Report;

/// Prints a line of JSON for each event until the container stops.
///
/// # Errors
/// [`Code::ContainerNotRunning`] if the container has stopped, and [`Code::SystemError`] if it has
/// no memory cgroup.
pub(super) fn events(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Events, flags::Global) = begin(invocation, report)?;
    let container = global.container(&flags.id.id)?;
    if flags.stats {
        print_event(&container, "stats", usage::event_data(&stats_of_running(&container)?))?;
        return Ok(0);
    }
    let mut watcher = container.notify_oom()?;
    let mut next = after(flags.interval);
    loop {
        match watcher.check()? {
            Notice::Gone => return Ok(0),
            Notice::Happened(count) => {
                for _ in 0..count {
                    print_event(&container, "oom", Value::Null)?;
                }
            }
            Notice::Nothing => {}
        }
        if Instant::now() >= next {
            next = next.checked_add(flags.interval).unwrap_or_else(|| after(flags.interval));
            match stats_of_running(&container) {
                Ok(stats) => print_event(&container, "stats", usage::event_data(&stats))?,
                Err(error) if error.code() == Code::ContainerNotRunning => return Ok(0),
                Err(error) => report.warning(&error),
            }
        }
        let wait = next.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&watcher, watcher.poll_flags())];
        match poll(&mut fds, Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", "", errno).into()),
        }
    }
}

/// Prints one event as a line of JSON, as runc does.
fn print_event(container: &Container, kind: &str, data: Value) -> Result<(), Failure> {
    let mut event = json!({ "type": kind, "id": container.id() });
    if let (Some(event), false) = (event.as_object_mut(), data.is_null()) {
        event.insert("data".to_owned(), data);
    }
    output::bytes(&output::line(&event)?)
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
