//! Interleaves the library, the floor and other runtimes in one run, and prints their figures.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measured")]

mod table;

use clap::Parser;
use pidone_benches::Result;
use pidone_benches::contestant::{Contestant, Verb};
use pidone_benches::experiment::{Experiment, Row, Servers, serve};
use pidone_benches::host::Host;
use pidone_benches::place::View;
use pidone_benches::scenario::Scenario;
use serde::Serialize;

/// Compares how long containers take to start.
#[derive(Debug, Parser)]
struct Options {
    /// Starts of each contestant in each experiment.
    #[arg(long, default_value_t = 200)]
    starts: usize,
    /// Starts in a row before it is the next contestant's turn.
    #[arg(long, default_value_t = 10)]
    block: usize,
    /// Numbers of host mounts.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 1000, 5000])]
    mounts: Vec<usize>,
    /// Numbers of workers, beside one; the number of processors and four times as many by default.
    #[arg(long, value_delimiter = ',')]
    workers: Vec<usize>,
    /// The pause before each start of the experiment with pauses, in milliseconds; 0 for none.
    #[arg(long, default_value_t = 50)]
    pause: u64,
    /// What each contestant does.
    #[arg(long, default_value = "run")]
    verb: Verb,
    /// The visible cgroups; `v1` is for runtimes that do not find all controllers in `v2`.
    #[arg(long, default_value = "v2")]
    view: View,
    /// The containers; the first one is started in every situation.
    #[arg(long, value_delimiter = ',', default_values = ["oci-net", "oci", "minimal"])]
    scenario: Vec<Scenario>,
    /// The contestants; the floor always takes part.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contestant>,
    /// Print JSON, with times in nanoseconds.
    #[arg(long)]
    json: bool,
}

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Report {
    host: Host,
    rows: Vec<Row>,
}

fn main() -> Result<()> {
    if serve()? {
        return Ok(());
    }
    let options = Options::parse();
    let mut report = Report { host: Host::read()?, rows: Vec::new() };
    let mut servers = Servers::default();
    for experiment in options.experiments(report.host.processors) {
        eprintln!("{experiment:?}");
        let skipped = |contestant, reason: &str| eprintln!("{contestant} is skipped: {reason}");
        let rows = experiment.run(&mut servers, options.block, skipped)?;
        if !options.json {
            print!("{}", table::table(&report.host, &rows, report.rows.is_empty()));
        }
        report.rows.extend(rows);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

impl Options {
    /// Returns the contestants that take part.
    fn contestants(&self) -> Vec<Contestant> {
        let wanted = |contestant: &Contestant| {
            *contestant == Contestant::Floor
                || self.only.is_empty()
                || self.only.contains(contestant)
        };
        Contestant::ALL.into_iter().filter(wanted).collect()
    }

    /// Returns the experiments: the first scenario in every situation, the others in the plain one.
    fn experiments(&self, processors: usize) -> Vec<Experiment> {
        let Some((&first, others)) = self.scenario.split_first() else { return Vec::new() };
        let plain = |scenario, mounts: &[usize]| Experiment {
            verb: self.verb,
            scenario,
            view: self.view,
            mounts: mounts.to_vec(),
            workers: 1,
            pause: 0,
            starts: self.starts,
            contestants: self.contestants(),
        };
        let fewest: Vec<usize> = self.mounts.iter().copied().min().into_iter().collect();
        let mut experiments = vec![plain(first, &self.mounts)];
        if self.pause != 0 {
            let starts = self.starts.div_ceil(4);
            experiments.push(Experiment { pause: self.pause, starts, ..plain(first, &fewest) });
        }
        let default = [processors, 4 * processors];
        let workers = if self.workers.is_empty() { &default[..] } else { &self.workers };
        for &workers in workers.iter().filter(|&&workers| workers > 1) {
            experiments.push(Experiment { workers, ..plain(first, &fewest) });
        }
        experiments.extend(others.iter().map(|&scenario| plain(scenario, &fewest)));
        experiments
    }
}
