//! The command lines: what `nsinit` and `pidone` share, and the verbs of each.
//!
//! No part of the library's interface. It is the only module that reads arguments, writes to
//! stdio and changes how signals are handled: whoever embeds the library never meets it.

pub mod arguments;
pub mod failure;
mod notify;
pub mod nsinit;
mod output;
mod page;
pub mod pidone;
mod relay;
pub mod report;
mod session;
mod signals;
mod state_root;
mod terminal;
mod timestamp;
mod trace;

use std::process::ExitCode;

use arguments::{Invocation, Program};
use failure::Outcome;
use report::Report;

/// Runs a program: finds the verb, has it done, and tells what failed.
///
/// The exit status is that of the program in the container, or of `Report::failed`.
pub fn run(
    program: &Program,
    verbs: impl FnOnce(&Invocation<'_>, &mut Report) -> Outcome,
) -> ExitCode {
    let mut report = Report::new(program.name);
    let outcome = Invocation::split(program, std::env::args_os().skip(1))
        .and_then(|invocation| verbs(&invocation, &mut report));
    ExitCode::from(match outcome {
        Ok(status) => status,
        Err(failure) => report.failed(&failure, program),
    })
}
