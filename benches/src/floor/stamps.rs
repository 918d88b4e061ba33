//! How long the parts of a start took, as the child records it in the parent's memory.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::clock;
use crate::part::Part;

/// The nanoseconds of each part, recorded on request.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// When the last part ended; 0 while nothing is recorded.
    last: Cell<u64>,
    spent: [Cell<u64>; Part::COUNT],
}

impl Stamps {
    /// Begins a recording.
    pub(super) fn begin(&self) {
        self.spent.iter().for_each(|time| time.set(0));
        self.last.set(clock::now());
    }

    /// Adds the time since the last call to a part.
    pub(super) fn reached(&self, part: Part) {
        let last = self.last.get();
        if last != 0
            && let Some(spent) = self.spent.get(part as usize)
        {
            let now = clock::now();
            spent.set(spent.get() + now.saturating_sub(last));
            self.last.set(now);
        }
    }

    /// Ends the recording. `first` is when the payload's first instruction ran; the time up to it
    /// belongs to the exec.
    pub(super) fn end(&self, first: u64) -> BTreeMap<Part, u64> {
        let exec = first.saturating_sub(self.last.replace(0));
        let parts = Part::ALL.into_iter().zip(&self.spent);
        let mut parts: BTreeMap<_, _> = parts.map(|(part, time)| (part, time.get())).collect();
        parts.insert(Part::Exec, exec);
        parts
    }
}
