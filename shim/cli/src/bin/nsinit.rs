//! `nsinit`: runs programs in containers.

use std::process::ExitCode;

fn main() -> ExitCode {
    pidone_cli::run(&pidone_cli::nsinit::PROGRAM)
}
