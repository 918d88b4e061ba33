//! Measures everything that has a target, and writes a page about it.
//!
//! `cargo run --release -p pidone-benches --bin report -- --output DIR` writes `index.html`, which
//! contains everything, `picture.svg`, `start.svg`, and `report.json` with times in nanoseconds. It
//! needs root. The machine should be idle: ratios tolerate some noise, times do not.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it reports its progress")]

mod experiments;
mod markdown;
mod page;
mod picture;
mod strip;
mod target;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser;
use pidone_benches::Result;
use pidone_benches::contestant::Contestant;
use pidone_benches::experiment::{Row, Servers, serve};
use pidone_benches::host::Host;
use pidone_benches::memory::Memory;
use pidone_benches::place::View;
use pidone_benches::profile::Profile;
use pidone_benches::waterfall::Waterfall;
use serde::Serialize;

use experiments::Scale;
use target::{Subject, Target};

/// Measures everything that has a target, and writes a page about it.
#[derive(Debug, Parser)]
struct Options {
    /// The directory for the page; it is created if missing.
    #[arg(long)]
    output: PathBuf,
    /// Run only a few starts, to check that everything works. The figures are meaningless.
    #[arg(long)]
    quick: bool,
    /// Print the tables of the README.
    #[arg(long)]
    markdown: bool,
}

/// All results.
#[derive(Debug, Serialize)]
struct Report {
    host: Host,
    /// Whether this is a quick run, whose figures are meaningless.
    quick: bool,
    targets: Vec<Target>,
    rows: Vec<Row>,
    memory: Vec<Waiting>,
    /// The size of the init's image, in bytes.
    image: usize,
    waterfall: Option<Waterfall>,
    /// Who did not take part in which experiment, and why.
    skipped: Vec<String>,
}

/// The memory of a contestant's waiting container.
#[derive(Debug, Serialize)]
struct Waiting {
    contestant: Contestant,
    view: View,
    memory: Memory,
}

fn main() -> Result<()> {
    if serve()? {
        return Ok(());
    }
    let options = Options::parse();
    build_command_line()?;
    let report = measure(options.quick)?;
    fs::create_dir_all(&options.output)?;
    let write = |name: &str, text: &str| fs::write(options.output.join(name), text);
    write("index.html", &page::page(&report))?;
    write("picture.svg", &picture::picture(&report))?;
    if let Some(waterfall) = &report.waterfall {
        write("start.svg", &waterfall.picture)?;
    }
    write("report.json", &serde_json::to_string_pretty(&report)?)?;
    if options.markdown {
        print!("{}", markdown::table(&report));
    }
    eprintln!("{}", target::text(&report.targets));
    eprintln!("written: {}", options.output.join("index.html").display());
    Ok(())
}

/// Builds the command line with the profile of this program. If this program was not started by
/// cargo, an existing command line is used.
fn build_command_line() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "-p", "pidone-cli", "--bin", "pidone"]);
    command.arg("--manifest-path").arg(manifest).stdout(Stdio::null());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cargo build -p pidone-cli: {status}").into())
    }
}

/// Runs all experiments.
fn measure(quick: bool) -> Result<Report> {
    let host = Host::read()?;
    eprintln!("{host}");
    let scale = if quick { Scale::QUICK } else { Scale::FULL };
    let mut report = Report {
        quick,
        targets: Vec::new(),
        rows: Vec::new(),
        memory: Vec::new(),
        image: pidone::launch::image::EMBEDDED.bytes().len(),
        waterfall: None,
        skipped: Vec::new(),
        host,
    };
    let begin = Instant::now();
    let mut servers = Servers::default();
    let fewest = scale.mounts.iter().copied().min().unwrap_or(0);
    let experiments = experiments::all(&scale, report.host.processors);
    for (number, experiment) in experiments.iter().enumerate() {
        let name = experiments::name(experiment);
        let passed = begin.elapsed().as_secs();
        eprintln!("{passed:>4} s, {} of {}: {name}", number + 1, experiments.len());
        let skipped = &mut report.skipped;
        let rows = experiment.run(&mut servers, scale.block, |contestant, reason| {
            let text = format!("{contestant}, {name}: {reason}");
            eprintln!("        without {text}");
            skipped.push(text);
        })?;
        report.rows.extend(rows);
    }
    eprintln!("{:>4} s, memory and one start's steps", begin.elapsed().as_secs());
    for (contestant, view) in experiments::WAITING {
        match servers.at(fewest, view)?.memory(contestant)? {
            Ok(memory) => report.memory.push(Waiting { contestant, view, memory }),
            Err(reason) => report.skipped.push(format!("{contestant}, memory: {reason}")),
        }
    }
    match servers.at(fewest, View::V2)?.waterfall(scale.starts)? {
        Ok(waterfall) => report.waterfall = Some(waterfall),
        Err(reason) => report.skipped.push(format!("the steps of one start: {reason}")),
    }
    let mut targets = target::all(&report);
    eprintln!("{:>4} s, what is in the way", begin.elapsed().as_secs());
    explain(&mut targets, &mut servers, (scale.starts, &mut report.skipped))?;
    report.targets = targets;
    eprintln!("{:>4} s", begin.elapsed().as_secs());
    Ok(report)
}

/// Adds profiles to the targets that are not met.
fn explain(
    targets: &mut [Target],
    servers: &mut Servers,
    (starts, skipped): (usize, &mut Vec<String>),
) -> Result<()> {
    let mut known: Vec<(Subject, Option<Profile>)> = Vec::new();
    for target in targets.iter_mut().filter(|target| target.figure.is_some() && !target.met) {
        let Some(subject) = target.subject else { continue };
        if let Some((_, profile)) = known.iter().find(|(other, _)| *other == subject) {
            target.profile.clone_from(profile);
            continue;
        }
        let Subject { contestant, verb, view, mounts, base } = subject;
        let mut at = |mounts| servers.at(mounts, view)?.profile(contestant, verb, starts);
        let profile = match (at(mounts)?, base) {
            (Ok(profile), None) => Ok(profile),
            (Ok(profile), Some(base)) => at(base)?.map(|base| profile.over(&base)),
            (Err(reason), _) => Err(reason),
        };
        let profile = profile
            .map_err(|reason| skipped.push(format!("{contestant}, profile of {verb}: {reason}")))
            .ok();
        target.profile.clone_from(&profile);
        known.push((subject, profile));
    }
    Ok(())
}
