//! Runs many containers at a time from an async program, without blocking its event loop.
//!
//! Run it with `cargo run -p pidone --features tokio --example many -- 20`, as root or as an
//! ordinary user. Starting a container blocks for about a millisecond, so it is done on a thread
//! for blocking calls. The exit of a process makes a descriptor readable, which any event loop can
//! wait for; with the feature `tokio` the library does.

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::path::Path;
use std::sync::Arc;

use pidone::{AsyncRunning, Config, Container, Factory, Options, Process, Running, Stdio};
use tokio::task::{JoinHandle, spawn_blocking};

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).map_or(Ok(8), |count| count.parse())?;
    let states = tempfile::tempdir()?;
    let factory = Arc::new(Factory::new(states.path(), Options::default())?);
    let mut config = Config::embedded(Path::new("/"))?;
    pidone::fit_caller(&mut config)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let sum = runtime.block_on(async {
        let tasks: Vec<JoinHandle<Result<i32, Error>>> = (0..count)
            .map(|number: usize| {
                tokio::spawn(run_container(Arc::clone(&factory), config.clone(), number))
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await??;
        }
        Ok::<_, Error>(sum)
    })?;
    println!("{count} containers ended, with statuses that add up to {sum}");
    Ok(())
}

/// Creates a container, runs a program in it and removes it. Returns the program's exit status.
async fn run_container(
    factory: Arc<Factory>,
    mut config: Config,
    number: usize,
) -> Result<i32, Error> {
    if let Some(cgroup) = &mut config.cgroups {
        cgroup.name = format!("pidone-many-{}-{number}", std::process::id());
    }
    let start = move || -> Result<(Container, pidone::Result<Running>), Error> {
        let container = factory.create(&format!("many-{number}"), &config)?;
        let running = container.start(&Process {
            args: vec![
                "sh".into(),
                "-c".into(),
                format!("sleep 0.1; echo $0; exit {}", number % 100).into(),
            ],
            env: vec!["PATH=/usr/bin:/bin".into()],
            stdin: Stdio::Null,
            stdout: Stdio::Pipe,
            ..Process::default()
        });
        Ok((container, running))
    };
    let (mut container, running) = spawn_blocking(start).await??;
    let status = match running {
        Ok(running) => wait(AsyncRunning::new(running), number).await,
        Err(error) => Err(error.into()),
    };
    spawn_blocking(move || container.kill().and_then(|()| container.destroy())).await??;
    status
}

/// Waits until a process has exited, and returns its exit status. Every other one is waited for
/// with its output.
async fn wait(mut running: AsyncRunning, number: usize) -> Result<i32, Error> {
    if number.is_multiple_of(2) {
        return Ok(running.wait().await?.status());
    }
    let output = running.wait_with_output().await?;
    match output.stdout.as_slice() {
        b"sh\n" => Ok(output.exit.status()),
        other => Err(format!("unexpected output {other:?}").into()),
    }
}
