//! The systemd cgroup driver, on a host with systemd, with the distribution's runtimes as the
//! reference.
//!
//! Every case runs with each runtime, as root or as an ordinary user with a manager of the user.
//! What a runtime does differently on purpose is in the case.
//!
//! Needs root, busybox, systemd with D-Bus, and the runtimes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod life;

use std::process::ExitCode;

use pidone_tests::systemd::{Runtime, Tenant};

type Case = pidone_tests::Case<Tenant>;

/// By root.
const ROOT: &[Runtime] = &[Runtime::RUNC, Runtime::CRUN];

/// By an ordinary user.
const PERSON: &[Runtime] =
    &[Runtime::RUNC.by_person("::runc::user"), Runtime::CRUN.by_person("::crun::user")];

/// By both.
const BOTH: &[Runtime] = &[ROOT[0], ROOT[1], PERSON[0], PERSON[1]];

/// Shorthand for the tables of cases.
const fn case(name: &'static str, ways: &'static [Runtime], run: fn(&Tenant)) -> Case {
    Case::panicking(name, run).ways(ways)
}

fn main() -> ExitCode {
    pidone_tests::main(&[life::CASES])
}
