//! Moving processes into a cgroup, and listing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use pidone_config::{Error, Result};
use rustix::io::Errno;

use super::directory::{Directory, open_to_write};
use super::{Cgroups, Scope, tree};
use crate::proc;
use crate::span::span;

const PROCS: &str = "cgroup.procs";
const TASKS: &str = "tasks";

/// How a process that is about to be cloned enters the cgroup.
///
/// On cgroup v2 the process is cloned into it. On cgroup v1 it moves itself, by writing `0` to the
/// `tasks` files. A thread that moves only itself needs no lock against forks
/// (`cgroup_procs_write_start` in the kernel, since Linux 5.5), so it does not wait for an RCU
/// grace period of several milliseconds as another process that moves it would.
#[derive(Debug, Default)]
pub struct Entrance<'a> {
    /// The directory of cgroup v2, for `CLONE_INTO_CGROUP`.
    pub directory: Option<OwnedFd>,
    /// The `tasks` files of cgroup v1, with their paths.
    pub tasks: Vec<(PathBuf, OwnedFd)>,
    /// The cgroup into which the caller must move the process after the clone, if the process
    /// cannot move itself.
    late: Option<&'a Cgroups>,
    /// Whether the cgroup v2 is among those, too.
    unified: bool,
}

impl Entrance<'_> {
    /// Whether the process must be moved with [`Entrance::finish`] after the clone.
    pub fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Moves the new process into the cgroups that it could not enter itself.
    ///
    /// # Errors
    /// Those of [`Cgroups::attach`].
    pub fn finish(&self, pid: i32) -> Result<()> {
        let Some(cgroups) = self.late else { return Ok(()) };
        span("move to cgroups", || {
            if self.unified { cgroups.attach(pid) } else { cgroups.attach_v1(pid) }
        })
    }
}

