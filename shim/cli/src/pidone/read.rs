//! Reads files that the caller names, and standard input, up to a maximum size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pidone_config::config::MAX_SIZE;
use pidone_config::{Code, Error, Result};

/// Reads a file of at most [`MAX_SIZE`] bytes.
///
/// # Errors
/// [`Code::SystemError`] with the path, and [`Code::ConfigInvalid`] if it is larger.
pub(super) fn file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::path("open", path, error))?;
    read_limited(file, path)
}

/// Reads a file, or standard input if the path is `-`.
///
/// # Errors
/// As [`file`].
pub(super) fn file_or_stdin(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") { read_limited(std::io::stdin().lock(), path) } else { file(path) }
}

fn read_limited(source: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    source
        .take(MAX_SIZE + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::path("read", path, error))?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_SIZE) {
        return Ok(text);
    }
    let name = path.to_string_lossy();
    Err(Error::reason(Code::ConfigInvalid, "read", name, "larger than 16 MiB"))
}
