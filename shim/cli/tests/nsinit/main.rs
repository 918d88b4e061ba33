//! The command line `nsinit`, as a person and a script use it: as root, and as an ordinary user.
//!
//! Needs root, to become the ordinary user, and busybox and setsid(1). Where something is missing
//! a test is ignored and says why; with `PIDONE_REQUIRE_ALL=1` it fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
#[path = "../../../tests/call/mod.rs"]
mod call;
mod cases;
mod faults;
#[path = "../../../tests/need/mod.rs"]
mod need;
mod signals;
mod sources;
mod terminal;
mod verbs;

use std::process::ExitCode;

use bench::{Bench, Need, Who};
use libtest_mimic::{Arguments, Completion, Trial};

/// A test: what it needs besides a binary, and what it does.
struct Case {
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Bench),
}

/// Shorthand for the tables of cases.
const fn case(name: &'static str, needs: &'static [Need], run: fn(&Bench)) -> Case {
    Case { name, needs, run }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tables = [cases::CASES, faults::CASES, signals::CASES, sources::CASES, terminal::CASES];
    let mut trials = Vec::new();
    for case in tables.into_iter().flatten() {
        for who in [Who::Root, Who::Ordinary] {
            trials.push(trial(case, who));
        }
    }
    trials.extend(cases::ORDINARY.iter().map(|case| trial(case, Who::Ordinary)));
    trials.extend(verbs::CASES.iter().map(|case| trial(case, Who::Root)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    bench::remove_binary();
    conclusion.exit_code()
}

fn trial(case: &'static Case, who: Who) -> Trial {
    let name = format!("{}_as_{}", case.name, who.name());
    Trial::ignorable_test(name.clone(), move || {
        let needs = case.needs.iter().chain(who.needs());
        if let Some(missing) = needs.filter_map(|need| need.missing()).next() {
            return need::lacking(&name, &missing);
        }
        let bench = Bench::new(case.name, who);
        (case.run)(&bench);
        bench.check_nothing_is_left();
        Ok(Completion::Completed)
    })
}
