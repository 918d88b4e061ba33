//! The table of figures.

use std::fmt::Write as _;

use pidone_benches::experiment::Row;
use pidone_benches::host::Host;

/// Returns the table of some rows. The first one has the host and an explanation above it.
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
        let Row { verb, scenario, view, mounts, workers, pause, starts, .. } = row;
        let pause = if *pause == 0 { "back to back".into() } else { format!("{pause} ms apart") };
        let _ = writeln!(
            text,
            "\n{verb} {scenario}, cgroup {view}, {mounts} mounts, {workers} at a time, {pause}, \
             {starts} starts\n\
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
