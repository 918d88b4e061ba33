//! Runs an OCI bundle: a directory with a `config.json` and a root file system.
//!
//! Run it with `cargo run -p pidone --example bundle -- DIR`, as root or as an ordinary user.
//! `pidone spec` writes a `config.json` to start from, which expects the root file system in
//! `DIR/rootfs`. The program of the bundle uses the standard input, output and error of this one.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints what it does")]

use std::process::ExitCode;

use pidone::oci::Bundle;
use pidone::{Factory, Options};

fn main() -> ExitCode {
    match run_bundle() {
        Ok(()) => ExitCode::SUCCESS,
        // An error of the library is one line: the step, the object and the cause.
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_bundle() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: bundle DIR")?;
    let bundle = Bundle::open(directory)?;
    for warning in bundle.warnings() {
        eprintln!("{warning}");
    }

    let id = format!("pidone-bundle-{}", std::process::id());
    let mut config = bundle.config()?;
    // If `config.json` has no `cgroupsPath`, the cgroup is named after the container.
    if let Some(cgroup) = &mut config.cgroups
        && cgroup.name.is_empty()
    {
        cgroup.name.clone_from(&id);
    }
    // An ordinary user gets a user namespace, and no cgroup.
    pidone::fit_caller(&mut config)?;

    let mut process = bundle.process()?;
    // With a terminal, this program would have to copy between it and its own.
    process.terminal = None;

    let states = tempfile::tempdir()?;
    let factory = Factory::new(states.path(), Options::default())?;
    let mut container = factory.create(&id, &config)?;
    let exit = container.start(&process).and_then(|mut running| running.wait());
    // Remove the container in any case, and report the first error.
    container.kill()?;
    container.destroy()?;
    println!("it ended with status {}", exit?.status());
    Ok(())
}
