//! Whole containers: what they see, what the host has of them, and that nothing is left.

use std::process::ExitCode;

mod capability;

fn main() -> ExitCode {
    pidone_tests::main(&[capability::CASES])
}
