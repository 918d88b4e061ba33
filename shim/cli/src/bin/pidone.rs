//! `pidone`: an OCI runtime.

use std::process::ExitCode;

fn main() -> ExitCode {
    pidone_cli::run(&pidone_cli::pidone::PROGRAM)
}
