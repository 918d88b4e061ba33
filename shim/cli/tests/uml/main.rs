//! cgroup v2 with all controllers, and all capabilities: in a guest kernel that runs as a process.
//!
//! The machine of the tests may have neither. The scripts are what is checked.

mod guest;
#[allow(dead_code, reason = "each program of tests uses a part")]
#[path = "../../../tests/need/mod.rs"]
mod need;

use std::path::Path;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let missing = guest::missing();
    let skip = missing.is_some() && !need::is_required();
    if let Some(missing) = missing.filter(|_| skip) {
        eprintln!("uml: ignored: {missing}");
    }
    let trial = |name, checks, program: &'static str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml").join(checks);
        let checks = move || Ok(guest::check(&script, Path::new(program))?);
        Trial::test(name, checks).with_ignored_flag(skip)
    };
    let trials = vec![
        trial("cgroup_v2_controllers", "checks.sh", env!("CARGO_BIN_EXE_nsinit")),
        trial("dockers_configuration", "docker.sh", env!("CARGO_BIN_EXE_pidone")),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
