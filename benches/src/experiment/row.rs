//! The figures of an experiment, computed from its measurements.

use serde::Serialize;

use super::Experiment;
use super::block::Measured;
use crate::contestant::{Contestant, Verb};
use crate::figures::ratio;
use crate::place::View;
use crate::scenario::Scenario;

/// A distribution, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The percentiles from 0 to 100.
    pub percentiles: Vec<u64>,
}

/// The figures of one contestant in one situation.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What the contestant did.
    pub verb: Verb,
    /// The container.
    pub scenario: Scenario,
    /// The visible cgroups.
    pub view: View,
    /// The number of host mounts.
    pub mounts: usize,
    /// How many started at the same time.
    pub workers: usize,
    /// The pause before each start, in milliseconds.
    pub pause: u64,
    /// The contestant.
    pub contestant: Contestant,
    /// The number of starts.
    pub starts: usize,
    /// The time to the payload's first instruction.
    pub first: Times,
    /// The ratio of the median of `first` to the floor's in the same situation; 0 without a floor.
    pub first_over_floor: f64,
    /// The ratio of the median of `first` to the contestant's own with the fewest mounts.
    pub first_over_fewest_mounts: f64,
    /// The time until the process is reaped and the container removed.
    pub whole: Times,
    /// The ratio of the median of `whole` to the floor's in the same situation; 0 without a floor.
    pub whole_over_floor: f64,
    /// The processor time of one start, in nanoseconds.
    pub cpu: u64,
    /// The page faults of one start.
    pub faults: f64,
    /// Starts per second.
    pub rate: f64,
}

impl Times {
    /// Computes the percentiles of a distribution, by the nearest rank.
    #[must_use]
    pub fn from_values(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        let [p50, p90, p99] = [50, 90, 99].map(rank);
        Self { p50, p90, p99, percentiles: (0..=100).map(rank).collect() }
    }
}

/// Returns the rows of an experiment, sorted by the number of mounts.
pub(super) fn rows(
    experiment: &Experiment,
    measured: Vec<(usize, Contestant, Measured)>,
) -> Vec<Row> {
    let fewest = experiment.mounts.iter().copied().min().unwrap_or(0);
    let mut rows: Vec<_> = measured
        .into_iter()
        .map(|(mounts, contestant, measured)| {
            let starts = measured.first.len();
            let count = u64::try_from(starts).unwrap_or(u64::MAX).max(1);
            Row {
                verb: experiment.verb,
                scenario: experiment.scenario,
                view: experiment.view,
                mounts,
                workers: experiment.workers,
                pause: experiment.pause,
                contestant,
                starts,
                first: Times::from_values(measured.first),
                first_over_floor: 0.0,
                first_over_fewest_mounts: 0.0,
                whole: Times::from_values(measured.whole),
                whole_over_floor: 0.0,
                cpu: measured.cpu * 1000 / count,
                faults: ratio(measured.faults, count),
                rate: ratio(count * 1_000_000_000, measured.elapsed),
            }
        })
        .collect();
    let median = |mounts, contestant| {
        let same = |row: &&Row| row.mounts == mounts && row.contestant == contestant;
        rows.iter().find(same).map_or((0, 0), |row| (row.first.p50, row.whole.p50))
    };
    let others: Vec<_> = rows
        .iter()
        .map(|row| (median(row.mounts, Contestant::Floor), median(fewest, row.contestant)))
        .collect();
    for (row, (floor, least)) in rows.iter_mut().zip(others) {
        row.first_over_floor = ratio(row.first.p50, floor.0);
        row.whole_over_floor = ratio(row.whole.p50, floor.1);
        row.first_over_fewest_mounts = ratio(row.first.p50, least.0);
    }
    rows.sort_by_key(|row| row.mounts);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let times = Times::from_values((1..=100).rev().collect());
        assert_eq!((times.p50, times.p90, times.p99), (50, 90, 99));
        assert_eq!(times.percentiles[..3], [1, 1, 2]);
        assert_eq!(times.percentiles[100], 100);
        assert_eq!(Times::from_values(vec![7]).percentiles, [7; 101]);
        assert_eq!(Times::from_values(Vec::new()).p99, 0);
    }

    #[test]
    fn ratios_are_to_the_floor_and_to_the_fewest_mounts() {
        let experiment = Experiment {
            verb: Verb::Run,
            scenario: Scenario::Minimal,
            view: View::V2,
            mounts: vec![20, 1000],
            workers: 1,
            pause: 0,
            starts: 1,
            contestants: Contestant::ALL.into(),
        };
        let took = |first, whole| Measured {
            first: vec![first],
            whole: vec![whole],
            elapsed: 1_000_000,
            cpu: 3,
            faults: 5,
        };
        let rows = rows(
            &experiment,
            vec![
                (1000, Contestant::Floor, took(40, 100)),
                (1000, Contestant::Host, took(60, 300)),
                (20, Contestant::Floor, took(10, 20)),
                (20, Contestant::Host, took(30, 20)),
            ],
        );
        let figures: Vec<_> = rows
            .iter()
            .map(|row| (row.first_over_floor, row.whole_over_floor, row.first_over_fewest_mounts))
            .collect();
        assert_eq!(figures, [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 1.0, 4.0), (1.5, 3.0, 2.0)]);
        assert_eq!((rows[1].cpu, rows[1].faults, rows[1].rate), (3000, 5.0, 1000.0));
        assert_eq!(rows[1].mounts, 20);
    }
}
