//! What cases need of the machine.

use std::path::{Path, PathBuf};

use crate::Stop;

/// A program in `$PATH`.
///
/// # Errors
/// [`Stop::Lacking`] if it is not there.
pub fn program(name: &str) -> Result<PathBuf, Stop> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Stop::Lacking(format!("no program `{name}`")))
}

/// A file or directory of the host.
///
/// # Errors
/// [`Stop::Lacking`] if it is not there.
pub fn file(path: impl AsRef<Path>) -> Result<(), Stop> {
    let path = path.as_ref();
    if path.exists() { Ok(()) } else { Err(Stop::Lacking(format!("no {}", path.display()))) }
}

/// A controller of cgroup v1 that is mounted at its usual place.
///
/// # Errors
/// [`Stop::Lacking`] if it is not.
pub fn controller(name: &str) -> Result<PathBuf, Stop> {
    let directory = Path::new("/sys/fs/cgroup").join(name);
    file(directory.join("cgroup.procs"))
        .map_err(|_| Stop::Lacking(format!("no cgroup v1 controller `{name}`")))?;
    Ok(directory)
}
