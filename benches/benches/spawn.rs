//! A further process that the init of a container starts, beside vfork and exec of the same program
//! on the host: up to its first instruction.
//!
//! As single figures; `compare --verb spawn` interleaves them.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone_benches::floor::Plain;
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Starter, library};

fn main() -> Result<()> {
    // Before anything starts a thread: a process with threads cannot leave its mount namespace.
    match Place::enter(None, View::V2) {
        Ok(place) => run(&place),
        Err(error) => {
            eprintln!("spawn is skipped: {error}");
            Ok(())
        }
    }
}

fn run(place: &Place) -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    for scenario in Scenario::ALL {
        let mut group = criterion.benchmark_group(format!("spawn/{scenario}"));
        let starters: [(&str, Box<dyn Starter>); 2] = [
            ("plain", Box::new(Plain::new(place)?)),
            ("spawn", Box::new(library::Exec::supervised(place, scenario, 0)?)),
        ];
        for (name, mut starter) in starters {
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_custom(|count| {
                    let one = |_| starter.start().map(|sample| sample.first);
                    let sum = (0..count).map(one).sum::<Result<u64>>();
                    Duration::from_nanos(sum.unwrap_or_else(|error| panic!("{name}: {error}")))
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
