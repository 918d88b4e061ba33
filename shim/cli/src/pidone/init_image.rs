//! `pidone init-image`: the init of containers as a file of its own.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use pidone::launch::image::{EMBEDDED, SUPERVISOR};
use pidone_config::{Code, Error, Result};

use super::{begin, flags};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::output;
use crate::report::Report;

/// Everybody may run it.
const MODE: u32 = 0o755;

/// Writes an image that is embedded in this program.
///
/// # Errors
/// Standard output is a terminal, or the file cannot be written; then none is left behind.
pub fn init_image(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, _): (flags::InitImage, flags::Global) = begin(invocation, report)?;
    let image = if flags.supervise { SUPERVISOR } else { EMBEDDED };
    match flags.file.filter(|file| file != Path::new("-")) {
        Some(file) => write(&file, image.bytes())?,
        None if io::stdout().is_terminal() => {
            let reason = "a terminal, which is not for programs (name a file)";
            return Err(Error::reason(Code::ConfigInvalid, "write", "stdout", reason).into());
        }
        None => output::bytes(image.bytes())?,
    }
    Ok(0)
}

/// Puts the image at a path, in one step: whoever executes it there gets all of it, or what was
/// there before.
fn write(path: &Path, image: &[u8]) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::path("write", path, rustix::io::Errno::ISDIR));
    };
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(format!(".{}", std::process::id()));
    let new: PathBuf = path.with_file_name(new);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)
        .map_err(|error| Error::path("create", path, error))?;
    let written = file
        .write_all(image)
        // Whatever the umask is.
        .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)))
        .map_err(|error| Error::path("write", &new, error))
        .and_then(|()| {
            // Closed: a file that is open for writing cannot be executed.
            drop(file);
            fs::rename(&new, path).map_err(|error| Error::path("rename", path, error))
        });
    if written.is_err() {
        // What failed before says more.
        let _ = fs::remove_file(&new);
    }
    written
}
