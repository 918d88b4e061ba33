//! Every operation of the wire is printed with its name and its fields.
//!
//! The operations come from the vectors of `pidone_proto`, which have at least one of each.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use pidone_plan::Plan;
use pidone_proto::{Bincode, Codec, Op};

/// Operations that are printed without their fields: the listener of `AwaitStart` is always the
/// same.
const NAME_ONLY: &[&str] = &["AwaitStart"];

/// Returns the bytes of a line `  bincode 00 07`.
fn bytes(line: &str) -> Option<Vec<u8>> {
    let hex = line.strip_prefix("  bincode ")?;
    Some(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect())
}

#[test]
fn every_operation_prints_its_name_and_its_fields() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/vectors/operations.txt");
    let vectors = std::fs::read_to_string(vectors).unwrap();
    // For each operation, whether any of its vectors prints something about its fields. Some have
    // none, and some print nothing for a zero or an empty text.
    let mut printed = BTreeMap::new();
    for bytes in vectors.lines().filter_map(bytes) {
        let (op, _) = Bincode::decode::<Op<'_>>(&bytes).unwrap();
        let debug = format!("{op:?}");
        let (variant, has_fields) = match debug.split_once(' ') {
            Some((variant, _)) => (variant, true),
            None => (debug.as_str(), false),
        };
        let mut plan = Plan::default();
        plan.push(op);
        let line = plan.to_string();
        let about = line.strip_prefix(&format!("1 {}", op.name())).expect(&line).trim();
        *printed.entry(variant.to_owned()).or_insert(false) |= !has_fields || !about.is_empty();
    }
    for variant in Op::VARIANTS {
        let expected = Some(!NAME_ONLY.contains(variant));
        let printed = printed.get(*variant).copied();
        assert_eq!(printed, expected, "{variant}: whether its line has more than the name");
    }
}
