//! Control groups on a real kernel. Needs root.
//!
//! The cases of `v1!` use the hierarchies that the machine has mounted; those of `v2!` run in a
//! private mount namespace where cgroup v2 is all there is, and once more in a guest kernel where
//! it has its controllers. Every test makes its own cgroup and removes it; nothing else is touched.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use pidone_tests::{Outcome, SELECTED, names, plain_case, uml};

/// Cases that need hierarchies of cgroup v1.
macro_rules! v1 {
    ($($test:ident),+ $(,)?) => {
        &[$(pidone_tests::plain_case!($test)
            .needs(&[pidone_tests::Need::Root, pidone_tests::Need::V1])),+]
    };
}

/// Cases for cgroup v2 alone.
macro_rules! v2 {
    ($($test:ident),+ $(,)?) => {
        &[$(pidone_tests::plain_case!($test).needs(&[pidone_tests::Need::Root]).unified()),+]
    };
}

mod ground;
mod host;
mod resources;
mod unified;

fn main() -> ExitCode {
    let guest = [unified::TESTS, resources::UNIFIED_TESTS, resources::GUEST_TESTS];
    if std::env::args().nth(1).is_some_and(|argument| argument == "--list-guest") {
        for name in names(&guest) {
            let _ = writeln!(std::io::stdout(), "{name}");
        }
        return ExitCode::SUCCESS;
    }
    // Those that need controllers can be selected, and run in the guest only.
    if std::env::var_os(SELECTED).is_some() {
        return pidone_tests::main(&guest);
    }
    pidone_tests::main(&[
        host::TESTS,
        resources::HOST_TESTS,
        unified::TESTS,
        resources::UNIFIED_TESTS,
        &[plain_case!(in_a_guest)],
    ])
}

/// Runs all cases of cgroup v2, and those that need controllers, in a guest kernel.
fn in_a_guest() -> Outcome {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cgroup/guest.sh");
    uml::run(&script, &std::env::current_exe()?)
}
