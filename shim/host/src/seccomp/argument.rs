//! Conditions on arguments.
//!
//! Arguments have 64 bits, but a filter compares 32 at a time: first the high word, and then, if
//! that does not decide, the low word.

use pidone_config::seccomp::{Condition, Operator};

use super::bpf::{Assembler, Compare, Target};
use super::ranges::Ranges;

/// Returns the offset of an argument's low word in `struct seccomp_data` on a little-endian
/// machine.
fn low(index: u8) -> u32 {
    16 + 8 * u32::from(index)
}

/// Returns the offset of an argument's high word.
fn high(index: u8) -> u32 {
    low(index) + 4
}

/// Splits a value into its high and its low word.
fn split(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([a, b, c, d]))
}

/// Emits the code of one condition, and returns its entry.
///
/// If `wide` is false, only the low words are compared.
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

/// Emits code that continues at the target of the first condition that holds, else at `none`, and
/// returns its entry.
///
/// All conditions must be on the same argument, without a mask.
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
    // The values at which the result may change.
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
        // Below its first piece, a high word has the target of the piece before.
        let mut lows = Ranges::new(highs.last());
        for ((_, word), target) in group {
            lows.from(*word, *target);
        }
        let rest = lows.last();
        highs.at(word, lows.search(asm, low(*index)), rest);
    }
    if wide { highs.search(asm, high(*index)) } else { highs.first() }
}
