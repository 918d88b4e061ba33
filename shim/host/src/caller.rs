//! Who calls, and what that means for the container.

use std::fs;
use std::path::Path;

use pidone_config::config::{Cgroup, IdMap};
use pidone_config::{Error, Result};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::cgroup::Cgroups;
use crate::privilege;

/// The caller.
#[derive(Debug)]
pub struct Caller {
    /// The effective user id.
    pub uid: u32,
    gid: u32,
    pub(crate) privileged: bool,
}

impl Caller {
    /// Reads the ids and capabilities of the calling process.
    #[must_use]
    pub fn current() -> Self {
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
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// The ids of the container: the caller is root there.
    ///
    /// Who is root of a user namespace already keeps all of it.
    pub fn id_maps(&self) -> Result<(Vec<IdMap>, Vec<IdMap>)> {
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

    /// Whether the caller can make a cgroup, in all hierarchies.
    pub fn can_make(cgroup: &Cgroup) -> bool {
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
    use super::*;

    #[test]
    fn the_ids_of_a_namespace_stay_what_they_are() {
        let map = |id, size| IdMap { container_id: id, host_id: id, size };
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(parse_ids(text), Some(vec![map(0, 1), map(1, 65536)]));
        assert_eq!(parse_ids("0 0"), None);
        assert_eq!(parse_ids("0 0 x"), None);
    }
}
