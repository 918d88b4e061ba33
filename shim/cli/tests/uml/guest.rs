//! A guest kernel that runs as a process: Debian's `user-mode-linux`, which boots in two seconds
//! with the host's files, read-only. `boot.sh` is its first process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const KERNEL: &str = "/usr/bin/linux.uml";

/// What the machine lacks for a guest, if anything.
pub(crate) fn missing() -> Option<String> {
    // Which the guest has for itself.
    if Path::new(env!("CARGO_MANIFEST_DIR")).starts_with("/tmp") {
        return Some("a source tree outside of /tmp missing".into());
    }
    let missing: Vec<&str> =
        [KERNEL, "/bin/busybox"].into_iter().filter(|path| !Path::new(path).exists()).collect();
    (!missing.is_empty()).then(|| format!("{} missing", missing.join(" and ")))
}

/// Boots the guest with a script of checks and the program that the script gets, and expects that
/// every check ran and held.
pub(crate) fn check(checks: &Path, program: &Path) -> Result<(), String> {
    let text = run(checks, program).map_err(|error| error.to_string())?;
    let failed: Vec<&str> = text.lines().filter(|line| line.contains("check: FAILED")).collect();
    let passed = text.lines().filter(|line| line.contains("check: ok")).count();
    if !failed.is_empty() || !text.contains("guest: finished") || passed == 0 {
        return Err(format!("{passed} checks held, these did not: {failed:#?}\n{text}"));
    }
    eprintln!("{passed} checks held in the guest");
    Ok(())
}

/// Boots the guest and returns what it writes.
fn run(checks: &Path, program: &Path) -> std::io::Result<String> {
    let directory = tempfile::tempdir()?;
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml/boot.sh");
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
    if is_done.recv_timeout(Duration::from_secs(120)).is_err() {
        // The guest's own processes are the kernel's children, and end with it.
        Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    }
    let output = waiter.join().map_err(|_| std::io::Error::other("the waiting thread ended"))??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
