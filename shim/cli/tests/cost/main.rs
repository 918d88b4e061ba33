//! What a start and a waiting init cost, in exact numbers: system calls, page faults, memory.
//!
//! Not part of a plain `cargo test`: `cargo test --test cost`. Needs root, busybox, strace(1), tini
//! and catatonit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod growth;
mod init;
mod start;

use std::process::ExitCode;

use pidone_tests::{Bench, Caller, Case, Need, run_trials, trials};

/// A case that calls `pidone` as root.
const fn bench_case(name: &'static str, needs: &'static [Need], run: fn(&Bench)) -> Case<Bench> {
    const ROOT: &[Caller] = &[Caller::root(env!("CARGO_BIN_EXE_pidone")).with_bundles()];
    Case::panicking(name, run).needs(needs).ways(ROOT)
}

fn main() -> ExitCode {
    if let Some(played) = start::play() {
        return played;
    }
    let mut all = trials(start::CASES);
    all.extend(trials(growth::CASES));
    all.extend(trials(init::CASES));
    run_trials(all)
}
