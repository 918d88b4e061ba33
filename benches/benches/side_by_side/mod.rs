//! Starts of several kinds in one benchmark group, up to the payload's first instruction.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Starter};

/// The starters to measure, with their names.
pub(crate) type Starters = Vec<(&'static str, Box<dyn Starter>)>;

/// Measures the starts of each scenario. This is the whole `main` of a bench.
pub(crate) fn main(name: &str, starters: fn(&Place, Scenario) -> Result<Starters>) -> Result<()> {
    // Before any thread starts: a process with threads cannot leave its mount namespace.
    let place = match Place::enter(None, View::V2) {
        Ok(place) => place,
        Err(error) => {
            eprintln!("{name} is skipped: {error}");
            return Ok(());
        }
    };
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    for scenario in Scenario::ALL {
        let mut group = criterion.benchmark_group(format!("{name}/{scenario}"));
        for (kind, mut starter) in starters(&place, scenario)? {
            group.bench_function(BenchmarkId::from_parameter(kind), |bencher| {
                bencher.iter_custom(|count| {
                    let start = |_| starter.start().map(|sample| sample.first);
                    let sum = (0..count).map(start).sum::<Result<u64>>();
                    Duration::from_nanos(sum.unwrap_or_else(|error| panic!("{kind}: {error}")))
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
