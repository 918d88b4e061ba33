//! Files that callers name, and standard input: whole, up to a size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pidone_config::config::MAX_SIZE;
use pidone_config::{Code, Error, Result};

/// Reads a file.
pub(super) fn file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::path("open", path, error))?;
    bounded(file, path)
}

/// Reads a file, or standard input for `-`.
pub(super) fn file_or_stdin(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") { bounded(std::io::stdin().lock(), path) } else { file(path) }
}

fn bounded(source: impl Read, path: &Path) -> Result<Vec<u8>> {
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
