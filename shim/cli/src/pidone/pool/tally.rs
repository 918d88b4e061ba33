//! Durations of many starts, and their percentiles.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Durations in microseconds.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<u32>);

/// Percentiles of durations, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    p50: u32,
    p90: u32,
    p99: u32,
    max: u32,
}

impl Tally {
    /// Adds a duration. Longer ones than 71 minutes count as that.
    pub(super) fn add(&mut self, time: Duration) {
        self.0.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds the durations of another tally.
    pub(super) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the percentiles by the nearest-rank method, or `None` if there are no durations.
    pub(super) fn percentiles(&mut self) -> Option<Percentiles> {
        self.0.sort_unstable();
        let rank = |percent: usize| {
            let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
            self.0.get(index).copied()
        };
        Some(Percentiles { p50: rank(50)?, p90: rank(90)?, p99: rank(99)?, max: rank(100)? })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, max } = self;
        write!(f, "p50 {p50} us, p90 {p90} us, p99 {p99} us, max {max} us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut tally = Tally::default();
        assert_eq!(tally.percentiles(), None);
        for micros in (1..=200).rev() {
            tally.add(Duration::from_micros(micros));
        }
        let expected = Percentiles { p50: 100, p90: 180, p99: 198, max: 200 };
        assert_eq!(tally.percentiles(), Some(expected));
        let mut other = Tally::default();
        other.add(Duration::from_secs(3));
        tally.merge(other);
        assert_eq!(tally.percentiles().map(|all| all.max), Some(3_000_000));
    }
}
