//! Paths as text: nothing here looks at a file system.

use std::path::{Component, Path, PathBuf};

use super::fault::{Check, Fault};

/// The longest path of a system call, with its NUL: `PATH_MAX`.
const PATH_MAX: usize = 4096;

/// Removes `.`, doubled slashes and `..`, which never leads above the root.
///
/// This is what the path means where no component is a symbolic link.
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

/// The absolute place in a container that a path names: `proc`, `/proc/` and `/../proc` are one.
#[must_use]
pub(crate) fn in_root(path: &str) -> PathBuf {
    clean(&Path::new("/").join(path))
}

/// Refuses what no system call takes as a path.
pub(super) fn check(field: &str, path: &str) -> Check {
    if path.contains('\0') {
        return Err(Fault::text(field, path, "contains a NUL"));
    }
    if path.len() >= PATH_MAX {
        return Err(Fault::text(field, path, "longer than 4095 bytes"));
    }
    Ok(())
}

/// Refuses all but a path that starts at the root.
pub(super) fn check_absolute(field: &str, path: &str) -> Check {
    check(field, path)?;
    if !path.starts_with('/') {
        return Err(Fault::text(field, path, "must be an absolute path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_never_leaves_the_root() {
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
