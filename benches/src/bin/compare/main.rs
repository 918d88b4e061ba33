//! Interleaves the library, the floor and other runtimes in one run, and tells what each took.
//!
//! Each number of host mounts has a process of its own, in a mount namespace of its own; the
//! program goes from one to the next and has each start a few containers with each contestant,
//! so that what disturbs the machine disturbs all of them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measured")]

mod block;
mod contestant;
mod report;
mod serve;

use std::time::Duration;

use clap::{Parser, Subcommand};
use pidone_benches::Result;
use pidone_benches::host::Host;
use pidone_benches::scenario::Scenario;

use block::{Block, Measured};
use contestant::Contestant;
use report::{Report, Row};
use serve::Server;

/// Compares how long containers take to start.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Starts of each contestant in each experiment.
    #[arg(long, default_value_t = 200)]
    starts: usize,
    /// Starts in a row before the next contestant's turn.
    #[arg(long, default_value_t = 10)]
    block: usize,
    /// Numbers of host mounts.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 1000, 5000])]
    mounts: Vec<usize>,
    /// Numbers of workers; 1, the number of processors and four times as many by default.
    #[arg(long, value_delimiter = ',')]
    workers: Vec<usize>,
    /// The pause before each start of the experiment with pauses, in milliseconds; 0 for none.
    #[arg(long, default_value_t = 50)]
    pause: u64,
    /// What is started.
    #[arg(long, value_delimiter = ',', default_values = ["oci-net", "oci", "minimal"])]
    scenario: Vec<Scenario>,
    /// Who takes part; the floor always does.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contestant>,
    /// Prints JSON, times in nanoseconds.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Starts what it is told on standard input.
    #[command(hide = true)]
    Serve {
        /// The number of mounts.
        mounts: usize,
    },
}

/// One situation in which all are compared.
#[derive(Debug)]
struct Experiment {
    scenario: Scenario,
    mounts: Vec<usize>,
    workers: usize,
    pause: u64,
    starts: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Role::Serve { mounts }) = options.role {
        return serve::serve(mounts);
    }
    let host = Host::read()?;
    let mut servers: Vec<Server> =
        options.mounts.iter().map(|&mounts| Server::spawn(mounts)).collect::<Result<_>>()?;
    let contestants = options.contestants();
    let mut report = Report { host, rows: Vec::new() };
    for experiment in options.experiments(report.host.processors) {
        eprintln!("{experiment:?}");
        let rows = experiment.run(&mut servers, &contestants, options.block)?;
        if !options.json {
            print!("{}", report::table(&report.host, &rows, report.rows.is_empty()));
        }
        report.rows.extend(rows);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

impl Options {
    fn contestants(&self) -> Vec<Contestant> {
        let wanted = |contestant: &Contestant| {
            *contestant == Contestant::Floor
                || self.only.is_empty()
                || self.only.contains(contestant)
        };
        Contestant::ALL.into_iter().filter(wanted).collect()
    }

    /// The first scenario in every situation, the others in the plain one.
    fn experiments(&self, processors: usize) -> Vec<Experiment> {
        let Some((&first, others)) = self.scenario.split_first() else { return Vec::new() };
        let plain = |scenario, mounts: &[usize]| Experiment {
            scenario,
            mounts: mounts.to_vec(),
            workers: 1,
            pause: 0,
            starts: self.starts,
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

impl Experiment {
    fn run(
        &self,
        servers: &mut [Server],
        contestants: &[Contestant],
        length: usize,
    ) -> Result<Vec<Row>> {
        let mut servers: Vec<_> =
            servers.iter_mut().filter(|server| self.mounts.contains(&server.mounts)).collect();
        let mut turns: Vec<(usize, Contestant, Measured)> = Vec::new();
        for &contestant in contestants {
            for (number, server) in servers.iter_mut().enumerate() {
                // The first start of each is not counted: what is made once is made there.
                let first = self.block(contestant, self.workers);
                match server.ask(&first)? {
                    Ok(_) => turns.push((number, contestant, Measured::default())),
                    Err(reason) => eprintln!("{contestant} is skipped: {reason}"),
                }
            }
        }
        let length = length.max(self.workers);
        for round in 0..self.starts.div_ceil(length) {
            let count = turns.len().max(1);
            for turn in 0..count {
                // Nobody always comes behind the same other one.
                let place = (turn + round) % count;
                let Some((server, contestant, measured)) = turns.get_mut(place) else { continue };
                let block = self.block(*contestant, length);
                let more = servers[*server]
                    .ask(&block)?
                    .map_err(|reason| format!("{contestant}: {reason}"))?;
                measured.add(more);
            }
        }
        let fewest = self.mounts.iter().copied().min().unwrap_or(0);
        let measured = turns
            .into_iter()
            .map(|(server, contestant, measured)| (servers[server].mounts, contestant, measured));
        Ok(report::rows(self, measured.collect(), fewest))
    }

    fn block(&self, contestant: Contestant, count: usize) -> Block {
        let Self { scenario, workers, .. } = *self;
        Block { contestant, scenario, workers, count, pause: Duration::from_millis(self.pause) }
    }
}
