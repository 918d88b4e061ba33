//! The least that a program does to run another one in a container, and to talk with it.
//!
//! Works as root and as an ordinary user: `cargo run --example embed`. The container sees the
//! host's system directories, read-only; `Config::template` is for a root file system of one's own.

#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::io::{Read as _, Write as _};
use std::path::Path;

use pidone::{Config, Container, Exit, Factory, Options, Process, Stdio};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Where the library keeps what other processes need to find the container.
    let states = tempfile::tempdir()?;
    let factory = Factory::new(states.path(), Options::default())?;

    let mut config = Config::embedded(Path::new("/"))?;
    config.hostname = "box".into();
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.name = format!("pidone-embed-{}", std::process::id());
    }
    // Only root can do without a user namespace.
    pidone::fit_caller(&mut config)?;

    let mut container = factory.create("embed", &config)?;
    let talked = talk(&mut container);
    // Whatever came of it. The process may still run if the talk failed.
    container.kill()?;
    container.destroy()?;

    let (said, exit) = talked?;
    print!("{said}");
    println!("it ended with status {}", exit.status());
    Ok(())
}

/// Starts a program, writes to it, and reads what it says.
fn talk(container: &mut Container) -> Result<(String, Exit), Box<dyn std::error::Error>> {
    let script = "read name; echo \"hello $name: process $$ on $(uname -n)\"; exit 3";
    let mut running = container.start(&Process {
        args: ["sh", "-c", script].map(String::from).into(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        stdin: Stdio::Pipe,
        stdout: Stdio::Pipe,
        ..Process::default()
    })?;
    if let Some(mut stdin) = running.stdin.take() {
        stdin.write_all(b"host\n")?;
    }
    let mut said = String::new();
    if let Some(mut stdout) = running.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    Ok((said, running.wait()?))
}
