//! Delegating a cgroup to a user who may create cgroups below it.
//!
//! Reference: `cgroups(7)`, "Cgroups delegation".

use pidone_config::Result;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use super::Cgroups;
use super::directory::Directory;
use crate::privilege::is_host_root;

/// The kernel's list of the files to give to the delegatee, since Linux 4.15.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// The files that every kernel with cgroup v2 has in that list.
const ALWAYS: [&str; 3] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

impl Cgroups {
    /// Changes the owner of the cgroup in cgroup v2 to a user and a group, by their ids in the
    /// caller's user namespace: of its directory and of the files with which processes are moved
    /// below it. The files of limits keep their owner, so that a container cannot change its own.
    ///
    /// Hierarchies of cgroup v1 are never delegated, because the kernel does not confine the owner
    /// of a subtree. Without cgroup v2 nothing happens. An ordinary user cannot change owners, so
    /// that in its containers only a root that is the user itself can create cgroups.
    ///
    /// # Errors
    /// The file and the errno.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<()> {
        let Some(path) = self.v2() else { return Ok(()) };
        let directory = Directory::existing(path)?;
        let list = std::fs::read_to_string(LIST).unwrap_or_default();
        let listed = list.lines().filter(|name| !ALWAYS.contains(name));
        for name in ALWAYS.into_iter().chain(listed).chain([""]) {
            match directory.change_owner(name, Uid::from_raw(uid), Gid::from_raw(gid)) {
                // The list has files of controllers that are not enabled here.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::PERM) if !is_host_root() => return Ok(()),
                Err(errno) => return Err(directory.error("chown", name, errno)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happens_without_cgroup_v2() {
        Cgroups::default().delegate(1000, 1000).unwrap();
    }
}
