//! The command line `pidone`, as podman, docker, containerd and a person use it.
//!
//! Needs root and busybox.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad;
mod caller;
mod care;
mod exec;
mod fault;
mod hook;
mod identity;
mod large;
mod life;
mod limit;
mod line;
mod man;
mod message;
mod pool;
mod signals;
mod socket;
mod terminal;
mod trace;

use std::process::ExitCode;

use pidone_tests::{Bench, Caller, Need};

type Case = pidone_tests::Case<Bench>;

/// Shorthand for the tables of cases.
const fn case(name: &'static str, needs: &'static [Need], run: fn(&Bench)) -> Case {
    const ROOT: &[Caller] = &[Caller::root(env!("CARGO_BIN_EXE_pidone")).with_bundles()];
    Case::panicking(name, run).needs(needs).ways(ROOT)
}

fn main() -> ExitCode {
    pidone_tests::main(&[
        line::CASES,
        man::CASES,
        life::CASES,
        exec::CASES,
        socket::CASES,
        terminal::CASES,
        signals::CASES,
        care::CASES,
        pool::RUN,
        pool::LIFE,
        pool::PROTOCOL,
        pool::BUNDLES,
        pool::IDLE,
        pool::INIT,
        pool::TERMINAL,
        limit::CASES,
        bad::CASES,
        message::CASES,
        large::CASES,
        fault::CASES,
        hook::CASES,
        identity::CASES,
        caller::CASES,
        trace::CASES,
    ])
}
