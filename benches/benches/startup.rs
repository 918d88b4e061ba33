//! A cold start: up to the payload's first instruction, and until the container is removed.
//!
//! Measures the floor and the library separately; the program `compare` interleaves them.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone::Strategy;
use pidone_benches::floor::Floor;
use pidone_benches::library::{Library, Phases};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Starter};

fn main() {
    // Before any thread starts: a process with threads cannot leave its mount namespace.
    match Place::enter(None, View::V2) {
        Ok(place) => run(&place),
        Err(error) => eprintln!("startup is skipped: {error}"),
    }
}

fn run(place: &Place) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    for scenario in Scenario::ALL {
        first(&mut criterion, place, scenario);
        removed(&mut criterion, place, scenario);
    }
    phases(&mut criterion, place);
    steps(&mut criterion, place);
    criterion.final_summary();
}

/// Measures the time to the first instruction.
fn first(criterion: &mut Criterion, place: &Place, scenario: Scenario) {
    bench(criterion, place, scenario, "first", |starter| Ok(starter.start()?.first));
}

/// Measures the time until the process is reaped and the container removed.
fn removed(criterion: &mut Criterion, place: &Place, scenario: Scenario) {
    bench(criterion, place, scenario, "removed", |starter| Ok(starter.start()?.whole));
}

fn bench(
    criterion: &mut Criterion,
    place: &Place,
    scenario: Scenario,
    phase: &str,
    time: fn(&mut dyn Starter) -> Result<u64>,
) {
    let mut group = criterion.benchmark_group(format!("{phase}/{scenario}"));
    let starters: [(&str, Result<Box<dyn Starter>>); 3] = [
        ("floor", Floor::new(place, scenario, 0).map(|floor| Box::new(floor) as _)),
        ("template", library(place, scenario, Strategy::Template).map(|library| library as _)),
        ("host", library(place, scenario, Strategy::Host).map(|library| library as _)),
    ];
    for (name, starter) in starters {
        let mut starter = starter.unwrap_or_else(|error| panic!("{scenario}, {name}: {error}"));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|count| sum(count, || time(starter.as_mut())));
        });
    }
}

/// Measures each phase of the library.
fn phases(criterion: &mut Criterion, place: &Place) {
    let mut group = criterion.benchmark_group("phase/oci-net");
    type Phase = (&'static str, fn(&Phases) -> u64);
    let phases: [Phase; 4] = [
        ("create", |phases| phases.created),
        ("start", |phases| phases.started - phases.created),
        ("wait", |phases| phases.reaped - phases.started),
        ("destroy", |phases| phases.removed - phases.reaped),
    ];
    let mut library = library(place, Scenario::OciNet, Strategy::Template)
        .unwrap_or_else(|error| panic!("oci-net: {error}"));
    for (name, of) in phases {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|count| sum(count, || Ok(of(&library.phases()?))));
        });
    }
}

/// Measures a start in two steps, like OCI's create and start.
fn steps(criterion: &mut Criterion, place: &Place) {
    let mut group = criterion.benchmark_group("steps/oci-net");
    type Step = (&'static str, fn(&Phases) -> u64);
    let steps: [Step; 2] = [
        ("create and prepare", |phases| phases.created),
        ("release", |phases| phases.started - phases.created),
    ];
    let mut library = library(place, Scenario::OciNet, Strategy::Auto)
        .unwrap_or_else(|error| panic!("oci-net: {error}"))
        .in_two_steps();
    for (name, of) in steps {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|count| sum(count, || Ok(of(&library.phases()?))));
        });
    }
}

fn library(place: &Place, scenario: Scenario, strategy: Strategy) -> Result<Box<Library>> {
    Ok(Box::new(Library::new(place, scenario, strategy, 0)?))
}

/// Adds up `count` measurements.
fn sum(count: u64, mut measure: impl FnMut() -> Result<u64>) -> Duration {
    let total = (0..count).map(|_| measure().unwrap_or_else(|error| panic!("{error}"))).sum();
    Duration::from_nanos(total)
}
