//! Two hundred starts at a time by the systemd cgroup driver, in several rounds.
//!
//! Each asks the manager for a scope over the same bus. None may fail, wait for a time-out, or
//! leave its unit.
//!
//! Not part of a plain `cargo test`: `cargo test --test storm`. Needs what the test program
//! `systemd` needs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::ExitCode;
use std::time::Instant;

use pidone_tests::systemd::{Runtime, Tenant};
use pidone_tests::{Call, Case};

/// The runtime.
const PIDONE: Runtime = Runtime::pidone(env!("CARGO_BIN_EXE_pidone"));

/// By root, and by an ordinary user, whose manager asks the system's to move each process.
const RUNTIMES: &[Runtime] = &[PIDONE, PIDONE.by_person("::pidone::user")];

const CASES: &[Case<Tenant>] =
    &[Case::panicking("starts_at_a_time", starts_at_a_time).ways(RUNTIMES)];

/// How many starts there are at a time. From a hundred on, those of runc wait for each other until
/// they are given up.
const STARTS: usize = 200;

/// How often.
const ROUNDS: usize = 8;

fn main() -> ExitCode {
    pidone_tests::main(&[CASES])
}

fn starts_at_a_time(tenant: &Tenant) {
    // An empty path is one that has the id of the container in it.
    let bundle = tenant.bundle(&tenant.config_of("", &["true"]));
    let program = tenant.runtime().program();
    let name = tenant.name();
    for round in 0..ROUNDS {
        let script = format!(
            "for n in $(seq {STARTS}); do \\
             {program} --root {state} --systemd-cgroup run --bundle {bundle} {name}-{round}-$n \\
             </dev/null >{bundle}/out-$n 2>&1 || echo $n: $(cat {bundle}/out-$n) & done; wait",
            state = tenant.text("state"),
        );
        let start = Instant::now();
        let mut command = tenant.host().command(tenant.user(), &["sh", "-c", &script]);
        let failed = Call::start(&mut command).finish().ok();
        assert_eq!(failed, "", "round {round}");
        eprintln!("{program}: round {round}: {STARTS} starts in {:?}", start.elapsed());
        assert_eq!(tenant.host().units(tenant.user(), name), [] as [&str; 0], "round {round}");
    }
}
