//! Paths as text. Nothing here accesses a file system.

use std::path::{Component, Path, PathBuf};

use super::fault::{Check, Fault};

/// The size limit of a path in a system call, with its NUL: `PATH_MAX`.
const PATH_MAX: usize = 4096;

/// The size limit of a file name: `NAME_MAX`.
const NAME_MAX: usize = 255;

/// Removes `.`, `..` and repeated slashes; `..` never leads above the root.
///
/// The result names the same file only if no component is a symbolic link.
#[must_use]
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !cleaned.pop() && !path.has_root() {
                    cleaned.push("..");
                }
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

/// Returns the absolute path in a container that a path means: `proc`, `/proc/` and `/../proc` are
/// the same.
#[must_use]
pub(crate) fn in_root(path: &str) -> PathBuf {
    clean(&Path::new("/").join(path))
}

/// Refuses a path that no system call accepts.
pub(super) fn check(field: &str, path: &str) -> Check {
    if path.contains('\0') {
        return Err(Fault::text(field, path, "contains a NUL"));
    }
    if path.len() >= PATH_MAX {
        return Err(Fault::text(field, path, "longer than 4095 bytes"));
    }
    Ok(())
}

/// Refuses a path that no file can have, since a name in it is too long.
pub(super) fn check_names(field: &str, path: &str) -> Check {
    check(field, path)?;
    if path.split('/').any(|name| name.len() > NAME_MAX) {
        return Err(Fault::text(field, path, "has a name of more than 255 bytes"));
    }
    Ok(())
}

/// Refuses a path that is not absolute.
pub(super) fn check_absolute(field: &str, path: &str) -> Check {
    check_names(field, path)?;
    if !path.starts_with('/') {
        return Err(Fault::text(field, path, "must be an absolute path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_never_leads_above_the_root() {
        for (path, cleaned) in [
            ("/", "/"),
            ("/../..", "/"),
            ("/../../x", "/x"),
            ("/a/./b//c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("a/..", ""),
            ("a/../../b", "../b"),
        ] {
            assert_eq!(clean(Path::new(path)).as_os_str(), cleaned, "{path}");
        }
        assert_eq!(in_root("proc/../../proc/"), Path::new("/proc"));
        assert_eq!(in_root(""), Path::new("/"));
    }
}
