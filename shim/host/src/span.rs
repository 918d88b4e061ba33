//! A recorder of timed steps.
//!
//! A recording belongs to one thread. Without one, a step costs a read of a thread-local flag.

use std::cell::{Cell, RefCell};

use pidone_config::Result;
use rustix::time::{ClockId, clock_gettime};

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Off) };
    static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
}

/// Whether the thread records steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// A step is running, and the steps inside it are not recorded separately.
    Within,
    On,
}

/// The most steps of one recording. No start has as many, but a program may record many starts.
/// Later steps are dropped.
const MOST: usize = 64 * 1024;

/// A recorded step.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// What it was done to.
    pub object: String,
    /// When it began: the monotonic clock, in nanoseconds.
    pub begin: u64,
    /// When it ended, on the same clock.
    pub end: u64,
    /// Whether it returned an error.
    pub failed: bool,
}

/// A recording, which lasts until it is dropped. Meanwhile the recording around it is suspended.
#[derive(Debug)]
pub struct Recording {
    before: State,
    outer: Vec<Step>,
}

impl Recording {
    /// Begins a recording.
    pub fn begin() -> Self {
        Self { before: STATE.replace(State::On), outer: STEPS.take() }
    }

    /// Ends the recording and returns its steps.
    pub fn end(self) -> Vec<Step> {
        STEPS.take()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        STATE.set(self.before);
        STEPS.set(std::mem::take(&mut self.outer));
    }
}

/// Returns `CLOCK_MONOTONIC` in nanoseconds; the init reads the same clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Whether a step that begins now is recorded.
pub fn is_on() -> bool {
    STATE.get() == State::On
}

/// Whether the thread has a recording, inside a step or between steps.
pub fn is_recording() -> bool {
    STATE.get() != State::Off
}

/// Runs a step and records it. Steps inside it are not recorded separately.
///
/// # Errors
/// Those of the step.
pub fn span<T>(name: &'static str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    span_of(name, String::new, run)
}

/// Runs a step as [`span`] does, with the object of the step, which is computed only for a
/// recording.
///
/// # Errors
/// Those of the step.
pub fn span_of<T>(
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
    push(Step { name, object, begin, end, failed: result.is_err() });
    result
}

/// Records an event that began at `begin` and ends now, or takes no time if `begin` is `None`.
pub fn mark(name: &'static str, begin: Option<u64>) {
    if is_on() {
        let end = now();
        let begin = begin.unwrap_or(end);
        push(Step { name, object: String::new(), begin, end, failed: false });
    }
}

fn push(step: Step) {
    STEPS.with_borrow_mut(|steps| {
        if steps.len() < MOST {
            steps.push(step);
        }
    });
}

/// Suspends the recording of steps while one runs.
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
    use super::*;
    use pidone_config::error::Error;

    fn ok() -> Result<()> {
        Ok(())
    }

    fn names(run: impl FnOnce()) -> Vec<&'static str> {
        let recording = Recording::begin();
        run();
        recording.end().iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_inside_a_step_are_not_recorded() {
        let recorded = names(|| {
            span("a", || span("within", ok)).unwrap();
            span("b", ok).unwrap();
        });
        assert_eq!(recorded, ["a", "b"]);
    }

    #[test]
    fn objects_are_not_computed_without_a_recording() {
        assert!(!is_on() && !is_recording());
        span_of("a", || panic!("computed"), ok).unwrap();
        assert!(STEPS.with_borrow(Vec::is_empty));
    }

    #[test]
    fn a_recording_belongs_to_its_thread() {
        let recorded = names(|| {
            span("here", ok).unwrap();
            std::thread::spawn(|| {
                assert!(!is_on());
                span("elsewhere", ok).unwrap();
            })
            .join()
            .unwrap();
            assert_eq!(names(|| span("inside", ok).unwrap()), ["inside"]);
            span("after", ok).unwrap();
        });
        assert_eq!(recorded, ["here", "after"]);
        assert!(!is_on());
    }

    #[test]
    fn a_panic_ends_a_recording() {
        let panicked = std::panic::catch_unwind(|| {
            names(|| {
                let _ = span("a", || -> Result<()> { panic!("expected") });
            })
        });
        assert!(panicked.is_err());
        assert!(!is_on());
        assert_eq!(names(|| {}), [""; 0]);
    }

    #[test]
    fn a_failed_step_is_marked() {
        let recording = Recording::begin();
        span("a", ok).unwrap();
        span_of("b", || "x".into(), || Err::<(), _>(Error::config("a", "b", "is wrong")))
            .unwrap_err();
        let steps = recording.end();
        assert_eq!(steps.iter().map(|step| step.failed).collect::<Vec<_>>(), [false, true]);
        assert_eq!(steps[1].object, "x");
        assert!(steps[0].begin <= steps[0].end && steps[0].end <= steps[1].begin);
    }
}
