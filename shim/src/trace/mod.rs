//! Records where the time of a start goes: the steps of the host and of the init, on one clock.
//!
//! [`record`] runs any start and returns its trace, also if the start failed:
//!
//! ```no_run
//! # use pidone::{Config, Factory, Options, Process, trace};
//! # fn main() -> pidone::Result<()> {
//! # let factory = Factory::new("/run/example", Options::default())?;
//! # let mut container = factory.create("hello", &Config::default())?;
//! # let process = Process::default();
//! let (started, trace) = trace::record(|| container.start(&process));
//! eprint!("{trace}");
//! let _ = std::fs::write("start.svg", trace.svg().to_string());
//! # started.map(drop)
//! # }
//! ```
//!
//! A start runs on one thread, from the call to its return. A recording covers the calling thread
//! and does not affect others. Without a recording, each step of a start checks a flag of the
//! thread. With one, it reads the clock twice, and the init reads it once for each operation. Text
//! is only formatted when the trace is read.

mod init;
mod json;
mod recording;
mod svg;
mod table;

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::time::Duration;

pub(crate) use init::Claims;
pub(crate) use recording::record_mounts;

use init::InitRecord;
use recording::Recording;

use pidone_config::error::Escaped;
use pidone_host::span::Step;
pub(crate) use pidone_host::span::{mark, now, span, span_of};

/// The name of the spans in which the host waits for the init.
pub(crate) const WAIT: &str = "wait for the init";

/// A recording of a start, or of several starts on one thread.
///
/// Its [`Display`] is a table. It serializes to an object with all spans, with times in
/// nanoseconds.
#[derive(Debug, Clone)]
pub struct Trace {
    /// `CLOCK_MONOTONIC` at the beginning, in nanoseconds.
    begin: u64,
    /// The same clock at the end.
    end: u64,
    host: Vec<Step>,
    inits: Vec<InitRecord>,
    mounts: Option<Mounts>,
    error: Option<String>,
}

/// A step of the host, or an operation of the init.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// The process that did it.
    pub who: Who,
    /// The name of the step, or of the operation as [`Plan`](pidone_plan::Plan) prints it.
    pub name: &'static str,
    /// The object of the step, or the fields of the operation. May be empty.
    pub object: String,
    /// The number of the operation, as errors count them.
    pub number: Option<u32>,
    /// The time from the beginning of the trace to the beginning of the span.
    pub start: Duration,
    /// The duration of the span.
    pub duration: Duration,
    /// Whether it failed.
    pub failed: bool,
}

/// The process that did a step of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The calling process, in its calling thread.
    Host,
    /// The init, which becomes the container's first process.
    Init,
}

impl Who {
    /// Returns its name: `host` or `init`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Init => "init",
        }
    }
}

/// The mounts that the container's were copied from: [`Strategy`](crate::Strategy).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mounts {
    /// Whether they were the template's, else the host's.
    pub template: bool,
    /// Why they were not the template's.
    pub reason: Option<Cow<'static, str>>,
}

impl Display for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.template { "template" } else { "host" })?;
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// Calls a function, and records the starts that it makes on the calling thread.
///
/// The trace has the steps of [`Factory`](crate::Factory), [`Container`](crate::Container) and
/// [`Launcher`](crate::launcher::Launcher), and the operations of their inits. An outer recording
/// does not include what an inner one records.
///
/// ```no_run
/// use pidone::{Launcher, plan::Plan, trace};
///
/// let plan = Plan::default();
/// let (started, trace) = trace::record(|| Launcher::new(&plan).launch());
/// for span in trace.spans() {
///     println!("{} {} {}: {:?}", span.who.name(), span.name, span.object, span.duration);
/// }
/// if let Err(error) = started {
///     println!("failed after {:?}: {error}", trace.total());
/// }
/// ```
pub fn record<T, E: Display>(run: impl FnOnce() -> Result<T, E>) -> (Result<T, E>, Trace) {
    record_since(now(), run)
}

/// As [`record`], for a start that began earlier: at `begin` nanoseconds of `CLOCK_MONOTONIC`.
pub fn record_since<T, E: Display>(
    begin: u64,
    run: impl FnOnce() -> Result<T, E>,
) -> (Result<T, E>, Trace) {
    let recording = Recording::begin();
    let result = run();
    let (host, inits, mounts) = recording.end();
    let trace = Trace {
        begin,
        end: now(),
        host,
        inits,
        mounts,
        error: result.as_ref().err().map(ToString::to_string),
    };
    (result, trace)
}

