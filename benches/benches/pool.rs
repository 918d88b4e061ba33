//! A start from a warm pool, beside a plain exec of the same program: up to its first instruction.
//!
//! The plain one is vfork and exec with the same descriptors and environment. Criterion measures one
//! behind the other; the ratio is of pairs.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::warm::Warm;
use pidone_benches::{Result, Starter as _, floor};

/// How many pairs the ratio is of.
const PAIRS: usize = 1000;

fn main() {
    // Before anything starts a thread: a process with threads cannot leave its mount namespace.
    let ran = Place::enter(None, View::V2).and_then(|place| run(&place));
    if let Err(error) = ran {
        eprintln!("pool is skipped: {error}");
    }
}

fn run(place: &Place) -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    let mut plain = floor::Spawn::new(place)?;
    for scenario in Scenario::ALL {
        let mut warm = Warm::new(place, scenario, 0)?;
        let mut group = criterion.benchmark_group(format!("pool/{scenario}"));
        group.bench_function(BenchmarkId::from_parameter("plain"), |bencher| {
            bencher.iter_custom(|count| sum(count, || plain.start().map(|sample| sample.first)));
        });
        group.bench_function(BenchmarkId::from_parameter("warm"), |bencher| {
            bencher.iter_custom(|count| sum(count, || warm.start().map(|sample| sample.first)));
        });
        group.finish();
        // Only where something is measured: `--list` and `--test` are quick.
        if std::env::args().any(|argument| argument == "--bench") {
            ratio(scenario, &mut plain, &mut warm)?;
        }
    }
    criterion.final_summary();
    Ok(())
}

/// Measures both in turn.
fn ratio(scenario: Scenario, plain: &mut floor::Spawn, warm: &mut Warm) -> Result<()> {
    let (mut plains, mut warms) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        plains.push(plain.start()?.first);
        warms.push(warm.start()?.first);
    }
    plains.sort_unstable();
    warms.sort_unstable();
    for (name, place) in [("p50", PAIRS / 2), ("p90", PAIRS * 9 / 10), ("p99", PAIRS * 99 / 100)] {
        let (Some(plain), Some(warm)) = (plains.get(place), warms.get(place)) else { continue };
        let (plain, warm) = (Duration::from_nanos(*plain), Duration::from_nanos(*warm));
        let ratio = warm.as_secs_f64() / plain.as_secs_f64();
        eprintln!("pool/{scenario} {name}: plain {plain:?}, warm {warm:?}, ratio {ratio:.2}");
    }
    Ok(())
}

fn sum(count: u64, mut one: impl FnMut() -> Result<u64>) -> Duration {
    let total = (0..count).map(|_| one().unwrap_or_else(|error| panic!("{error}"))).sum();
    Duration::from_nanos(total)
}
