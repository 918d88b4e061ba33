//! Programs to execute: the guest, the images of the init, copies and scripts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use pidone::launch::image;

use crate::{Outcome, Stop};

/// The path of the program that reports from inside; see its own documentation for its commands.
pub const GUEST: &str = env!("PIDONE_GUEST");

/// The path of the image of the init that runs by itself, as the library has it.
#[must_use]
pub fn init_image() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| written("pidone-init", image::EMBEDDED.bytes()))
}

/// The path of the image of the init that supervises, as the library has it.
#[must_use]
pub fn supervising_image() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| written("pidone-init-supervise", image::SUPERVISOR.bytes()))
}

/// Makes a file of an image beside the test program, where cargo keeps what it builds. Other test
/// programs may do the same at this moment: it becomes visible only once it is whole.
///
/// # Panics
/// It cannot be written.
#[expect(clippy::unwrap_used, reason = "no test goes on without it")]
fn written(name: &str, bytes: &[u8]) -> String {
    let own = std::env::current_exe().unwrap();
    let path = own.with_file_name(name);
    if !fs::read(&path).is_ok_and(|present| present == bytes) {
        let draft = own.with_file_name(format!("{name}-{}", std::process::id()));
        executable(&draft, bytes).unwrap();
        fs::rename(&draft, &path).unwrap();
    }
    path.into_os_string().into_string().unwrap()
}

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
    executable(to.as_ref(), text.as_bytes())
}

fn executable(to: &Path, bytes: &[u8]) -> Outcome {
    let draft = to.with_extension("draft");
    fs::write(&draft, bytes)?;
    fs::set_permissions(&draft, Permissions::from_mode(0o755))?;
    install(&draft, to)?;
    Ok(fs::remove_file(draft)?)
}