impl Trace {
    /// Returns the duration of the recording.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.since_begin(self.end)
    }

    /// Returns `CLOCK_MONOTONIC` at the beginning, to relate the trace to other records of the
    /// host.
    #[must_use]
    pub fn begin(&self) -> Duration {
        Duration::from_nanos(self.begin)
    }

    /// Returns which mounts the last container's were copied from; `None` if no container was
    /// started.
    #[must_use]
    pub fn mounts(&self) -> Option<&Mounts> {
        self.mounts.as_ref()
    }

    /// Returns the error that the recorded function returned.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Returns the spans, sorted by their beginning. Spans of the host do not overlap each other,
    /// and neither do spans of one init.
    ///
    /// The times of an init are its own claims. Whatever it claims, they are increasing, and within
    /// the time in which the host has seen it run.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let host = self.host.iter().map(|mark| Span {
            who: Who::Host,
            name: mark.name,
            object: mark.object.clone(),
            number: None,
            start: self.since_begin(mark.begin),
            duration: Duration::from_nanos(mark.end.saturating_sub(mark.begin)),
            failed: mark.failed,
        });
        let mut spans: Vec<Span> = host.collect();
        for init in &self.inits {
            init.spans(|number, name, object, [begin, end], failed| {
                spans.push(Span {
                    who: Who::Init,
                    name,
                    object,
                    number,
                    start: self.since_begin(begin),
                    duration: Duration::from_nanos(end.saturating_sub(begin)),
                    failed,
                });
            });
        }
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// Returns a picture as an SVG file: a time axis, and below it a bar for each span, in one
    /// colour for the host and another for the init.
    #[must_use]
    pub fn svg(&self) -> impl Display + '_ {
        svg::Picture(self)
    }

    fn since_begin(&self, time: u64) -> Duration {
        Duration::from_nanos(time.saturating_sub(self.begin))
    }
}

impl Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::write(self, f)
    }
}

/// Returns a time in microseconds, with one decimal.
fn micros(time: Duration) -> String {
    format!("{}.{}", time.as_micros(), time.subsec_nanos() / 100 % 10)
}

/// Returns the name and the object of a span on one line of at most `longest` characters. Control
/// characters are escaped.
fn cut(name: &str, object: &str, longest: usize) -> String {
    let space = if object.is_empty() { "" } else { " " };
    let whole = format!("{name}{space}{}", Escaped(object));
    if whole.chars().count() <= longest {
        return whole;
    }
    whole.chars().take(longest.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use pidone_proto::Op;

    use super::init::{Offset, Outcome};
    use super::*;
    use pidone_plan::Plan;

    /// Returns a trace of a millisecond.
    pub(super) fn sample() -> Trace {
        let base = 1_000_000_000;
        let mark = |name, object: &str, begin: u64, end: u64| Step {
            name,
            object: object.to_owned(),
            begin: base + begin * 1000,
            end: base + end * 1000,
            failed: false,
        };
        let mut plan = Plan::default();
        plan.push(Op::Umask { mask: 0 });
        plan.push(Op::PivotRoot);
        Trace {
            begin: base,
            end: base + 1_000_000,
            host: vec![
                mark("read configuration", "/b <&\u{1b}\"'>", 0, 100),
                mark("clone", "", 100, 300),
                mark(WAIT, "", 300, 900),
            ],
            inits: vec![InitRecord {
                plan,
                stamps: [250, 300, 300].map(|at| base + at * 1000).to_vec(),
                offset: Offset::None,
                bounds: [base + 100_000, base + 900_000],
                outcome: Outcome::Done,
            }],
            mounts: Some(Mounts { template: false, reason: Some("asked for".into()) }),
            error: None,
        }
    }

    #[test]
    fn spans_are_sorted_by_their_beginning() {
        let trace = sample();
        let names: Vec<_> = trace.spans().iter().map(|span| (span.who, span.name)).collect();
        assert_eq!(
            names,
            [
                (Who::Host, "read configuration"),
                (Who::Host, "clone"),
                (Who::Init, "receive the plan"),
                (Who::Host, WAIT),
                (Who::Init, "umask"),
                (Who::Init, "pivot_root"),
            ]
        );
        assert_eq!(trace.total(), Duration::from_millis(1));
        assert_eq!(trace.begin(), Duration::from_secs(1));
    }

    #[test]
    fn long_descriptions_are_cut() {
        assert_eq!(cut("mount", "", 10), "mount");
        assert_eq!(cut("mount", "/a\n", 20), "mount /a\\n");
        assert_eq!(cut("mount", "/abcdef", 10), "mount /ab…");
        assert_eq!(cut("mount", "/äöüäöü", 10), "mount /äö…");
    }
}
