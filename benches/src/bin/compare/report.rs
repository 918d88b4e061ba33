//! Figures from what was measured, and their table.

use std::fmt::Write as _;

use pidone_benches::host::Host;
use pidone_benches::scenario::Scenario;
use serde::Serialize;

use crate::Experiment;
use crate::block::Measured;
use crate::contestant::Contestant;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) rows: Vec<Row>,
}

/// A distribution, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Times {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
}

/// The figures of one contestant in one situation.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    scenario: Scenario,
    mounts: usize,
    workers: usize,
    /// Milliseconds before each start.
    pause: u64,
    contestant: Contestant,
    starts: usize,
    /// To the payload's first instruction.
    first: Times,
    /// The median over the floor's in the same situation.
    first_over_floor: f64,
    /// The median over its own with the fewest mounts.
    first_over_fewest_mounts: f64,
    /// Until reaped and removed.
    whole: Times,
    whole_over_floor: f64,
    /// Processor time of one start, in nanoseconds.
    cpu: u64,
    /// Page faults of one start.
    faults: f64,
    /// Starts in a second.
    rate: f64,
}

impl Times {
    /// The percentiles of a distribution, by the nearest rank.
    pub(crate) fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self { p50: rank(50), p90: rank(90), p99: rank(99) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "times and counts are far below 2^52")]
fn ratio(one: u64, other: u64) -> f64 {
    if other == 0 { 0.0 } else { one as f64 / other as f64 }
}

/// The rows of an experiment; `fewest` is the number of mounts that others are compared with.
pub(crate) fn rows(
    experiment: &Experiment,
    measured: Vec<(usize, Contestant, Measured)>,
    fewest: usize,
) -> Vec<Row> {
    let mut rows: Vec<_> = measured
        .into_iter()
        .map(|(mounts, contestant, measured)| {
            let starts = measured.first.len();
            let count = u64::try_from(starts).unwrap_or(u64::MAX).max(1);
            Row {
                scenario: experiment.scenario,
                mounts,
                workers: experiment.workers,
                pause: experiment.pause,
                contestant,
                starts,
                first: Times::of(measured.first),
                first_over_floor: 0.0,
                first_over_fewest_mounts: 0.0,
                whole: Times::of(measured.whole),
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

/// The table of some rows, with the host and an explanation above the first.
pub(crate) fn table(host: &Host, rows: &[Row], first: bool) -> String {
    let mut text = String::new();
    if first {
        let _ = writeln!(
            text,
            "{host}\n\
             Times in microseconds, to the payload's first instruction and until the container is \
             removed;\n\
             x: the median over the floor's; mx: over its own with the fewest mounts; cpu and \
             faults of one start."
        );
    }
    for situation in rows.chunk_by(|a, b| a.mounts == b.mounts) {
        let Some(row) = situation.first() else { continue };
        let Row { scenario, mounts, workers, pause, starts, .. } = row;
        let pause = if *pause == 0 { "back to back".into() } else { format!("{pause} ms apart") };
        let _ = writeln!(
            text,
            "\n{scenario}, {mounts} mounts, {workers} at a time, {pause}, {starts} starts\n\
             {:18}{:>8}{:>8}{:>8}{:>7}{:>7} |{:>8}{:>8}{:>8}{:>7} |{:>7}{:>7}{:>7}",
            "", "p50", "p90", "p99", "x", "mx", "p50", "p90", "p99", "x", "cpu", "faults", "per s",
        );
        for row in situation {
            let us = |nanoseconds: u64| nanoseconds.div_ceil(1000);
            let _ = writeln!(
                text,
                "{:18}{:>8}{:>8}{:>8}{:>7.2}{:>7.2} |{:>8}{:>8}{:>8}{:>7.2} |{:>7}{:>7.0}{:>7.0}",
                row.contestant,
                us(row.first.p50),
                us(row.first.p90),
                us(row.first.p99),
                row.first_over_floor,
                row.first_over_fewest_mounts,
                us(row.whole.p50),
                us(row.whole.p90),
                us(row.whole.p99),
                row.whole_over_floor,
                us(row.cpu),
                row.faults,
                row.rate,
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let times = Times::of((1..=100).rev().collect());
        assert_eq!(times, Times { p50: 50, p90: 90, p99: 99 });
        assert_eq!(Times::of(vec![7]), Times { p50: 7, p90: 7, p99: 7 });
        assert_eq!(Times::of(Vec::new()), Times::default());
    }

    #[test]
    fn rows_are_compared_with_the_floor_and_with_the_fewest_mounts() {
        let experiment = Experiment {
            scenario: Scenario::Minimal,
            mounts: vec![20, 1000],
            workers: 1,
            pause: 0,
            starts: 1,
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
            20,
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
