//! The client in Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{GUEST, Outcome, Sandbox, Stop, need};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// Runs one of the scripts. An error has what it printed.
///
/// # Errors
/// It fails.
pub fn python(script: &str, arguments: &[&Path]) -> Outcome {
    let output = Command::new(need::program("python3")?)
        // No caches beside the sources.
        .arg("-B")
        .arg(directory().join(script))
        .args(arguments)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Stop::Failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&said))))
}

/// Runs a container by an image of the init that supervises, and that speaks this codec.
///
/// # Errors
/// Something is not as it should be.
pub fn python_container(sandbox: &Sandbox, image: &Path, codec: &str) -> Outcome {
    need::program("unshare")?;
    let place = sandbox.path().join("python");
    std::fs::create_dir(&place)?;
    python("container.py", &[image, Path::new(codec), Path::new(GUEST), &place])
}
