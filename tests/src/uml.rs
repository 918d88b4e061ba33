//! A guest kernel that runs as a process: Debian's `user-mode-linux`. It boots in two seconds with
//! the host's files, read-only, and has cgroup v2 with its controllers and all capabilities.
//! `uml/boot.sh` is its first process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{DEADLINE, Need, Outcome, Stop};

const KERNEL: &str = "/usr/bin/linux.uml";

/// How long the guest may run: it boots, and makes all the checks of a script.
const LIMIT: Duration = DEADLINE.saturating_mul(4);

/// What the guest kernel prints before it panics where the processor has more registers than it
/// knows, such as those of AMX: no process can run in it then.
const UNABLE: &str = "ptrace set fp regs failed";

/// Checks that the machine has what a guest needs.
///
/// # Errors
/// [`Stop::Lacking`] if it has not.
pub fn check() -> Outcome {
    // The guest has its own there.
    if Path::new(env!("CARGO_MANIFEST_DIR")).starts_with("/tmp") {
        return Err(Stop::Lacking("needs a source tree outside of /tmp".into()));
    }
    Need::File(KERNEL, "user-mode-linux").check()?;
    Need::File("/bin/busybox", "busybox-static").check()
}

/// Boots the guest with a script of checks and the program that the script gets, and expects that
/// every check ran and held.
///
/// # Errors
/// A check did not hold, or the guest did not finish.
pub fn run(checks: &Path, program: &Path) -> Outcome {
    check()?;
    let text = boot(checks, program)?;
    if text.contains(UNABLE) {
        return Err(Stop::Unable(format!(
            "the guest kernel runs no process on this processor: {UNABLE}"
        )));
    }
    let failed: Vec<&str> = text.lines().filter(|line| line.contains("check: FAILED")).collect();
    let passed = text.lines().filter(|line| line.contains("check: ok")).count();
    if !failed.is_empty() || !text.contains("guest: finished") || passed == 0 {
        return Err(Stop::Failed(format!(
            "{passed} checks held, these did not: {failed:#?}\n{text}"
        )));
    }
    eprintln!("{passed} checks held in the guest");
    Ok(())
}

/// Boots the guest and returns what it writes.
fn boot(checks: &Path, program: &Path) -> std::io::Result<String> {
    let directory = tempfile::tempdir()?;
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("uml/boot.sh");
    let mut guest = Command::new(KERNEL);
    guest.args(["mem=512M", "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]);
    guest.args(["umid=guest", "con=null", "con0=null,fd:1"]);
    guest.arg(format!("uml_dir={}", directory.path().display()));
    guest.arg(format!("init={}", boot.display()));
    guest.arg(format!("pidone.checks={}", checks.display()));
    guest.arg(format!("pidone.program={}", program.display()));
    let guest = guest.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let pid = guest.id();
    let (done, is_done) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = guest.wait_with_output();
        let _ = done.send(());
        output
    });
    if is_done.recv_timeout(LIMIT).is_err() {
        // The guest's own processes are the kernel's children, and end with it.
        Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    }
    let output = waiter.join().map_err(|_| std::io::Error::other("the waiting thread ended"))??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
