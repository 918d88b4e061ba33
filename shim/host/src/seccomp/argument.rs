//! Conditions on arguments.
//!
//! A filter sees arguments as 64 bits but compares 32 at a time: first the high word, then, where
//! that leaves it open, the low one.

use pidone_config::seccomp::{Condition, Operator};

use super::bpf::{Assembler, Compare, Target};
use super::ranges::Ranges;

/// The offset of an argument's low word in `struct seccomp_data` on a little-endian machine.
fn low(index: u8) -> u32 {
    16 + 8 * u32::from(index)
}

/// The offset of an argument's high word.
fn high(index: u8) -> u32 {
    low(index) + 4
}

fn split(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([a, b, c, d]))
}

/// Makes the code of one condition.
///
/// If `wide` is false only the low words count.
pub(super) fn test(
    asm: &mut Assembler,
    wide: bool,
    condition: &Condition,
    yes: Target,
    no: Target,
) -> Target {
    if condition.operator != Operator::MaskedEqual {
        return first(asm, wide, &[(*condition, yes)], no);
    }
    let (mask_high, mask_low) = split(condition.value);
    let (value_high, value_low) = split(condition.value_two);
    let mut word = |offset, mask, value, yes| {
        if mask == 0 {
            return yes;
        }
        let mut target = asm.branch(Compare::Equal, value & mask, yes, no);
        if mask != u32::MAX {
            target = asm.and(mask, target);
        }
        asm.load(offset, target)
    };
    let target = word(low(condition.index), mask_low, value_low, yes);
    if wide { word(high(condition.index), mask_high, value_high, target) } else { target }
}

/// Makes the code that goes to the target of the first condition that holds, else to `none`.
///
/// All conditions are on the same argument, and none has a mask.
pub(super) fn first(
    asm: &mut Assembler,
    wide: bool,
    conditions: &[(Condition, Target)],
    none: Target,
) -> Target {
    let Some((Condition { index, .. }, _)) = conditions.first() else {
        return none;
    };
    let limit = if wide { u64::MAX } else { u64::from(u32::MAX) };
    // Between two of these values nothing changes.
    let mut starts = vec![0];
    for (condition, _) in conditions {
        let value = condition.value & limit;
        starts.push(value);
        starts.extend(value.checked_add(1).filter(|next| *next <= limit));
    }
    starts.sort_unstable();
    starts.dedup();
    let pieces = starts.into_iter().map(|start| {
        let holds = |(condition, _): &&(Condition, Target)| {
            let value = condition.value & limit;
            match condition.operator {
                Operator::NotEqual => start != value,
                Operator::Less => start < value,
                Operator::LessOrEqual => start <= value,
                Operator::Equal => start == value,
                Operator::GreaterOrEqual => start >= value,
                Operator::Greater => start > value,
                Operator::MaskedEqual => unreachable!("conditions with a mask are made by `test`"),
            }
        };
        (split(start), conditions.iter().find(holds).map_or(none, |(_, target)| *target))
    });
    let pieces: Vec<((u32, u32), Target)> = pieces.collect();

    let mut highs = Ranges::new(none);
    for group in pieces.chunk_by(|a, b| a.0.0 == b.0.0) {
        let word = group[0].0.0;
        // Below its first piece a high word continues what came before it.
        let mut lows = Ranges::new(highs.last());
        for ((_, word), target) in group {
            lows.from(*word, *target);
        }
        let rest = lows.last();
        highs.at(word, lows.search(asm, low(*index)), rest);
    }
    if wide { highs.search(asm, high(*index)) } else { highs.first() }
}
