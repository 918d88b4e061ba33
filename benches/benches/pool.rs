//! A start from a warm pool, beside a plain exec of the same program: up to its first instruction.
//!
//! The plain one is a bare vfork and exec. Criterion measures one behind the other; the ratio is of
//! pairs.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pidone::pool::{Pool, Sizes};
use pidone::{Factory, Options, Process, Stdio};
use pidone_benches::floor::Plain;
use pidone_benches::payload::{self, Output};
use pidone_benches::place::{Place, View};
use pidone_benches::scenario::Scenario;
use pidone_benches::{Result, Starter as _, clock};

/// How many pairs the ratio is of.
const PAIRS: usize = 1000;

/// How many containers wait.
const SIZE: usize = 16;

const PATIENCE: Duration = Duration::from_secs(60);

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
    let mut plain = Plain::new(place)?;
    for scenario in Scenario::ALL {
        let mut warm = Warm::new(place, scenario)?;
        let mut group = criterion.benchmark_group(format!("pool/{scenario}"));
        group.bench_function(BenchmarkId::from_parameter("plain"), |bencher| {
            bencher.iter_custom(|count| sum(count, || Ok(plain.start()?.first)));
        });
        group.bench_function(BenchmarkId::from_parameter("warm"), |bencher| {
            bencher.iter_custom(|count| sum(count, || warm.start()));
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
fn ratio(scenario: Scenario, plain: &mut Plain, warm: &mut Warm<'_>) -> Result<()> {
    let (mut plains, mut warms) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        plains.push(plain.start()?.first);
        warms.push(warm.start()?);
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

/// The payload in a container that waits.
struct Warm<'a> {
    pool: Pool,
    process: Process,
    output: Output,
    _place: &'a Place,
}

impl<'a> Warm<'a> {
    fn new(place: &'a Place, scenario: Scenario) -> Result<Self> {
        let output = Output::new()?;
        let factory = Factory::new(place.directory().join("states"), Options::default())?;
        let config = scenario.config(&place.rootfs(), (&place.cgroup_parent(), "bench"));
        let model = Process { no_new_privileges: scenario.is_oci(), ..Process::default() };
        let pool = Pool::new(&factory, &config, model, Sizes { size: SIZE, low: 1 })?;
        let process = Process {
            args: vec![payload::PATH.to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            stdin: Stdio::Null,
            stdout: Stdio::Fd(output.writer().try_clone_to_owned()?),
            no_new_privileges: scenario.is_oci(),
            ..Process::default()
        };
        Ok(Self { pool, process, output, _place: place })
    }

    /// Nanoseconds to the first instruction.
    fn start(&mut self) -> Result<u64> {
        let status = self.pool.status();
        if status.ready <= 1 {
            self.pool.wait_until_full(PATIENCE)?;
        }
        // What ended before is out of the way.
        while self.pool.status().ended > 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        let begin = clock::now();
        let mut lease = self.pool.start(&self.process)?;
        if !lease.is_warm() {
            return Err("the pool was empty".into());
        }
        lease.wait()?;
        Ok(self.output.stamp()?.saturating_sub(begin))
    }
}

fn sum(count: u64, mut one: impl FnMut() -> Result<u64>) -> Duration {
    let total = (0..count).map(|_| one().unwrap_or_else(|error| panic!("{error}"))).sum();
    Duration::from_nanos(total)
}
