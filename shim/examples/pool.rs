//! Starts programs in containers that were prepared in advance: a warm pool.
//!
//! Run it with `cargo run -p pidone --example pool`, as root or as an ordinary user. The pool keeps
//! a few containers ready, each with its namespaces, mounts and cgroup. A start takes one of them,
//! and only has to execute the program. Every container is used once.

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use pidone::pool::{Pool, Sizes};
use pidone::{Config, Factory, Options, Process, Stdio};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let states = tempfile::tempdir()?;
    let factory = Factory::new(states.path(), Options::default())?;
    let mut config = Config::embedded(Path::new("/"))?;
    pidone::fit_caller(&mut config)?;

    // Four containers. When only one is left, the pool makes new ones in the background.
    let pool = Pool::new(&factory, &config, Process::default(), Sizes { size: 4, low: 2 })?;
    pool.wait_until_full(Duration::from_secs(30))?;

    for number in 1..=3 {
        let began = Instant::now();
        let mut lease = pool.start(&program(number))?;
        let took = began.elapsed();
        let mut output = String::new();
        if let Some(mut stdout) = lease.running().stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        let kind = if lease.is_warm() { "warm" } else { "cold" };
        let status = lease.wait()?.status();
        println!("{}: {kind} start, status {status}", output.trim_end());
        println!("    started in {} microseconds", took.as_micros());
        // The lease is dropped here, and the pool removes its container.
    }
    // Ends the containers that were not used, and waits until all are removed.
    drop(pool);
    Ok(())
}

fn program(number: u32) -> Process {
    Process {
        args: vec![
            "sh".into(),
            "-c".into(),
            "echo program $0 as process $$; exit $0".into(),
            number.to_string().into(),
        ],
        env: vec!["PATH=/usr/bin:/bin".into()],
        stdin: Stdio::Null,
        stdout: Stdio::Pipe,
        ..Process::default()
    }
}
