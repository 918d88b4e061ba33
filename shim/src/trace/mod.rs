//! Where the time of a start went: what the host did and what the init did, on one clock.
//!
//! [`record`] runs any start and tells of it, also of one that failed:
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
//! A start is the work of one thread, from the call to its return: what is recorded is what the
//! calling thread does, and no other thread is held up or told. Without a recording a step of a
//! start costs a look at a flag of the thread. With one it costs two looks at the clock, and the
//! init one for each operation; nothing is put into words before somebody reads the trace.

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

use init::Life;
use recording::Recording;

use pidone_config::error::Escaped;
use pidone_host::span::Step;
pub(crate) use pidone_host::span::{mark, now, span, span_of};

/// The span in which the host has nothing to do.
pub(crate) const WAIT: &str = "wait for the init";

/// The recording of a start, or of several that one thread made.
///
/// As text it is a table, serialized an object with all spans, times in nanoseconds.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The monotonic clock at the beginning, in nanoseconds.
    begin: u64,
    end: u64,
    host: Vec<Step>,
    inits: Vec<Life>,
    mounts: Option<Mounts>,
    error: Option<String>,
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// Who did it.
    pub who: Who,
    /// What was done: a step of the host, or the operation as [`Plan`](pidone_plan::Plan) prints it.
    pub name: &'static str,
    /// What it was done to, as far as that is known.
    pub object: String,
    /// The number of the operation, as errors count them.
    pub number: Option<u32>,
    /// From the beginning of the trace to that of the span.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Whether it failed.
    pub failed: bool,
}

/// Who does the work of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The caller's thread.
    Host,
    /// The program that becomes the container's.
    Init,
}

impl Who {
    /// Its name: `host` or `init`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Init => "init",
        }
    }
}

/// Which mounts the container's were copied from: [`Strategy`](crate::Strategy).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mounts {
    /// Whether it was the template, else the host's.
    pub template: bool,
    /// Why it was not the template.
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

/// Records what the calling thread does for starts while something runs.
///
/// Steps and operations are those of [`Factory`](crate::Factory), [`Container`](crate::Container)
/// and [`Launcher`](crate::launcher::Launcher). A recording inside another one is not part of that.
pub fn record<T, E: Display>(run: impl FnOnce() -> Result<T, E>) -> (Result<T, E>, Trace) {
    record_since(now(), run)
}

/// As [`record`], of something that began earlier.
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
    /// From the beginning of the recording to its end.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.since_begin(self.end)
    }

    /// `CLOCK_MONOTONIC` at the beginning: what relates the trace to other records of the host.
    #[must_use]
    pub fn begin(&self) -> Duration {
        Duration::from_nanos(self.begin)
    }

    /// Which mounts the last container's were copied from; `None` if none was made.
    #[must_use]
    pub fn mounts(&self) -> Option<&Mounts> {
        self.mounts.as_ref()
    }

    /// The error that ended it.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What took time, by its beginning. Those of the host do not overlap each other, nor those of
    /// one init.
    ///
    /// The times of the init are its claims. They are in their order and within its life, whatever
    /// it claims.
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

    /// A picture, as a file in the format SVG: a bar for each span below a time axis, those of the
    /// host and of the init in colours of their own.
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

/// Microseconds, with tenths.
fn micros(time: Duration) -> String {
    format!("{}.{}", time.as_micros(), time.subsec_nanos() / 100 % 10)
}

/// What a span was about in one line of at most so many characters. Control characters are escaped.
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

    /// A trace of a millisecond.
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
            inits: vec![Life {
                plan,
                stamps: [250, 300, 300].map(|at| base + at * 1000).to_vec(),
                offset: Offset::None,
                life: [base + 100_000, base + 900_000],
                outcome: Outcome::Done,
            }],
            mounts: Some(Mounts { template: false, reason: Some("asked for".into()) }),
            error: None,
        }
    }

    #[test]
    fn spans_are_in_the_order_of_their_beginnings() {
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
