//! Giving a cgroup to somebody who is to make cgroups below it.
//!
//! Reference: cgroups(7), "Cgroups delegation".

use pidone_config::Result;
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;

use super::Cgroups;
use super::directory::Directory;
use crate::privilege::is_host_root;

/// The kernel's own list of the files that go to who is delegated to, since Linux 4.15.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// The files that every kernel with cgroup v2 has in that list.
const ALWAYS: [&str; 3] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

impl Cgroups {
    /// Makes a user and a group, by their ids in the caller's user namespace, owners of the cgroup
    /// in cgroup v2: its directory and those files with which processes are distributed below it.
    /// The files of limits are not among them, so that a container cannot change its own.
    ///
    /// Hierarchies of cgroup v1 are never given: the kernel does not confine who owns a part of
    /// one. Without cgroup v2 nothing happens. An ordinary user can give nothing to others, so that
    /// in its containers only a root that is itself makes cgroups.
    ///
    /// # Errors
    /// The file and the errno.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<()> {
        let Some(path) = self.v2() else { return Ok(()) };
        let directory = Directory::existing(path)?;
        let list = std::fs::read_to_string(LIST).unwrap_or_default();
        let listed = list.lines().filter(|name| !ALWAYS.contains(name));
        for name in ALWAYS.into_iter().chain(listed).chain([""]) {
            match directory.give(name, Uid::from_raw(uid), Gid::from_raw(gid)) {
                // Files of controllers that the cgroup does not have.
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
