//! `pidone pool load`: many clients at a time, and how long they waited.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pidone_config::{Error, Result};
use pidone_host::descriptor::null;
use serde::Serialize;

use super::client::{answer, ask, unexpected};
use super::message::{Answer, Request};
use super::tally::{Percentiles, Tally};
use crate::failure::{Failure, Outcome};
use crate::output;

/// How often progress is told on a terminal.
const DRAWN: Duration = Duration::from_millis(200);

/// How often progress is told elsewhere.
const TOLD: Duration = Duration::from_secs(5);

/// What one client has seen.
#[derive(Debug, Default)]
struct Seen {
    started: Tally,
    ended: Tally,
    warm: u32,
    failed: u32,
    error: Option<Error>,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
struct Summary {
    containers: usize,
    failed: u32,
    warm: u32,
    seconds: f64,
    per_second: f64,
    /// From the connection to the program that runs.
    started: Option<Percentiles>,
    /// From the connection to the program that has ended.
    ended: Option<Percentiles>,
}

/// Runs the program many times.
pub(super) fn load(load: super::Load) -> Outcome {
    let directory = load.client.directory.as_path();
    let request = Request::Run(load.program.into());
    // So that a service that is not there is told once.
    drop(ask(directory, &Request::Status {}, &[])?);
    let left = AtomicU32::new(load.count);
    let done = AtomicU32::new(0);
    let begin = Instant::now();
    let seen = thread::scope(|scope| {
        let clients: Vec<_> = (0..load.parallel)
            .map(|_| scope.spawn(|| client(directory, &request, &left, &done)))
            .collect();
        let mut progress = Progress::new(load.count);
        while !clients.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(10).min(begin.elapsed()));
            progress.tell(done.load(Ordering::Relaxed), begin.elapsed());
        }
        progress.end();
        let mut all = Seen::default();
        for client in clients {
            all.merge(client.join().unwrap_or_default());
        }
        all
    });
    print(seen, begin.elapsed(), load.json)
}

fn print(mut seen: Seen, took: Duration, json: bool) -> Outcome {
    let summary = Summary {
        containers: seen.ended.len(),
        failed: seen.failed,
        warm: seen.warm,
        seconds: took.as_secs_f64(),
        per_second: f64::from(u32::try_from(seen.ended.len()).unwrap_or(u32::MAX))
            / took.as_secs_f64(),
        started: seen.started.percentiles(),
        ended: seen.ended.percentiles(),
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
    match seen.error {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

impl Seen {
    fn merge(&mut self, other: Self) {
        self.started.merge(other.started);
        self.ended.merge(other.ended);
        self.warm += other.warm;
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }
}

/// Asks for one container after the other.
fn client(directory: &Path, request: &Request, left: &AtomicU32, done: &AtomicU32) -> Seen {
    let mut seen = Seen::default();
    let take = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        if let Err(error) = one(directory, request, &mut seen) {
            seen.failed += 1;
            seen.error.get_or_insert(error);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    seen
}

fn one(directory: &Path, request: &Request, seen: &mut Seen) -> Result<()> {
    let null = null()?;
    let begin = Instant::now();
    let mut lines = ask(directory, request, &[null.as_fd(); 3])?;
    loop {
        match answer(&mut lines)? {
            Answer::Started { warm, .. } => {
                seen.started.add(begin.elapsed());
                seen.warm += u32::from(warm);
            }
            Answer::Exited { .. } => {
                seen.ended.add(begin.elapsed());
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

/// How far it is, on standard error.
struct Progress {
    count: u32,
    terminal: bool,
    told: Duration,
}

impl Progress {
    fn new(count: u32) -> Self {
        Self { count, terminal: std::io::stderr().is_terminal(), told: Duration::ZERO }
    }

    fn tell(&mut self, done: u32, elapsed: Duration) {
        if elapsed - self.told < if self.terminal { DRAWN } else { TOLD } {
            return;
        }
        self.told = elapsed;
        let rate = f64::from(done) / elapsed.as_secs_f64();
        let (count, percent) = (self.count, u64::from(done) * 100 / u64::from(self.count.max(1)));
        let line = format!("{done} of {count} ({percent} %), {rate:.0} a second");
        // Nobody may read it.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r{line}\x1b[K")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }

    /// Removes the line from a terminal.
    fn end(&self) {
        if self.terminal && !self.told.is_zero() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
