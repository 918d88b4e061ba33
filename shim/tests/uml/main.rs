//! cgroup v2 with all controllers, and all capabilities: in a guest kernel that runs as a process.
//!
//! The machine of the tests may have neither. Debian's `user-mode-linux` boots in two seconds with the
//! host's files, read-only. `boot.sh` is the guest's first process, `checks.sh` what is checked.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

const KERNEL: &str = "/usr/bin/linux.uml";

fn main() {
    let missing: Vec<&str> =
        [KERNEL, "/bin/busybox"].into_iter().filter(|path| !Path::new(path).exists()).collect();
    let required = std::env::var_os("PIDONE_REQUIRE_ALL").is_some_and(|value| value == "1");
    let skip = !missing.is_empty() && !required;
    if skip {
        eprintln!("uml: ignored: {} missing", missing.join(" and "));
    }
    let trial = Trial::test("cgroup_v2_controllers", checks).with_ignored_flag(skip);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

/// Boots the guest, and expects that every check ran and held.
fn checks() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml");
    let mut guest = Command::new(KERNEL);
    guest.args(["mem=512M", "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]);
    guest.args(["umid=guest", "con=null", "con0=null,fd:1"]);
    guest.arg(format!("uml_dir={}", directory.path().display()));
    guest.arg(format!("init={}", scripts.join("boot.sh").display()));
    guest.arg(format!("pidone.checks={}", scripts.join("checks.sh").display()));
    guest.arg(format!("pidone.nsinit={}", env!("CARGO_BIN_EXE_nsinit")));
    let guest = guest.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let pid = guest.id();
    let (done, is_done) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = guest.wait_with_output();
        let _ = done.send(());
        output
    });
    if is_done.recv_timeout(Duration::from_secs(120)).is_err() {
        // The guest's own processes are the kernel's children, and end with it.
        Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    }
    let output = waiter.join().map_err(|_| "the waiting thread ended")??;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.lines().filter(|line| line.contains("check: FAILED")).collect();
    let passed = text.lines().filter(|line| line.contains("check: ok")).count();
    if !failed.is_empty() || !text.contains("guest: finished") || passed == 0 {
        return Err(format!("{passed} checks held, these did not: {failed:#?}\n{text}").into());
    }
    eprintln!("{passed} checks held in the guest");
    Ok(())
}
