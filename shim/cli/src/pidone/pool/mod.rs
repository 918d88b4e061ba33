//! `pidone pool`: a warm pool as a service, and its clients.

mod attend;
mod client;
mod directory;
mod lines;
mod load;
mod message;
mod serve;
mod tally;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::begin;
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;

/// What `pidone pool --help` says below the options.
pub(super) const NOTES: &str = "\
`pidone pool serve` keeps containers of a bundle ready, and lends them to who asks at the socket in \
DIR: `pidone pool run`, or any program that writes a line of JSON there. Containers end with the \
client that asked for them, and with the service.";

/// `pidone pool`.
#[derive(Debug, Args)]
pub(super) struct Pool {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Keep containers ready, until SIGTERM or `pidone pool drain`
    Serve(Serve),
    /// Run a program in a container that is ready
    Run(Run),
    /// Print what the pool has, as JSON
    Status(Client),
    /// End what waits, and the service when all that runs has ended
    Drain(Client),
    /// Run a program again and again, and print how long it took to start
    Load(Load),
}

/// `pidone pool serve`.
#[derive(Debug, Args)]
struct Serve {
    /// How many containers are ready after a refill
    #[arg(short, long, value_name = "NUMBER", default_value_t = 8)]
    size: usize,

    /// A refill begins when fewer are ready [default: half of the size]
    #[arg(long, value_name = "NUMBER")]
    low: Option<usize>,

    /// Directory of the bundle
    #[arg(short, long, value_name = "BUNDLE", default_value = ".")]
    bundle: PathBuf,

    #[command(flatten)]
    directory: Client,
}

/// Where the service is.
#[derive(Debug, Args)]
struct Client {
    /// Directory of the socket, its owner's alone; made if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// `pidone pool run`.
#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    client: Client,

    #[command(flatten)]
    program: Program,
}

/// A program, as far as it is another than the bundle's.
#[derive(Debug, Args)]
struct Program {
    /// Variable of the environment; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// User, as in `user`, `uid`, `user:group` or `uid:gid`
    #[arg(short, long)]
    user: Option<String>,

    /// The program and its arguments, in place of the bundle's
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    args: Vec<String>,
}

/// `pidone pool load`.
#[derive(Debug, Args)]
struct Load {
    /// How many containers are started
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,

    /// How many at a time
    #[arg(short, long, value_name = "NUMBER", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    client: Client,

    #[command(flatten)]
    program: Program,
}

/// Serves a pool, or asks one for something.
///
/// # Errors
/// What is asked for is wrong, or the service is not there or refuses it.
pub fn pool(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (Pool { action }, global) = begin(invocation, report)?;
    match action {
        Action::Serve(serve) => serve::serve(&serve, &global, report),
        Action::Run(run) => client::run(run, report),
        Action::Status(client) => client::status(&client),
        Action::Drain(client) => client::drain(&client),
        Action::Load(load) => load::load(load),
    }
}
