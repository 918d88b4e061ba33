//! From the text of a `config.json` to a plan, in steps.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion};
use pidone::oci::{Bundle, Spec};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, compiled};

fn main() -> Result<()> {
    // A plan depends on the host's cgroups, which are the same everywhere in a `Place`. Before any
    // thread starts: a process with threads cannot leave its mount namespace.
    let place = Place::enter(None, View::V2);
    let mut criterion = Criterion::default()
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(2))
        .configure_from_args();
    match &place {
        Ok(place) => bundle(&mut criterion, place)?,
        Err(error) => eprintln!("plan/bundle is skipped: {error}"),
    }
    compile(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// Measures the steps for an OCI bundle. The last one reads the host.
fn bundle(criterion: &mut Criterion, place: &Place) -> Result<()> {
    let cgroup = format!("{}/name", place.cgroup_parent());
    let text = Scenario::OciNet.bundle(&place.rootfs(), &cgroup, &["/payload"]).to_string();
    fs::write(place.directory().join("config.json"), &text)?;
    let bundle = Bundle::open(place.directory())?;
    let config = bundle.config()?;
    let process = bundle.process()?;
    pidone::first_plan(&config, &process)?;

    let mut group = criterion.benchmark_group("plan/bundle");
    group.bench_function("text to spec", |bencher| {
        bencher.iter(|| Spec::from_json(black_box(text.as_bytes())));
    });
    group.bench_function("spec to config", |bencher| bencher.iter(|| black_box(&bundle).config()));
    group.bench_function("config to plan", |bencher| {
        bencher.iter(|| pidone::first_plan(black_box(&config), black_box(&process)));
    });
    group.finish();
    Ok(())
}

/// Measures the compilation alone, without reading the host.
fn compile(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("plan/compile");
    for scenario in [Scenario::Minimal, Scenario::OciNet] {
        let config = scenario.config(Path::new("/srv/rootfs"), ("/parent", "name"));
        let process = compiled::process(&config)?;
        group.bench_function(BenchmarkId::from_parameter(scenario), |bencher| {
            bencher.iter(|| compiled::plan(black_box(&config), black_box(&process)));
        });
    }
    group.finish();
    Ok(())
}
