//! The init as the init of any container: what tini and catatonit do, option by option.
//!
//! Each test runs with the image of the init and, as a control, with the tini and the catatonit of
//! the distribution. Where the image differs on purpose, the test has the value for each of them.
//!
//! Needs root, for process namespaces, and python3, unshare(1) and nsenter(1).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lines;
mod orphans;
mod signals;
mod terminal;
mod waiting;

use std::process::ExitCode;

use pidone_tests::Subject;

type Case = pidone_tests::Case<Subject>;

const ALL: &[Subject] = &[Subject::Image, Subject::Tini, Subject::Catatonit];

/// For what catatonit has no option.
const TINI: &[Subject] = &[Subject::Image, Subject::Tini];

/// For what tini has no option.
const CATATONIT: &[Subject] = &[Subject::Image, Subject::Catatonit];

const fn case(name: &'static str, subjects: &'static [Subject], run: fn(&Subject)) -> Case {
    Case::panicking(name, run).ways(subjects)
}

fn main() -> ExitCode {
    pidone_tests::main(&[
        lines::CASES,
        orphans::CASES,
        signals::CASES,
        terminal::CASES,
        waiting::CASES,
    ])
}
