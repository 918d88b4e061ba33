//! Control groups on a real kernel. Needs root.
//!
//! The tests of `host` use the hierarchies that the machine has mounted; those of `unified` run in
//! a private mount namespace where cgroup v2 is all there is, and once more in a guest kernel where
//! it has its controllers. Every test makes a cgroup of its own
//! and removes it; nothing else is touched.
//!
//! A test that cannot run here is reported as ignored, with the reason on stderr.
//! `PIDONE_REQUIRE_ALL=1` turns that into a failure.

#[path = "../../../cli/tests/uml/guest.rs"]
mod guest;
mod host;
#[path = "../../../tests/need/mod.rs"]
mod need;
mod resources;
mod sandbox;
mod unified;

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pidone_host::cgroup::{Host, Mode};

/// Names the test that a second instance of this program is to run.
const UNIFIED_TEST: &str = "PIDONE_CGROUP_UNIFIED_TEST";

/// The exit status that says that a test cannot run.
const MISSING: u8 = 77;

/// Why a test did not succeed.
pub(crate) enum Stop {
    /// Something is wrong.
    Failed(String),
    /// The machine lacks something.
    Missing(String),
}

impl From<pidone_config::Error> for Stop {
    fn from(error: pidone_config::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The outcome of a test.
pub(crate) type Outcome = Result<(), Stop>;

/// A test and its name.
pub(crate) type Test = (&'static str, fn() -> Outcome);

/// Every test for cgroup v2 alone.
fn unified_tests() -> impl Iterator<Item = &'static Test> {
    unified::TESTS.iter().chain(resources::UNIFIED_TESTS)
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == "--list-guest") {
        for (name, _) in unified_tests().chain(resources::GUEST_TESTS) {
            let _ = writeln!(std::io::stdout(), "{name}");
        }
        return ExitCode::SUCCESS;
    }
    if let Ok(name) = std::env::var(UNIFIED_TEST) {
        return run_here(&name);
    }
    let mut trials = Vec::new();
    for (name, test) in host::TESTS.iter().chain(resources::HOST_TESTS) {
        let run =
            move || report(name, needs_root().and_then(|()| needs_v1()).and_then(|()| test()));
        trials.push(Trial::ignorable_test(format!("host::{name}"), run));
    }
    for (name, _) in unified_tests() {
        let run = move || report(name, needs_root().and_then(|()| in_unified_view(name)));
        trials.push(Trial::ignorable_test(format!("unified::{name}"), run));
    }
    let run = || report("in_a_guest", in_a_guest());
    trials.push(Trial::ignorable_test("unified::in_a_guest", run));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn needs_root() -> Outcome {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Stop::Missing("needs root".into()))
    }
}

fn needs_v1() -> Outcome {
    match Host::read()?.mode() {
        Mode::V1 | Mode::Hybrid => Ok(()),
        Mode::V2 | Mode::None => Err(Stop::Missing("needs hierarchies of cgroup v1".into())),
    }
}

fn report(name: &str, outcome: Outcome) -> Result<Completion, Failed> {
    match outcome {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Failed(reason)) => Err(reason.into()),
        Err(Stop::Missing(reason)) => need::lacking(name, &reason),
    }
}

/// Runs one test of `unified` in a second instance of this program.
fn in_unified_view(name: &str) -> Outcome {
    let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup || exit 77; \
                  exec \"$0\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .env(UNIFIED_TEST, name)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return Err(Stop::Missing(format!("unshare: {error}"))),
    };
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(MISSING) => Err(Stop::Missing(text)),
        _ => Err(Stop::Failed(text)),
    }
}

/// Runs all tests of `unified`, and those that need controllers, in a guest kernel.
fn in_a_guest() -> Outcome {
    if let Some(missing) = guest::missing() {
        return Err(Stop::Missing(missing));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cgroup/guest.sh");
    guest::check(&script, &std::env::current_exe()?).map_err(Stop::Failed)
}

fn run_here(name: &str) -> ExitCode {
    let mut tests = unified_tests().chain(resources::GUEST_TESTS);
    let Some((_, test)) = tests.find(|(known, _)| *known == name) else {
        eprintln!("no test has the name {name}");
        return ExitCode::FAILURE;
    };
    match test() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Missing(reason)) => {
            eprintln!("{reason}");
            ExitCode::from(MISSING)
        }
        Err(Stop::Failed(reason)) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
