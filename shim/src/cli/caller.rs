//! Who calls, and what that means for the container.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::cgroup::Cgroups;
use crate::config::{Cgroup, IdMap};
use crate::error::{Error, Result};
use crate::privilege;

/// The caller.
#[derive(Debug)]
pub(super) struct Caller {
    uid: u32,
    gid: u32,
    privileged: bool,
}

impl Caller {
    pub(super) fn current() -> Self {
        let may_administer =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        let root = geteuid().is_root();
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            privileged: root && may_administer && !privilege::in_user_namespace(),
        }
    }

    /// Whether it is root of the host. Everybody else needs a user namespace, where a host's
    /// devices, groups and cgroups are out of reach.
    pub(super) fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The ids of the container: the caller is root there.
    ///
    /// Who is root of a user namespace already keeps all of it.
    pub(super) fn id_maps(&self) -> Result<(Vec<IdMap>, Vec<IdMap>)> {
        let own = |id| vec![IdMap { container_id: 0, host_id: id, size: 1 }];
        if self.uid != 0 || !privilege::in_user_namespace() {
            return Ok((own(self.uid), own(self.gid)));
        }
        let read = |path: &str| {
            let text =
                fs::read_to_string(path).map_err(|error| Error::path("read", path, error))?;
            parse_ids(&text).ok_or_else(|| Error::path("read", path, Errno::PROTO))
        };
        Ok((read("/proc/self/uid_map")?, read("/proc/self/gid_map")?))
    }

    /// Where the states of a program's containers are if nothing else is said: for root of the
    /// host in this directory, for others in `$XDG_RUNTIME_DIR` or `/tmp`.
    ///
    /// # Errors
    /// The directory below `/tmp` is somebody else's, or others may write to it.
    pub(super) fn state_root(&self, of_host: &Path) -> Result<PathBuf> {
        if self.privileged {
            return Ok(of_host.to_owned());
        }
        let name = of_host.file_name().unwrap_or_default();
        if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
            && runtime.is_absolute()
        {
            return Ok(runtime.join(name));
        }
        let path = PathBuf::from(format!("/tmp/{}-{}", name.to_string_lossy(), self.uid));
        private_directory(&path, self.uid)?;
        Ok(path)
    }

    /// Whether the caller can make a cgroup, in all hierarchies.
    pub(super) fn can_make(cgroup: &Cgroup) -> bool {
        let writable = |path: &Path| {
            let parent = path.ancestors().skip(1).find(|ancestor| ancestor.exists());
            // The first to be attached needs the right to move it there.
            parent.is_some_and(|parent| {
                [parent.to_owned(), parent.join("cgroup.procs")]
                    .iter()
                    .all(|path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok())
            })
        };
        Cgroups::locate(cgroup)
            .is_ok_and(|cgroups| cgroups.paths().values().all(|path| writable(path)))
    }
}

/// Makes a directory in one that everybody may write to, and makes sure that it is the caller's.
fn private_directory(path: &Path, uid: u32) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::path("mkdir", path, error));
        }
        _ => {}
    }
    // No link is followed: it could lead anywhere that the caller may write to.
    let found = fs::symlink_metadata(path).map_err(|error| Error::path("stat", path, error))?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(Error::path("open", path, Errno::PERM)
            .with_hint("it must be a directory of the caller's that nobody else can enter"));
    }
    Ok(())
}

/// The ids of this user namespace, each as itself: `inside outside count` on a line.
fn parse_ids(text: &str) -> Option<Vec<IdMap>> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, size) = (numbers.next()?.ok()?, numbers.nth(1)?.ok()?);
        Some(IdMap { container_id: inside, host_id: inside, size })
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_ids_of_a_namespace_stay_what_they_are() {
        let map = |id, size| IdMap { container_id: id, host_id: id, size };
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(parse_ids(text), Some(vec![map(0, 1), map(1, 65536)]));
        assert_eq!(parse_ids("0 0"), None);
        assert_eq!(parse_ids("0 0 x"), None);
    }

    #[test]
    fn a_planted_directory_is_refused() {
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
