//! Starts a further process in a running container.
//!
//! Run it with `cargo run -p pidone --example further`, as root or as an ordinary user. The first
//! process writes a file and waits; the further process joins its namespaces and reads the file.

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use pidone::{Config, Container, Factory, Options, Process, Stdio};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let states = tempfile::tempdir()?;
    let factory = Factory::new(states.path(), Options::default())?;
    let mut config = Config::embedded(Path::new("/"))?;
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.name = format!("pidone-further-{}", std::process::id());
    }
    pidone::fit_caller(&mut config)?;

    let mut container = factory.create("further", &config)?;
    let result = run_both(&mut container);
    // Remove the container in any case: the first process may still run.
    container.kill()?;
    container.destroy()?;
    result
}

fn run_both(container: &mut Container) -> Result<()> {
    let script = "echo 42 > /tmp/answer; echo ready; read end; exit 1";
    let mut first = container.start(&shell(script))?;
    // Keeps standard input of the first process open.
    let stdin = first.stdin.take();
    let mut line = String::new();
    if let Some(stdout) = first.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    println!("the first process is {}", line.trim_end());

    let script = "echo $(cat /tmp/answer) next to $(cat /proc/1/comm); exit 2";
    let mut further = container.exec(&shell(script))?;
    let mut output = String::new();
    if let Some(mut stdout) = further.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    println!("the further process prints {}", output.trim_end());
    println!("the further process ended with status {}", further.wait()?.status());

    // At the end of its input the first process ends.
    drop(stdin);
    println!("the first process ended with status {}", first.wait()?.status());
    Ok(())
}

/// Returns a shell that runs a script, with pipes as standard input and output.
fn shell(script: &str) -> Process {
    Process {
        args: ["sh", "-c", script].map(Into::into).into(),
        env: vec!["PATH=/usr/bin:/bin".into()],
        stdin: Stdio::Pipe,
        stdout: Stdio::Pipe,
        ..Process::default()
    }
}
