//! The command line `nsinit`, as a person and a script use it: as root, and as an ordinary user.
//!
//! Needs root, to become the ordinary user; some cases need busybox, python3 or setsid(1).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod faults;
mod signals;
mod sources;
mod terminal;
mod verbs;

use std::process::ExitCode;

use pidone_tests::{Bench, Caller, Need};

type Case = pidone_tests::Case<Bench>;

const NSINIT: &str = env!("CARGO_BIN_EXE_nsinit");
const ROOT: Caller = Caller::root(NSINIT).named("_as_root");
const ORDINARY: Caller = Caller::ordinary(NSINIT).named("_as_ordinary_user");

/// Shorthand for the tables of cases: root and an ordinary user call the program.
const fn case(name: &'static str, needs: &'static [Need], run: fn(&Bench)) -> Case {
    Case::panicking(name, run).needs(needs).ways(&[ROOT, ORDINARY])
}

/// Only root calls the program.
const fn root_case(name: &'static str, needs: &'static [Need], run: fn(&Bench)) -> Case {
    case(name, needs, run).ways(&[ROOT])
}

/// Only an ordinary user calls the program.
const fn ordinary_case(name: &'static str, needs: &'static [Need], run: fn(&Bench)) -> Case {
    case(name, needs, run).ways(&[ORDINARY])
}

fn main() -> ExitCode {
    pidone_tests::main(&[
        cases::CASES,
        cases::ORDINARY,
        faults::CASES,
        signals::CASES,
        sources::CASES,
        terminal::CASES,
        verbs::CASES,
    ])
}
