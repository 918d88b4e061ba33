//! A sandbox service: runs many programs at a time, each in its own container with limits.
//!
//! Run it with `cargo run -p pidone --example sandbox -- 50`, as root or as an ordinary user. Every
//! program has a limit of time, memory, processes and CPU. Its output is captured up to a limit, it
//! is killed on time-out, and its usage is reported. An ordinary user who can make no cgroup has
//! only the limits of time and output.

#![allow(clippy::print_stdout, reason = "an example prints what it does")]

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use pidone::config::{Mount, NamespaceChoice, NamespaceType};
use pidone::{Config, Container, Exit, Factory, Options, Process, Stdio};

/// The most bytes that are kept of each output.
const OUTPUT: u64 = 64 * 1024;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a client asks for.
struct Job {
    script: String,
    time: Duration,
}

/// What the client gets.
struct Answer {
    exit: Exit,
    timed_out: bool,
    stdout: String,
    stderr: String,
    /// Processes that were killed for lack of memory, and the peak of memory in bytes; `None`
    /// without a cgroup.
    memory: Option<(u64, u64)>,
}

fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).map_or(Ok(50), |count| count.parse())?;
    let states = tempfile::tempdir()?;
    let factory = Factory::new(states.path(), Options::default())?;
    let config = config()?;
    // All at a time. A service would take them from a socket.
    let answers: Vec<Result<Answer, Error>> = thread::scope(|scope| {
        let serve = |number| {
            let (factory, config) = (&factory, &config);
            scope.spawn(move || run(factory, config, number, &job(number)))
        };
        let threads: Vec<_> = (0..count).map(serve).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
        };
        threads.into_iter().map(join).collect()
    });
    let (mut timed_out, mut completed) = (0, 0);
    for (number, answer) in answers.into_iter().enumerate() {
        let Answer { exit, timed_out: late, stdout, stderr, memory } = answer?;
        let cpu = exit.usage.user + exit.usage.system;
        let peak = memory.map_or("unknown".to_owned(), |(_, peak)| format!("{} KiB", peak / 1024));
        let oom = memory.is_some_and(|(kills, _)| kills > 0);
        println!(
            "job {number}: status {}{}{}, {} and {} bytes of output, {cpu:?} of CPU, {peak} of memory",
            exit.status(),
            if late { ", timed out" } else { "" },
            if oom { ", out of memory" } else { "" },
            stdout.len(),
            stderr.len(),
        );
        timed_out += usize::from(late);
        completed += usize::from(stdout.starts_with(&format!("job {number} on sandbox")));
    }
    println!("{completed} jobs completed, {timed_out} timed out");
    Ok(())
}

/// Every tenth job does not end by itself, and every tenth plus one writes without end.
fn job(number: usize) -> Job {
    let script = match number % 10 {
        8 => "while :; do sleep 10; done".to_owned(),
        9 => format!("echo job {number} on $(uname -n); yes flood"),
        _ => format!("echo job {number} on $(uname -n); echo bad >&2; exit {}", number % 3),
    };
    // Those that end get the time that a busy machine needs.
    let time = if number % 10 == 8 { Duration::from_secs(1) } else { Duration::from_secs(60) };
    Job { script, time }
}

fn config() -> Result<Config, Error> {
    let mut plain = Config::embedded(Path::new("/"))?
        .with_mount(Mount::tmpfs("/work", "size=16m,mode=1777"))
        .with_namespace(NamespaceType::Network, &NamespaceChoice::Private);
    plain.hostname = "sandbox".into();
    let mut limited =
        plain.clone().with_limits(|all| all.max_memory(64 << 20).max_pids(32).max_cpus(0.5));
    if pidone::fit_caller(&mut limited).is_ok() {
        return Ok(limited);
    }
    plain.cgroups = None;
    pidone::fit_caller(&mut plain)?;
    Ok(plain)
}

/// Runs a job in its own container, which is removed in any case.
fn run(factory: &Factory, config: &Config, number: usize, job: &Job) -> Result<Answer, Error> {
    let id = format!("pidone-sandbox-{}-{number}", std::process::id());
    let mut container = factory.create(&id, config)?;
    let answer = run_in(&container, job);
    container.kill()?;
    container.destroy()?;
    answer
}

fn run_in(container: &Container, job: &Job) -> Result<Answer, Error> {
    let mut running = container.start(&Process {
        args: vec!["sh".into(), "-c".into(), job.script.as_str().into()],
        env: vec!["PATH=/usr/bin:/bin".into()],
        cwd: "/work".into(),
        stdin: Stdio::Null,
        stdout: Stdio::Pipe,
        stderr: Stdio::Pipe,
        ..Process::default()
    })?;
    running.kill_on_drop(true);
    // Beyond the limit the pipe is closed, and the program gets SIGPIPE.
    let read = |pipe: Option<File>| {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(OUTPUT).read_to_end(&mut bytes));
        read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    thread::scope(|scope| {
        let outputs = [scope.spawn(|| read(stdout)), scope.spawn(|| read(stderr))];
        let in_time = running.wait_timeout(job.time)?;
        let timed_out = in_time.is_none();
        let exit = in_time.map_or_else(|| running.kill().and_then(|()| running.wait()), Ok)?;
        let [stdout, stderr] = outputs.map(|output| output.join().unwrap_or(Ok(String::new())));
        // The counters of the cgroup remain until the container is destroyed.
        let memory = match container.stats() {
            Ok(stats) => Some(container.oom_kills()?)
                .zip(stats.cgroup.map(|cgroup| cgroup.memory_stats.max_usage)),
            Err(_) => None,
        };
        Ok(Answer { exit, timed_out, stdout: stdout?, stderr: stderr?, memory })
    })
}
