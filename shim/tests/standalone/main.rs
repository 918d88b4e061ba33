//! The init as the init of any container: what tini and catatonit do, option by option.
//!
//! Each test runs with the image of the init and, as a control, with the tini and the catatonit of
//! the distribution. Where the image differs on purpose, the test says so for each of them.
//!
//! Needs root, for process namespaces, and python3, unshare(1) and nsenter(1). Where something is
//! missing a test is ignored and says why; with `PIDONE_REQUIRE_ALL=1` it fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the tests of the command lines, which use all of it")]
#[path = "../call/mod.rs"]
mod call;
mod cost;
mod lines;
#[path = "../need/mod.rs"]
mod need;
mod orphans;
mod signals;
mod subject;
mod terminal;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};
use subject::Subject;

/// A test, and who it is run with.
struct Case {
    name: &'static str,
    subjects: &'static [Subject],
    run: fn(Subject),
}

const ALL: &[Subject] = &[Subject::Image, Subject::Tini, Subject::Catatonit];

/// For what catatonit has no option.
const TINI: &[Subject] = &[Subject::Image, Subject::Tini];

/// For what tini has no option.
const CATATONIT: &[Subject] = &[Subject::Image, Subject::Catatonit];

const fn case(name: &'static str, subjects: &'static [Subject], run: fn(Subject)) -> Case {
    Case { name, subjects, run }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tables = [cost::CASES, lines::CASES, orphans::CASES, signals::CASES, terminal::CASES];
    let mut trials = Vec::new();
    for case in tables.into_iter().flatten() {
        trials.extend(case.subjects.iter().map(|&subject| trial(case, subject)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: &'static Case, subject: Subject) -> Trial {
    let name = format!("{}::{}", case.name, subject.name());
    Trial::ignorable_test(name.clone(), move || {
        if let Some(missing) = subject.missing() {
            return need::lacking(&name, &missing);
        }
        (case.run)(subject);
        Ok(Completion::Completed)
    })
}
