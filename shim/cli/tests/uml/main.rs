//! cgroup v2 with all controllers, and all capabilities: in a guest kernel that runs as a process.
//!
//! The machine of the tests may have neither. The scripts are what is checked.

use std::path::Path;
use std::process::ExitCode;

use pidone_tests::{Case, Outcome, plain_case, uml};

const CASES: &[Case<()>] =
    &[plain_case!(cgroup_v2_controllers), plain_case!(dockers_configuration)];

fn main() -> ExitCode {
    pidone_tests::main(&[CASES])
}

fn cgroup_v2_controllers() -> Outcome {
    checks("checks.sh", env!("CARGO_BIN_EXE_nsinit"))
}

fn dockers_configuration() -> Outcome {
    checks("docker.sh", env!("CARGO_BIN_EXE_pidone"))
}

fn checks(script: &str, program: &str) -> Outcome {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml");
    uml::run(&directory.join(script), Path::new(program))
}
