//! The default directory for the state of containers.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use pidone_config::{Error, Result};
use pidone_host::privilege::Caller;
use rustix::io::Errno;

/// Returns the default directory for the state of containers.
///
/// For root of the host this is `of_host`. For others it is a directory with the same name in
/// `$XDG_RUNTIME_DIR`, or `/tmp/NAME-UID`.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] if the directory in `/tmp` belongs to another user, or if
/// others can enter it.
pub(super) fn state_root(caller: &Caller, of_host: &Path) -> Result<PathBuf> {
    if caller.is_privileged() {
        return Ok(of_host.to_owned());
    }
    let name = of_host.file_name().unwrap_or_default();
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && runtime.is_absolute()
    {
        return Ok(runtime.join(name));
    }
    let path = PathBuf::from(format!("/tmp/{}-{}", name.to_string_lossy(), caller.uid));
    private_directory(&path, caller.uid)?;
    Ok(path)
}

/// Creates a directory in a parent that everybody can write to. An existing one must belong to the
/// caller alone.
fn private_directory(path: &Path, uid: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::path("mkdir", path, error));
        }
        _ => {}
    }
    // Do not follow a symbolic link: another user may have created it.
    let found = fs::symlink_metadata(path).map_err(|error| Error::path("stat", path, error))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(Error::path("open", path, Errno::PERM)
            .with_hint("it must be a directory of the caller's that nobody else can enter"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::process::geteuid;

    use super::*;

    #[test]
    fn a_directory_that_others_own_or_can_enter_is_refused() {
        let uid = geteuid().as_raw();
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("nsinit-1");
        private_directory(&path, uid).unwrap();
        private_directory(&path, uid).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(private_directory(&path, uid + 1).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(private_directory(&path, uid).is_err());
        let link = base.path().join("nsinit-2");
        symlink(base.path(), &link).unwrap();
        assert!(private_directory(&link, uid).is_err());
        let file = base.path().join("nsinit-3");
        fs::write(&file, "").unwrap();
        assert!(private_directory(&file, uid).is_err());
    }
}
