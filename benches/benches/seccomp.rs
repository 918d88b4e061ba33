//! Docker's default seccomp profile: from JSON to a filter, and loading the filter.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use pidone::oci::linux::seccomp::Seccomp;
use pidone::seccomp::compile;
use pidone_benches::{Result, floor, reference};

const PROFILE: &[u8] = include_bytes!("../../shim/host/tests/seccomp/docker-default.json");

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let parsed: Seccomp = serde_json::from_slice(PROFILE)?;
    let profile = parsed.profile()?.ok_or("an empty profile")?;
    let filter = compile(&profile)?;

    let mut group = criterion.benchmark_group("seccomp/compile");
    group.bench_function("text", |bencher| {
        bencher.iter(|| serde_json::from_slice::<Seccomp>(black_box(PROFILE)));
    });
    group.bench_function("profile", |bencher| bencher.iter(|| black_box(&parsed).profile()));
    group.bench_function("filter", |bencher| bencher.iter(|| compile(black_box(&profile))));
    group.finish();

    let mut group = criterion.benchmark_group("seccomp/load");
    let filters = [("compiled", filter.bytes()), ("smallest", reference::smallest(&filter)?)];
    for (name, program) in &filters {
        let name = BenchmarkId::new(*name, program.len() / 8);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let loads = (0..count).map(|_| load(program)).sum::<Result<Duration>>();
                loads.unwrap_or_else(|error| panic!("{error}"))
            });
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Measures loading a filter, in a thread that then ends.
fn load(program: &[u8]) -> Result<Duration> {
    let load = || {
        let begin = Instant::now();
        floor::load_filter(program).map(|()| begin.elapsed())
    };
    std::thread::scope(|scope| scope.spawn(load).join()).map_err(|_| "the thread has panicked")?
}
