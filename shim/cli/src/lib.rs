//! The command lines of `pidone` and `nsinit`: what both share, and the verbs of each.
//!
//! [`pidone::PROGRAM`] and [`nsinit::PROGRAM`] are the tables of verbs. [`run`] finds the verb in
//! the table and calls its function.
//!
//! This crate exists for its two programs and is not an interface for embedding. It is the only one
//! that parses arguments, uses the standard streams and changes how signals are handled. To start
//! containers from another program, use the library `pidone`.

pub mod arguments;
mod counters;
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
use report::Report;

/// The allocator of both programs. musl's own returns memory to the kernel that the program
/// allocates again soon after, and each time costs a page fault.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Runs a program with the arguments of this process, and reports a failure on standard error and
/// in the log.
///
/// Returns the exit status of the program in the container, or that of the failure.
pub fn run(program: &Program) -> ExitCode {
    signals::keep_statuses();
    let mut report = Report::new(program.name);
    let outcome = Invocation::split(program, std::env::args_os().skip(1))
        .and_then(|invocation| invocation.execute(&mut report));
    ExitCode::from(match outcome {
        Ok(status) => status,
        Err(failure) => report.report_failure(&failure, program.version),
    })
}
