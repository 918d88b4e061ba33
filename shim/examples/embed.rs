//! Runs a program in a container and talks to it through pipes: the shortest use of the library.
//!
//! Run it with `cargo run -p pidone --example embed`, as root or as an ordinary user. The container
//! has the host's system directories, read-only. For another root file system, start from
//! `Config::template`.

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::io::{Read as _, Write as _};
use std::path::Path;

use pidone::{Config, Container, Exit, Factory, Options, Process, Stdio};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The directory for the state of containers, in which other processes find them.
    let states = tempfile::tempdir()?;
    let factory = Factory::new(states.path(), Options::default())?;

    let mut config = Config::embedded(Path::new("/"))?;
    config.hostname = "box".into();
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.name = format!("pidone-embed-{}", std::process::id());
    }
    // An ordinary user needs a user namespace; for root this changes nothing.
    pidone::fit_caller(&mut config)?;

    let mut container = factory.create("embed", &config)?;
    let result = talk(&mut container);
    // Remove the container in any case. The process may still run if `talk` failed.
    container.kill()?;
    container.destroy()?;

    let (output, exit) = result?;
    print!("{output}");
    println!("it ended with status {}", exit.status());
    Ok(())
}

/// Starts a program, writes to its standard input, and returns its output.
fn talk(container: &mut Container) -> Result<(String, Exit), Box<dyn std::error::Error>> {
    let script = "read name; echo \"hello $name: process $$ on $(uname -n)\"; exit 3";
    let mut running = container.start(&Process {
        args: ["sh", "-c", script].map(Into::into).into(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        stdin: Stdio::Pipe,
        stdout: Stdio::Pipe,
        ..Process::default()
    })?;
    if let Some(mut stdin) = running.stdin.take() {
        stdin.write_all(b"host\n")?;
    }
    let mut output = String::new();
    if let Some(mut stdout) = running.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    Ok((output, running.wait()?))
}
