//! The command line `pidone`, as podman, docker, containerd and a person use it.
//!
//! Needs root and busybox. Where something is missing a test is ignored and says why; with
//! `PIDONE_REQUIRE_ALL=1` it fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad;
mod bench;
#[path = "../../../tests/call/mod.rs"]
mod call;
mod cost;
mod exec;
mod fault;
mod large;
mod life;
mod limit;
mod line;
#[path = "../../../tests/need/mod.rs"]
mod need;
mod pool;
mod socket;
mod sweep;
mod trace;

use std::process::ExitCode;

use bench::{Bench, Need};
use libtest_mimic::{Arguments, Completion, Trial};

/// A test: what it needs besides root and busybox, and what it does.
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
    if let Some(played) = cost::play() {
        return played;
    }
    let arguments = Arguments::from_args();
    let tables = [
        line::CASES,
        life::CASES,
        exec::CASES,
        socket::CASES,
        pool::CASES,
        limit::CASES,
        bad::CASES,
        large::CASES,
        fault::CASES,
        sweep::CASES,
        trace::CASES,
        cost::CASES,
    ];
    let trials = tables.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: &'static Case) -> Trial {
    Trial::ignorable_test(case.name, move || {
        let needs = [Need::Root, Need::Busybox];
        let missing = needs.iter().chain(case.needs).find_map(|need| need.missing());
        if let Some(missing) = missing {
            return need::lacking(case.name, &missing);
        }
        let bench = Bench::new(case.name);
        (case.run)(&bench);
        bench.check_nothing_is_left();
        Ok(Completion::Completed)
    })
}
