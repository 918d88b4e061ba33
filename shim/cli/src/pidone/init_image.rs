//! `pidone init-image`: writes the init of containers to a file.

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

/// The mode of the file: everybody may execute it.
const MODE: u32 = 0o755;

/// Writes an image that is embedded in this program to a file or to standard output.
///
/// # Errors
/// [`Code::ConfigInvalid`] if standard output is a terminal. [`Code::SystemError`] with the path if
/// the file cannot be written; no partial file is left then.
pub(super) fn init_image(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
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

/// Writes the image to a path atomically: a process that executes it gets the whole image, or the
/// previous file.
fn write(path: &Path, image: &[u8]) -> Result<()> {
    let Some(name) = path.file_name() else {
        return Err(Error::path("write", path, rustix::io::Errno::ISDIR));
    };
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}", std::process::id()));
    let draft: PathBuf = path.with_file_name(draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&draft)
        .map_err(|error| Error::path("create", path, error))?;
    let written = file
        .write_all(image)
        // Regardless of the umask.
        .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)))
        .map_err(|error| Error::path("write", &draft, error))
        .and_then(|()| {
            // Close it first: a file that is open for writing cannot be executed.
            drop(file);
            fs::rename(&draft, path).map_err(|error| Error::path("rename", path, error))
        });
    if written.is_err() {
        // The first error is reported, not one of the removal.
        let _ = fs::remove_file(&draft);
    }
    written
}
