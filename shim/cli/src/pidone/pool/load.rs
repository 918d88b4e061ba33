//! `pidone pool load`: runs many clients at a time and measures how long they wait.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pidone_config::{Error, Result};
use pidone_host::descriptor::open_null;
use serde::Serialize;

use super::client::{receive_response, send_request, unexpected};
use super::message::{Request, Response};
use super::tally::{Percentiles, Tally};
use crate::failure::{Failure, Outcome};
use crate::output;

/// How often progress is printed on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(200);

/// How often progress is printed elsewhere.
const FILE_INTERVAL: Duration = Duration::from_secs(5);

/// The measurements of one client.
#[derive(Debug, Default)]
struct Measured {
    started: Tally,
    ended: Tally,
    warm: u32,
    failed: u32,
    error: Option<Error>,
}

/// The result that is printed at the end.
#[derive(Debug, Serialize)]
struct Summary {
    containers: usize,
    failed: u32,
    warm: u32,
    seconds: f64,
    per_second: f64,
    /// The time from the connection until the program runs.
    started: Option<Percentiles>,
    /// The time from the connection until the program has exited.
    ended: Option<Percentiles>,
}

/// Runs a program many times, and prints the times.
///
/// # Errors
/// The first error of a client, after the result is printed.
pub(super) fn load(load: super::Load) -> Outcome {
    let directory = load.client.directory.as_path();
    let request = Request::Run(load.program.into());
    // Report once, and not for each client, that the service cannot be reached.
    drop(send_request(directory, &Request::Status {}, &[])?);
    let left = AtomicU32::new(load.count);
    let done = AtomicU32::new(0);
    let begin = Instant::now();
    let measured = thread::scope(|scope| {
        let clients: Vec<_> = (0..load.parallel)
            .map(|_| scope.spawn(|| run_client(directory, &request, &left, &done)))
            .collect();
        let mut progress = Progress::new(load.count);
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(10).min(begin.elapsed()));
            progress.update(done.load(Ordering::Relaxed), begin.elapsed());
        }
        progress.clear();
        let mut all = Measured::default();
        for client in clients {
            all.merge(client.join().unwrap_or_default());
        }
        all
    });
    print_summary(measured, begin.elapsed(), load.json)
}

fn print_summary(mut measured: Measured, took: Duration, json: bool) -> Outcome {
    let summary = Summary {
        containers: measured.ended.len(),
        failed: measured.failed,
        warm: measured.warm,
        seconds: took.as_secs_f64(),
        per_second: f64::from(u32::try_from(measured.ended.len()).unwrap_or(u32::MAX))
            / took.as_secs_f64(),
        started: measured.started.percentiles(),
        ended: measured.ended.percentiles(),
    };
    if json {
        output::bytes(&output::json(&summary)?)?;
    } else {
        let Summary { containers, failed, warm, seconds, per_second, started, ended } = summary;
        let mut text = format!(
            "{containers} containers in {seconds:.2} s: {per_second:.0} a second, {warm} warm, \
             {failed} failed\n"
        );
        for (name, times) in [("started", started), ("ended", ended)] {
            if let Some(times) = times {
                text.push_str(&format!("{name:<8} {times}\n"));
            }
        }
        output::print(format_args!("{text}"))?;
    }
    match measured.error {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

impl Measured {
    fn merge(&mut self, other: Self) {
        self.started.merge(other.started);
        self.ended.merge(other.ended);
        self.warm += other.warm;
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }
}

/// Starts containers, one after another, until `left` is zero.
fn run_client(directory: &Path, request: &Request, left: &AtomicU32, done: &AtomicU32) -> Measured {
    let mut measured = Measured::default();
    let take = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        if let Err(error) = run_once(directory, request, &mut measured) {
            measured.failed += 1;
            measured.error.get_or_insert(error);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    measured
}

fn run_once(directory: &Path, request: &Request, measured: &mut Measured) -> Result<()> {
    let null = open_null()?;
    let begin = Instant::now();
    let mut lines = send_request(directory, request, &[null.as_fd(); 3])?;
    loop {
        match receive_response(&mut lines)? {
            Response::Started { warm, .. } => {
                measured.started.add(begin.elapsed());
                measured.warm += u32::from(warm);
            }
            Response::Exited { .. } => {
                measured.ended.add(begin.elapsed());
                return Ok(());
            }
            other => {
                return match unexpected(&other) {
                    Failure::Error(error) => Err(error),
                    _ => Ok(()),
                };
            }
        }
    }
}

/// Prints the progress on standard error.
struct Progress {
    count: u32,
    terminal: bool,
    printed: Duration,
}

impl Progress {
    fn new(count: u32) -> Self {
        Self { count, terminal: std::io::stderr().is_terminal(), printed: Duration::ZERO }
    }

    fn update(&mut self, done: u32, elapsed: Duration) {
        if elapsed - self.printed < if self.terminal { TERMINAL_INTERVAL } else { FILE_INTERVAL } {
            return;
        }
        self.printed = elapsed;
        let rate = f64::from(done) / elapsed.as_secs_f64();
        let (count, percent) = (self.count, u64::from(done) * 100 / u64::from(self.count.max(1)));
        let line = format!("{done} of {count} ({percent} %), {rate:.0} a second");
        // Ignore an error: standard error may be closed.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r{line}\x1b[K")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }

    /// Clears the line on a terminal.
    fn clear(&self) {
        if self.terminal && !self.printed.is_zero() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
