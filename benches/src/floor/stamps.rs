//! How long the parts of a start took, as the child notes it in the parent's memory.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::clock;
use crate::part::Part;

/// Nanoseconds of each part, while somebody asks for them.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// The end of the last part; 0 while nobody asks.
    last: Cell<u64>,
    spent: [Cell<u64>; Part::COUNT],
}

impl Stamps {
    /// A start begins.
    pub(super) fn begin(&self) {
        self.spent.iter().for_each(|time| time.set(0));
        self.last.set(clock::now());
    }

    /// What was done since the last call was this part of the start.
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

    /// The start has ended: the rest, up to the payload's first instruction, was its exec.
    pub(super) fn end(&self, first: u64) -> BTreeMap<Part, u64> {
        let exec = first.saturating_sub(self.last.replace(0));
        let parts = Part::ALL.into_iter().zip(&self.spent);
        let mut parts: BTreeMap<_, _> = parts.map(|(part, time)| (part, time.get())).collect();
        parts.insert(Part::Exec, exec);
        parts
    }
}
