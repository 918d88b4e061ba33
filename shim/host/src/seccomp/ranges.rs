//! A word's ranges, and the balanced tree that finds the one a word lies in.

use super::bpf::{Assembler, Compare, Target};

/// Where the program goes on for each value of a word: from a start up to the next one.
pub(super) struct Ranges(Vec<(u32, Target)>);

impl Ranges {
    /// One range.
    pub(super) fn new(target: Target) -> Self {
        Self(vec![(0, target)])
    }

    /// Ends the last range before `start` with a new one; starts may only grow. Neighbours with
    /// the same target are one range.
    pub(super) fn from(&mut self, start: u32, target: Target) {
        debug_assert!(self.0.last().is_none_or(|last| last.0 <= start));
        self.0.pop_if(|last| last.0 == start);
        if self.0.last().is_none_or(|last| last.1 != target) {
            self.0.push((start, target));
        }
    }

    /// Makes a range of one value, and one of `others` behind it.
    pub(super) fn at(&mut self, word: u32, target: Target, others: Target) {
        self.from(word, target);
        if let Some(next) = word.checked_add(1) {
            self.from(next, others);
        }
    }

    /// What the range of 0 leads to.
    pub(super) fn first(&self) -> Target {
        self.0[0].1
    }

    /// What the last range leads to.
    pub(super) fn last(&self) -> Target {
        self.0[self.0.len() - 1].1
    }

    /// Generates the code that finds the range of the 32 bits at an offset of `struct
    /// seccomp_data`.
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
            // The program grows to its start: what is made last is the shorter way.
            let high = tree(asm, high);
            let low = tree(asm, low);
            asm.branch(Compare::GreaterOrEqual, start, high, low)
        }
    }
}
