//! A further process in a running container: up to its first instruction, and until it is reaped.
//!
//! Measures the floor and the library separately; `compare --verb exec` interleaves them.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Sample, Starter, floor, library};

fn main() -> Result<()> {
    // Before any thread starts: a process with threads cannot leave its mount namespace.
    match Place::enter(None, View::V2) {
        Ok(place) => run(&place),
        Err(error) => {
            eprintln!("exec is skipped: {error}");
            Ok(())
        }
    }
}

fn run(place: &Place) -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    type Time = fn(Sample) -> u64;
    let times: [(&str, Time); 2] =
        [("first", |sample| sample.first), ("reaped", |sample| sample.whole)];
    for scenario in Scenario::ALL {
        let mut starters: [(&str, Box<dyn Starter>); 2] = [
            ("floor", Box::new(floor::Exec::new(place, scenario, 0)?)),
            ("library", Box::new(library::Exec::new(place, scenario, 0)?)),
        ];
        for (phase, time) in times {
            let mut group = criterion.benchmark_group(format!("exec/{phase}/{scenario}"));
            for (name, starter) in &mut starters {
                group.bench_function(BenchmarkId::from_parameter(*name), |bencher| {
                    bencher.iter_custom(|count| {
                        let start = |_| starter.start().map(time);
                        let sum = (0..count).map(start).sum::<Result<u64>>();
                        Duration::from_nanos(sum.unwrap_or_else(|error| panic!("{name}: {error}")))
                    });
                });
            }
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(())
}
