//! Ranges of a 32-bit word, and the balanced tree that finds the range of a value.

use super::bpf::{Assembler, Compare, Target};

/// The target for each value of a word, as ranges that extend from one start to the next.
pub(super) struct Ranges(Vec<(u32, Target)>);

impl Ranges {
    /// Returns a single range of all values.
    pub(super) fn new(target: Target) -> Self {
        Self(vec![(0, target)])
    }

    /// Starts a new range at `start`, which may not be below the last start. Adjacent ranges with
    /// the same target are merged.
    pub(super) fn from(&mut self, start: u32, target: Target) {
        debug_assert!(self.0.last().is_none_or(|last| last.0 <= start));
        self.0.pop_if(|last| last.0 == start);
        if self.0.last().is_none_or(|last| last.1 != target) {
            self.0.push((start, target));
        }
    }

    /// Adds a range of one value, followed by one for `others`.
    pub(super) fn at(&mut self, word: u32, target: Target, others: Target) {
        self.from(word, target);
        if let Some(next) = word.checked_add(1) {
            self.from(next, others);
        }
    }

    /// Returns the target of the first range.
    pub(super) fn first(&self) -> Target {
        self.0[0].1
    }

    /// Returns the target of the last range.
    pub(super) fn last(&self) -> Target {
        self.0[self.0.len() - 1].1
    }

    /// Emits the code that finds the range of the 32 bits at an offset of `struct seccomp_data`,
    /// and returns its entry.
    pub(super) fn search(&self, asm: &mut Assembler, offset: u32) -> Target {
        match self.0[..] {
            [(_, only)] => only,
            _ => {
                let tree = tree(asm, &self.0);
                asm.load(offset, tree)
            }
        }
    }
}

fn tree(asm: &mut Assembler, ranges: &[(u32, Target)]) -> Target {
    match *ranges {
        [(_, target)] => target,
        [(_, around), (word, target), (next, after)]
            if around == after && word.checked_add(1) == Some(next) =>
        {
            asm.branch(Compare::Equal, word, target, around)
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let start = high[0].0;
            // The program is built from its end, so the half that is emitted last is nearer.
            let high = tree(asm, high);
            let low = tree(asm, low);
            asm.branch(Compare::GreaterOrEqual, start, high, low)
        }
    }
}
