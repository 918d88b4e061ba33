//! What the calling thread records besides the steps of the host: its inits, and where their mounts
//! were copied from.

use std::cell::RefCell;

use pidone_host::span::{self, Step, is_on, is_recording};

use super::Mounts;
use super::init::InitRecord;

thread_local! {
    static FOUND: RefCell<Found> = const { RefCell::new(Found::NOTHING) };
}

/// What a recording has besides steps.
#[derive(Debug)]
struct Found {
    inits: Vec<InitRecord>,
    mounts: Option<Mounts>,
}

impl Found {
    const NOTHING: Self = Self { inits: Vec::new(), mounts: None };
}

/// A recording, until it is dropped. It suspends an outer recording.
pub(super) struct Recording {
    steps: span::Recording,
    outer: OuterFound,
}

/// What the outer recording has so far. It is put back when this is dropped.
struct OuterFound(Found);

impl Recording {
    /// Begins a recording.
    pub(super) fn begin() -> Self {
        Self { steps: span::Recording::begin(), outer: OuterFound(FOUND.replace(Found::NOTHING)) }
    }

    /// Ends the recording. Returns the steps of the host, the inits, and the mounts.
    pub(super) fn end(self) -> (Vec<Step>, Vec<InitRecord>, Option<Mounts>) {
        let Found { inits, mounts } = FOUND.replace(Found::NOTHING);
        let Self { steps, outer } = self;
        drop(outer);
        (steps.end(), inits, mounts)
    }
}

impl Drop for OuterFound {
    fn drop(&mut self) {
        FOUND.set(std::mem::replace(&mut self.0, Found::NOTHING));
    }
}

/// Records which mounts the container's are copied from.
pub(crate) fn record_mounts(mounts: impl FnOnce() -> Mounts) {
    if is_recording() {
        FOUND.with_borrow_mut(|found| found.mounts = Some(mounts()));
    }
}

/// Records an init.
pub(super) fn record_init(init: InitRecord) {
    if is_on() {
        FOUND.with_borrow_mut(|found| found.inits.push(init));
    }
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;
    use pidone_config::error::{Error, Result};
    use pidone_host::span::{span, span_of};

    fn ok() -> Result<()> {
        Ok(())
    }

    #[test]
    fn mounts_are_recorded_inside_a_step() {
        let mounted = || {
            record_mounts(|| Mounts { template: true, reason: None });
            ok()
        };
        let (_, trace) = record(|| span("a", mounted));
        assert!(trace.mounts().unwrap().template);
    }

    #[test]
    fn mounts_are_not_computed_without_a_recording() {
        record_mounts(|| panic!("computed"));
    }

    #[test]
    fn a_recording_inside_another_keeps_its_mounts() {
        let (_, outer) = record(|| {
            record_mounts(|| Mounts { template: true, reason: None });
            let (_, inner) = record(ok);
            assert_eq!(inner.mounts(), None);
            ok()
        });
        assert!(outer.mounts().unwrap().template);
    }

    #[test]
    fn the_error_of_a_step_is_the_error_of_the_trace() {
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
