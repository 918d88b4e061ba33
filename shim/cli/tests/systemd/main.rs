//! The systemd cgroup driver, on a host with systemd, with the distribution's runtimes as the
//! reference.
//!
//! Every case runs with each runtime, as root or as an ordinary user with a manager of the user.
//! What runc alone defines is not asked of crun.
//!
//! Needs root, busybox, systemd with D-Bus, and the runtimes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod annotation;
mod device;
mod fault;
mod life;
mod limit;
mod path;
mod property;

use std::process::ExitCode;

use pidone_tests::systemd::{Runtime, Tenant};

type Case = pidone_tests::Case<Tenant>;

/// This runtime.
const PIDONE: Runtime = Runtime::pidone(env!("CARGO_BIN_EXE_pidone"));

/// This runtime by root and by an ordinary user: what the others do not do.
const OWN: &[Runtime] = &[PIDONE, PIDONE.by_person("::pidone::user")];

/// runc, and what takes its place: by root.
const RUNC: &[Runtime] = &[PIDONE, Runtime::RUNC];

/// The same by an ordinary user.
const RUNC_PERSON: &[Runtime] = &[OWN[1], Runtime::RUNC.by_person("::runc::user")];

/// All runtimes: by root.
const ROOT: &[Runtime] = &[RUNC[0], RUNC[1], Runtime::CRUN];

/// All runtimes: by an ordinary user.
const PERSON: &[Runtime] =
    &[RUNC_PERSON[0], RUNC_PERSON[1], Runtime::CRUN.by_person("::crun::user")];

/// All runtimes: by root and by an ordinary user.
const ALL: &[Runtime] = &[ROOT[0], ROOT[1], ROOT[2], PERSON[0], PERSON[1], PERSON[2]];

/// Shorthand for the tables of cases.
const fn case(name: &'static str, ways: &'static [Runtime], run: fn(&Tenant)) -> Case {
    Case::panicking(name, run).ways(ways)
}

fn main() -> ExitCode {
    pidone_tests::main(&[
        path::CASES,
        property::CASES,
        annotation::CASES,
        limit::CASES,
        device::CASES,
        life::CASES,
        fault::CASES,
    ])
}
