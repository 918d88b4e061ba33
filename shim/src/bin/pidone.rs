//! `pidone`: an OCI runtime.

use std::process::ExitCode;

use pidone::cli::{self, pidone as verbs};

fn main() -> ExitCode {
    cli::run(&verbs::PROGRAM, |invocation, report| match invocation.verb() {
        Some(_) => verbs::refuse(invocation, report),
        None => invocation.without_verb(),
    })
}
