//! A process that a container's init starts: up to its first instruction, and until its end is
//! known.
//!
//! Side by side with vfork and exec of the same program on the host, and with one that joins the
//! namespaces, as single figures; `compare --verb spawn` interleaves them.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Sample, Starter, floor, library};

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
        .configure_from_args();
    type Time = fn(Sample) -> u64;
    let times: [(&str, Time); 2] =
        [("first", |sample| sample.first), ("ended", |sample| sample.whole)];
    for scenario in Scenario::ALL {
        let mut starters: [(&str, Box<dyn Starter>); 3] = [
            ("vfork and exec", Box::new(floor::Spawn::new(place)?)),
            ("init", Box::new(library::Exec::by_the_init(place, scenario, 0)?)),
            ("setns", Box::new(library::Exec::new(place, scenario, 0)?)),
        ];
        for (phase, time) in times {
            let mut group = criterion.benchmark_group(format!("spawn/{phase}/{scenario}"));
            for (name, starter) in &mut starters {
                group.bench_function(BenchmarkId::from_parameter(*name), |bencher| {
                    bencher.iter_custom(|count| {
                        let one = |_| starter.start().map(time);
                        let sum = (0..count).map(one).sum::<Result<u64>>();
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