impl Cgroups {
    /// Moves a process, with all its threads, into the cgroup in every hierarchy.
    ///
    /// # Errors
    /// The file and the errno: `ESRCH` if the process has ended, `EBUSY` or `EOPNOTSUPP` on cgroup
    /// v2 if the container has enabled controllers for sub-cgroups.
    pub fn attach(&self, pid: i32) -> Result<()> {
        match (move_into(self.directories(), pid), &self.scope, self.v2()) {
            (Err(error), Some(scope), Some(path))
                if scope.attaches()
                    && matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM)) =>
            {
                scope.attach(path, pid)
            }
            (moved, ..) => moved,
        }
    }

    /// Moves a process in the hierarchies of cgroup v1 only, after it was cloned into
    /// [`Cgroups::directory`].
    ///
    /// # Errors
    /// Those of [`Cgroups::attach`].
    pub fn attach_v1(&self, pid: i32) -> Result<()> {
        move_into(self.v1(), pid)
    }

    /// Returns the sub-cgroups with the given paths below this one, by controller, `""` for every
    /// hierarchy. They must exist already, which is not checked: the container creates them.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for a controller that the container does not have, or a path that
    /// leaves its cgroup.
    pub fn sub_cgroups(&self, paths: &BTreeMap<String, String>) -> Result<Self> {
        let mut below = self.clone();
        for (controller, path) in paths {
            let field = if controller.is_empty() { "cgroup" } else { controller };
            let refuse = |reason: &'static str| Error::config(field, path, reason);
            let relative = Path::new(path.trim_start_matches('/'));
            if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(refuse("leads out of the container's cgroup"));
            }
            let mut known = false;
            for (name, directory) in &mut below.paths {
                if controller.is_empty() || controller == name {
                    let parent = self.paths.get(name).map_or(directory.as_path(), PathBuf::as_path);
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

    /// Opens the directory of cgroup v2, for `CLONE_INTO_CGROUP`. Returns `None` without cgroup v2.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        let open = |path| Directory::existing(path).map(OwnedFd::from);
        self.v2().map(open).transpose()
    }

    /// Opens the `tasks` files of cgroup v1 for writing, and returns them with their paths. A
    /// process of one thread that writes `0` to each of them moves itself.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn tasks_files(&self) -> Result<Vec<(PathBuf, OwnedFd)>> {
        self.v1().into_iter().map(|path| open(path, TASKS)).collect()
    }

    /// Opens one file of each hierarchy for writing. A process of one thread that writes `0` to
    /// each of them moves itself.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn entry_files(&self) -> Result<Vec<OwnedFd>> {
        let tasks = self.tasks_files()?;
        let unified = self.v2().map(|path| open(path, PROCS)).transpose()?;
        Ok(tasks.into_iter().chain(unified).map(|(_, file)| file).collect())
    }

    /// Prepares the entrance of a process that is about to be cloned.
    ///
    /// # Errors
    /// A directory or file of the cgroup cannot be opened.
    pub fn entrance(&self) -> Result<Entrance<'_>> {
        span("open cgroups", || {
            // A user may clone only into cgroups below one that belongs to the user.
            if self.scope.as_ref().is_some_and(Scope::attaches) {
                return Ok(self.late_entrance());
            }
            let directory = self.directory()?;
            if self.keeps_memory_nodes()? {
                let tasks = self.tasks_files()?;
                return Ok(Entrance { directory, tasks, ..Entrance::default() });
            }
            Ok(Entrance { directory, late: Some(self), ..Entrance::default() })
        })
    }

    /// Prepares the entrance of a process that the caller moves after the clone. Only a clone is
    /// refused at the limit of processes, a move is not.
    pub fn late_entrance(&self) -> Entrance<'_> {
        Entrance { late: Some(self), unified: true, ..Entrance::default() }
    }

    /// Whether a process that shares the caller's memory may enter without changing that memory.
    ///
    /// The kernel rebinds the policies of all memory of a process that enters a cpuset of cgroup v1
    /// with other memory nodes (`mpol_rebind_mm`), and until its exec that memory is the caller's.
    fn keeps_memory_nodes(&self) -> Result<bool> {
        static ONE_NODE: OnceLock<bool> = OnceLock::new();
        let Some(path) = self.paths.get("cpuset") else { return Ok(true) };
        let has_one = || {
            let nodes = fs::read_to_string("/sys/devices/system/node/possible");
            // A kernel without NUMA has no such file.
            nodes.map_or(true, |nodes| nodes.trim() == "0")
        };
        if *ONE_NODE.get_or_init(has_one) {
            return Ok(true);
        }
        let nodes = Directory::existing(path)?.read("cpuset.effective_mems")?;
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let allowed = |status| proc::parse_value(status, "Mems_allowed_list");
        Ok(nodes.is_some_and(|nodes| allowed(&status) == Some(nodes.trim())))
    }

    /// Returns the processes in the cgroup and below it, in any hierarchy, by their ids in the
    /// caller's pid namespace. Empty if the cgroup no longer exists.
    ///
    /// # Errors
    /// A file cannot be read; more than 131072 sub-cgroups.
    pub fn processes(&self) -> Result<Vec<i32>> {
        Ok(self.members()?.into_iter().filter(|&pid| pid != 0).collect())
    }

    /// Returns the processes as [`Cgroups::processes`] does, with a 0 for those that are not in the
    /// caller's pid namespace.
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

/// Moves a process into several cgroups.
///
/// All files are opened before the first write. A write after a pause waits for an RCU grace period
/// of several milliseconds; writes that follow at once share it.
fn move_into<'a>(paths: impl IntoIterator<Item = &'a Path>, pid: i32) -> Result<()> {
    let files = paths.into_iter().map(|path| open(path, PROCS)).collect::<Result<Vec<_>>>()?;
    let text = pid.to_string();
    for (path, file) in files {
        rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes()))
            .map_err(|errno| entry_error(&path, pid, errno))?;
    }
    Ok(())
}

/// Returns the error for a process that could not enter a cgroup, with the file, the process that
/// was written to it, and a hint where the errno has a known reason.
pub fn entry_error(file: &Path, pid: i32, errno: Errno) -> Error {
    let error = Error::system("write", format!("{} = {pid}", file.display()), errno);
    match errno {
        Errno::BUSY | Errno::OPNOTSUPP => {
            error.with_hint("the container gave its controllers to sub-cgroups")
        }
        Errno::NOSPC => error.with_hint("the cpuset has no processors or no memory nodes"),
        _ => error,
    }
}

fn open(directory: &Path, file: &str) -> Result<(PathBuf, OwnedFd)> {
    let path = directory.join(file);
    let file = open_to_write(&path)?;
    Ok((path, file))
}
