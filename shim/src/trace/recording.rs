//! What the calling thread records.

use std::cell::{Cell, RefCell};

use rustix::time::{ClockId, clock_gettime};

use super::Mounts;
use super::init::Life;
use crate::error::Result;

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Off) };
    static RECORDING: RefCell<Recording> = const { RefCell::new(Recording::NOTHING) };
}

/// Whether the thread records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// In a span: those in it are part of it.
    Within,
    On,
}

/// Spans of the host in one trace. No start has as many; a program may record many starts.
const SPANS: usize = 64 * 1024;

/// A step of the host.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) name: &'static str,
    pub(super) object: String,
    /// The monotonic clock in nanoseconds.
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) failed: bool,
}

/// What was recorded.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) host: Vec<Mark>,
    pub(super) inits: Vec<Life>,
    pub(super) mounts: Option<Mounts>,
}

impl Recording {
    const NOTHING: Self = Self { host: Vec::new(), inits: Vec::new(), mounts: None };
}

/// A recording, for as long as it lives; the one around it stands still.
pub(super) struct Scope {
    before: State,
    outer: Recording,
}

impl Scope {
    pub(super) fn enter() -> Self {
        Self { before: STATE.replace(State::On), outer: RECORDING.replace(Recording::NOTHING) }
    }

    pub(super) fn leave(self) -> Recording {
        RECORDING.replace(Recording::NOTHING)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        STATE.set(self.before);
        RECORDING.set(std::mem::replace(&mut self.outer, Recording::NOTHING));
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which the init reads too.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Whether what begins now is recorded.
pub(super) fn is_on() -> bool {
    STATE.get() == State::On
}

/// Runs a step of the host. Steps in it are part of it, and not told by themselves.
pub(crate) fn span<T>(name: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    span_of(name, String::new, run)
}

/// As [`span`], with what it is about, which nobody asks for if nothing is recorded.
pub(crate) fn span_of<T>(
    name: &'static str,
    object: impl FnOnce() -> String,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if !is_on() {
        return run();
    }
    let object = object();
    let within = Within::begin();
    let begin = now();
    let result = run();
    let end = now();
    drop(within);
    push(Mark { name, object, begin, end, failed: result.is_err() });
    result
}

/// Something that was seen, and took no time. Also what began in the past.
pub(crate) fn mark(name: &'static str, begin: Option<u64>) {
    if is_on() {
        let end = now();
        let begin = begin.unwrap_or(end);
        push(Mark { name, object: String::new(), begin, end, failed: false });
    }
}

/// Tells which mounts a container's are copied from.
pub(crate) fn mounts(mounts: impl FnOnce() -> Mounts) {
    if STATE.get() != State::Off {
        RECORDING.with_borrow_mut(|recording| recording.mounts = Some(mounts()));
    }
}

/// Tells of the life of an init.
pub(super) fn initiated(life: Life) {
    if is_on() {
        RECORDING.with_borrow_mut(|recording| recording.inits.push(life));
    }
}

fn push(mark: Mark) {
    RECORDING.with_borrow_mut(|recording| {
        if recording.host.len() < SPANS {
            recording.host.push(mark);
        }
    });
}

/// The time of a span.
struct Within;

impl Within {
    fn begin() -> Self {
        STATE.set(State::Within);
        Self
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        STATE.set(State::On);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;
    use crate::error::Error;

    fn ok() -> Result<()> {
        Ok(())
    }

    fn names(run: impl FnOnce()) -> Vec<&'static str> {
        let (_, trace) = record(|| {
            run();
            ok()
        });
        trace.spans().iter().map(|span| span.name).collect()
    }

    #[test]
    fn steps_in_a_step_are_part_of_it() {
        let told = names(|| {
            span("a", || span("within", ok)).unwrap();
            span("b", ok).unwrap();
        });
        assert_eq!(told, ["a", "b"]);
        let mounted = || {
            mounts(|| Mounts { template: true, reason: None });
            ok()
        };
        let (_, trace) = record(|| span("a", mounted));
        assert!(trace.mounts().unwrap().template);
    }

    #[test]
    fn nothing_is_asked_for_without_a_recording() {
        assert!(!is_on());
        span_of("a", || panic!("asked"), ok).unwrap();
        mounts(|| panic!("asked"));
        assert!(RECORDING.with_borrow(|recording| recording.host.is_empty()));
    }

    #[test]
    fn a_recording_is_that_of_its_thread() {
        let told = names(|| {
            span("here", ok).unwrap();
            std::thread::spawn(|| {
                assert!(!is_on());
                span("elsewhere", ok).unwrap();
            })
            .join()
            .unwrap();
            assert_eq!(names(|| span("inside", ok).unwrap()), ["inside"]);
            span("behind", ok).unwrap();
        });
        assert_eq!(told, ["here", "behind"]);
        assert!(!is_on());
    }

    #[test]
    fn a_panic_ends_a_recording() {
        let panicked = std::panic::catch_unwind(|| {
            record(|| span("a", || -> Result<()> { panic!("as it may happen") }))
        });
        assert!(panicked.is_err());
        assert!(!is_on());
        assert_eq!(names(|| {}), [""; 0]);
    }

    #[test]
    fn what_failed_is_marked() {
        let (result, trace) = record(|| {
            span("a", ok)?;
            span_of("b", || "x".into(), || Err::<(), _>(Error::config("a", "b", "is wrong")))
        });
        assert_eq!(trace.error(), Some(result.unwrap_err().to_string().as_str()));
        let spans = trace.spans();
        assert_eq!(spans.iter().map(|span| span.failed).collect::<Vec<_>>(), [false, true]);
        assert_eq!(spans[1].object, "x");
        assert!(spans[0].start + spans[0].duration <= spans[1].start);
        assert!(spans[1].start + spans[1].duration <= trace.total());
    }
}
