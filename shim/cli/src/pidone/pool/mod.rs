//! `pidone pool`: keeps containers ready, as a service, and the clients of that service.
//!
//! The service listens on a Unix socket. A connection runs one program in one container; the
//! container ends with the connection. Messages are lines of JSON, whose types are in `message.rs`.
//! The protocol is documented for other programs in `manual/pool.roff`, the manual page.
//!
//! [`pidone::Pool`] has the containers. This module only serves it.

mod bundles;
mod client;
mod directory;
mod lines;
mod load;
mod message;
mod metrics;
mod program;
mod serve;
mod tally;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use pidone_config::config::size;

use super::begin;
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;
use bundles::Named;

/// The text below the options in the help of `pidone pool`.
pub(super) const NOTES: &str = "\
`pidone pool serve` keeps containers of bundles ready and listens on a socket in DIR. Clients run \
a program in one of them: `pidone pool run`, or any program that speaks the protocol of JSON lines \
in pidone-pool(1). A container ends when its client disconnects, and when the service ends. \
`pidone pool exec` runs further programs in a container while it is in use. See `pidone man \
pool`.";

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
    /// Run a program in a ready container
    Run(Run),
    /// Run a further program in the container of a program that runs
    Exec(Exec),
    /// Print the status of the pool as JSON
    Status(Client),
    /// Print the counters of the pool in Prometheus' text format
    Metrics(Client),
    /// Remove the ready containers, and end the service when all programs have exited
    Drain(Client),
    /// Run a program many times, and print how long its starts took
    Load(Load),
}

/// `pidone pool serve`.
#[derive(Debug, Args)]
struct Serve {
    /// Number of containers that are ready after a refill, of one bundle or of each [default: 8]
    #[arg(short, long, value_name = "[NAME=]NUMBER")]
    size: Vec<Named<usize>>,

    /// Begin a refill when fewer containers are ready [default: half of the size]
    #[arg(long, value_name = "[NAME=]NUMBER")]
    low: Vec<Named<usize>>,

    /// Seconds that running programs have to exit after SIGTERM; a second signal ends them at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    grace: u32,

    /// Run an init as process 1 of each container, as `pidone run --init`
    #[arg(long)]
    init: bool,

    /// Directory of a bundle, with a name by which runs choose it; may be repeated
    #[arg(short, long, value_name = "[NAME=]BUNDLE", default_value = ".",
        value_parser = OsStringValueParser::new().try_map(Named::path))]
    bundle: Vec<Named<PathBuf>>,

    #[command(flatten)]
    directory: Client,
}

/// The service that a command is for.
#[derive(Debug, Args)]
struct Client {
    /// Directory of the socket, private to its owner; `serve` creates it if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// `pidone pool run`.
#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    client: Client,

    /// Allocate a terminal for the program
    #[arg(short, long)]
    tty: bool,

    #[command(flatten)]
    program: Program,
}

/// `pidone pool exec`.
#[derive(Debug, Args)]
struct Exec {
    #[command(flatten)]
    client: Client,

    /// ID of the container, as `pidone pool status` lists it
    #[arg(value_name = "ID")]
    id: String,

    /// Allocate a terminal for the program
    #[arg(short, long)]
    tty: bool,

    #[command(flatten)]
    settings: Settings,

    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    args: Vec<String>,
}

/// The program to run in a new container, as far as it differs from that of the bundle.
#[derive(Debug, Args)]
struct Program {
    /// Name of the bundle, if the service has several
    #[arg(short, long, value_name = "NAME")]
    bundle: Option<String>,

    #[command(flatten)]
    settings: Settings,

    #[command(flatten)]
    limits: Limits,

    /// Program and its arguments [default: those of the bundle]
    #[arg(trailing_var_arg = true, value_name = "PROGRAM")]
    args: Vec<String>,
}

/// The settings of a program, as far as they differ from those of the bundle.
#[derive(Debug, Args)]
struct Settings {
    /// Set an environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// User, and group, by name or ID: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,

    /// Kill the program after this time
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
}

/// The limits of a container, as far as they differ from those of the bundle.
#[derive(Debug, Args)]
struct Limits {
    /// Limit the memory of the container, such as 64m
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<i64>,

    /// Limit the number of processes and threads
    #[arg(long, value_name = "NUMBER")]
    pids: Option<u64>,

    /// Limit the CPU time, in processors, such as 0.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
}

/// `pidone pool load`.
#[derive(Debug, Args)]
struct Load {
    /// Number of containers to start
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,

    /// Number of containers at a time
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

fn size(text: &str) -> Result<i64, &'static str> {
    size::parse(text).ok_or("must be a number of bytes, or one with k, m, g or t as in 64m")
}

/// Serves a pool, or sends a request to one.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if an option is wrong, and
/// [`pidone_config::Code::SystemError`] if the service cannot be reached or refuses the request.
pub(super) fn pool(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (Pool { action }, global) = begin(invocation, report)?;
    match action {
        Action::Serve(serve) => serve::serve(&serve, &global, report),
        Action::Run(run) => client::run(run, report),
        Action::Exec(exec) => client::exec(exec, report),
        Action::Status(client) => client::status(&client),
        Action::Metrics(client) => client::metrics(&client),
        Action::Drain(client) => client::drain(&client),
        Action::Load(load) => load::load(load),
    }
}
