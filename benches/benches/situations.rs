//! Cold starts in other situations: with many mounts, after a pause, several at a time.
//!
//! Measures them separately; the program `compare` interleaves them, also with other runtimes.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use pidone_benches::Result;
use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::experiment::{Block, Measured, Server, Servers, serve};
use pidone_benches::place::View;
use pidone_benches::scenario::Scenario;

const MOUNTS: [usize; 3] = [20, 1000, 5000];

/// The pause between two starts.
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    // The processes of the places are this program, too.
    if serve()? {
        return Ok(());
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20)
        .configure_from_args();
    let mut servers = Servers::default();
    let [fewest, ..] = MOUNTS;
    let plain = Block {
        contestant: Contestant::Library,
        verb: Verb::Run,
        scenario: Scenario::OciNet,
        workers: 1,
        count: 1,
        pause: Duration::ZERO,
    };
    if let Err(reason) = servers.at(fewest, View::V2)?.run(plain) {
        eprintln!("situations are skipped: {reason}");
        return Ok(());
    }
    let contestants = [Contestant::Floor, Contestant::Library, Contestant::Host];
    for contestant in contestants {
        let plain = Block { contestant, ..plain };
        for mounts in MOUNTS {
            let name = BenchmarkId::new(contestant.to_string(), mounts);
            let server = servers.at(mounts, View::V2)?;
            bench(&mut criterion, "mounts", name, (server, plain, first));
        }
        let server = servers.at(fewest, View::V2)?;
        let name = BenchmarkId::from_parameter(contestant);
        bench(&mut criterion, "spaced", name, (server, Block { pause: PAUSE, ..plain }, first));
        let processors = std::thread::available_parallelism()?.get();
        for workers in [1, processors, 4 * processors] {
            let name = BenchmarkId::new(contestant.to_string(), workers);
            let block = Block { workers, ..plain };
            bench(&mut criterion, "throughput", name, (server, block, elapsed));
        }
    }
    criterion.final_summary();
    Ok(())
}

/// Computes the time of all starts of a block.
type Time = fn(&Measured) -> Duration;

fn bench(
    criterion: &mut Criterion,
    group: &str,
    name: BenchmarkId,
    (server, block, time): (&mut Server, Block, Time),
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let answer = server.run(Block { count, ..block });
            let answer = answer.unwrap_or_else(|error| panic!("{error}"));
            let measured = answer.unwrap_or_else(|reason| panic!("{}: {reason}", block.contestant));
            // All workers do the same number, which may add up to more than requested.
            let done = u32::try_from(measured.first.len().max(1)).unwrap_or(u32::MAX);
            time(&measured) * u32::try_from(count).unwrap_or(u32::MAX) / done
        });
    });
    group.finish();
}

/// Returns the time to the first instruction.
fn first(measured: &Measured) -> Duration {
    Duration::from_nanos(measured.first.iter().sum())
}

/// Returns the time until the last container was removed.
fn elapsed(measured: &Measured) -> Duration {
    Duration::from_nanos(measured.elapsed)
}
