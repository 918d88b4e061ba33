//! Figures from many measurements.

/// Returns the median; 0 without values.
#[must_use]
pub fn median(values: impl IntoIterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// Returns `one / other`; 0 if `other` is 0.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "times and counts are far below 2^52")]
pub fn ratio(one: u64, other: u64) -> f64 {
    if other == 0 { 0.0 } else { one as f64 / other as f64 }
}
