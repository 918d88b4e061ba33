//! Whole containers: what they see, what the host has of them, and that nothing is left.

use std::process::ExitCode;

mod capability;
mod device;
mod mount;
mod namespace;

fn main() -> ExitCode {
    pidone_tests::main(&[capability::CASES, device::CASES, mount::CASES, namespace::CASES])
}
