//! Situations of ordinary containers, with the distribution's runc beside `pidone`.
//!
//! Each situation runs once with either runtime in the same bundle, in its own mount namespace with
//! its own `/dev`. What the container and the host saw, and every exit status, stands in a column;
//! both columns are printed in the end. They must be equal, but for the differences that
//! [`deliberate`] lists with their reasons; a listed difference that is gone fails as well.
//!
//! Not part of a plain `cargo test`: `cargo test --test beside`. Needs root, busybox, runc and
//! unshare(1).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod deliberate;
mod files;
mod process;
mod run;
mod situation;
mod verbs;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Trial};
use pidone_tests::{Need, Outcome, Stop, completion, need};

use run::Runtime;
use situation::Situation;

/// The distribution's runtime.
const RUNC: &str = "/usr/sbin/runc";

const TABLES: [&[Situation]; 3] = [process::SITUATIONS, files::SITUATIONS, verbs::SITUATIONS];

/// A line of the table: the situation, and what was seen with runc and with `pidone`.
type Row = (&'static str, String, String);

fn main() -> ExitCode {
    let rows = Arc::new(Mutex::new(Vec::new()));
    let situations = TABLES.into_iter().flatten();
    let trials = situations.map(|situation| {
        let rows = Arc::clone(&rows);
        Trial::ignorable_test(situation.name, move || {
            completion(situation.name, compare(situation, &rows))
        })
    });
    let mut trials: Vec<Trial> = trials.collect();
    trials.push(Trial::test("every_listed_difference_has_a_situation", || {
        for (name, _) in deliberate::DIFFERENCES {
            let mut all = TABLES.into_iter().flatten();
            assert!(all.any(|situation| situation.name == *name), "no situation {name}");
        }
        Ok(())
    }));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    let mut rows = rows.lock().unwrap();
    rows.sort();
    let mut output = io::stdout().lock();
    for (name, runc, own) in &*rows {
        let equal = if runc == own { "=" } else { "#" };
        writeln!(output, "{equal} {name}\n    runc   {runc}\n    pidone {own}").unwrap();
    }
    conclusion.exit_code()
}

/// Runs a situation with both runtimes, and requires that they agree or differ as listed.
fn compare(situation: &'static Situation, rows: &Mutex<Vec<Row>>) -> Outcome {
    [Need::Root, Need::Busybox, Need::File(RUNC, "runc")].into_iter().try_for_each(Need::check)?;
    need::program("unshare")?;
    let run = |runtime| run::run(situation, runtime);
    let runc = run(Runtime { name: "runc", program: RUNC })?;
    let own = run(Runtime { name: "pidone", program: env!("CARGO_BIN_EXE_pidone") })?;
    rows.lock().unwrap().push((situation.name, runc.seen.clone(), own.seen.clone()));
    let reason = deliberate::DIFFERENCES.iter().find(|(name, _)| *name == situation.name);
    let columns = || {
        let column = |run: &run::Seen| format!("{}\n    {}", run.seen, run.errors);
        format!("\n  runc   {}\n  pidone {}", column(&runc), column(&own))
    };
    match (runc.seen == own.seen, reason) {
        (true, None) | (false, Some(_)) => Ok(()),
        (false, None) => Err(Stop::Failed(format!("differs:{}", columns()))),
        (true, Some(_)) => Err(Stop::Failed(format!("is listed as different:{}", columns()))),
    }
}
