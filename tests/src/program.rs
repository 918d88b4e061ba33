//! Programs for roots: the guest, copies and scripts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, Stop};

/// The path of the program that reports from inside; see its own documentation for its commands.
pub const GUEST: &str = env!("PIDONE_GUEST");

/// The init of the library, built to speak postcard.
pub const POSTCARD_INIT: &[u8] = include_bytes!(env!("PIDONE_POSTCARD_INIT"));

/// The path of an init that can supervise.
pub const SUPERVISING_INIT: &str = env!("PIDONE_SUPERVISING_INIT");

/// Copies a program to where it will be executed.
///
/// By another process: were the copy open for writing in this one, a child that another thread
/// forks at that moment would hold it open, and executing it would fail with `ETXTBSY`.
///
/// # Errors
/// It cannot be copied.
pub fn install(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Outcome {
    let (from, to) = (from.as_ref(), to.as_ref());
    if Command::new("cp").arg("--").args([from, to]).status()?.success() {
        return Ok(());
    }
    Err(Stop::Failed(format!("cp {} {}", from.display(), to.display())))
}

/// Writes a script to where it will be executed.
///
/// # Errors
/// It cannot be written.
pub fn script(to: impl AsRef<Path>, text: &str) -> Outcome {
    let to = to.as_ref();
    let draft = to.with_extension("draft");
    fs::write(&draft, text)?;
    fs::set_permissions(&draft, Permissions::from_mode(0o755))?;
    install(&draft, to)?;
    Ok(fs::remove_file(draft)?)
}
