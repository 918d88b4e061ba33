//! Putting processes into the cgroup, and listing them.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::directory::Directory;
use super::{Cgroups, tree};
use crate::{Error, Result};

const PROCS: &str = "cgroup.procs";

impl Cgroups {
    /// Moves a process, with all its threads, into the cgroup in every hierarchy.
    ///
    /// # Errors
    /// The file and the errno: `ESRCH` for a process that is gone, `EBUSY` or `EOPNOTSUPP` on
    /// cgroup v2 if the container has distributed controllers to sub-cgroups.
    pub fn attach(&self, pid: i32) -> Result<()> {
        move_into(self.directories(), pid)
    }

    /// As [`Cgroups::attach`] for a process that was born into [`Cgroups::directory`]: moves it in
    /// the hierarchies of cgroup v1 only.
    ///
    /// # Errors
    /// As [`Cgroups::attach`].
    pub fn attach_v1(&self, pid: i32) -> Result<()> {
        move_into(self.v1(), pid)
    }

    /// The cgroups below this one that are given by controller, `""` for every hierarchy. They must
    /// exist, and are the container's to make.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for a controller that the container does not have, or a path that leaves
    /// its cgroup.
    pub fn below(&self, paths: &BTreeMap<String, String>) -> Result<Self> {
        let mut below = self.clone();
        for (controller, path) in paths {
            let field = if controller.is_empty() { "cgroup" } else { controller };
            let refuse = |reason: &'static str| Error::config(field, path, reason);
            let relative = Path::new(path.trim_start_matches('/'));
            if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(refuse("leads out of the container's cgroup"));
            }
            let mut known = false;
            for (own, directory) in &mut below.paths {
                if controller.is_empty() || controller == own {
                    let parent = self.paths.get(own).map_or(directory.as_path(), PathBuf::as_path);
                    *directory = parent.join(relative);
                    known = true;
                }
            }
            if !known {
                return Err(refuse("the container has no such controller"));
            }
        }
        Ok(below)
    }

    /// The directory of cgroup v2, for `CLONE_INTO_CGROUP`; none without cgroup v2.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        let open = |path| Directory::existing(path).map(OwnedFd::from);
        self.v2().map(open).transpose()
    }

    /// The `cgroup.procs` files, one for each hierarchy, open for writing: a process that writes `0`
    /// to each of them moves itself.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn procs_files(&self) -> Result<Vec<OwnedFd>> {
        self.directories().into_iter().map(open_procs).collect()
    }

    /// The processes in the cgroup and below it, in any hierarchy, by their ids in the caller's
    /// pid namespace. Empty when the cgroup is gone.
    ///
    /// # Errors
    /// A file cannot be read; more than 131072 sub-cgroups.
    pub fn processes(&self) -> Result<Vec<i32>> {
        Ok(self.members()?.into_iter().filter(|&pid| pid != 0).collect())
    }

    /// As [`Cgroups::processes`], with a 0 for those that the caller's pid namespace does not show.
    pub(super) fn members(&self) -> Result<BTreeSet<i32>> {
        let mut members = BTreeSet::new();
        for path in self.directories() {
            if let Some(directory) = Directory::open(path)? {
                members.append(&mut tree::processes(&directory)?);
            }
        }
        Ok(members)
    }
}

/// Opens all files before the first write. A write after a pause waits for an RCU grace period of
/// several milliseconds, those that follow at once share it.
fn move_into<'a>(paths: impl IntoIterator<Item = &'a Path>, pid: i32) -> Result<()> {
    let paths: Vec<&Path> = paths.into_iter().collect();
    let files = paths.iter().map(|path| open_procs(path)).collect::<Result<Vec<_>>>()?;
    let text = pid.to_string();
    for (path, file) in paths.iter().zip(files) {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes()));
        if let Err(errno) = written {
            let file = path.join(PROCS);
            let error = Error::system("write", format!("{} = {pid}", file.display()), errno);
            return Err(match errno {
                Errno::BUSY | Errno::OPNOTSUPP => {
                    error.with_hint("the container gave its controllers to sub-cgroups")
                }
                Errno::NOSPC => error.with_hint("the cpuset has no processors or no memory nodes"),
                _ => error,
            });
        }
    }
    Ok(())
}

fn open_procs(path: &Path) -> Result<OwnedFd> {
    let directory = Directory::existing(path)?;
    directory.file(PROCS, OFlags::WRONLY).map_err(|errno| directory.error("open", PROCS, errno))
}
