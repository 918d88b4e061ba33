//! Removing a cgroup.

use std::path::Path;
use std::time::{Duration, Instant};

use pidone_config::{Code, Error, Result};
use rustix::io::Errno;

use super::directory::{Directory, is_gone};
use super::{Cgroups, Scope, tree};

/// How long a cgroup may stay busy. Processes leave it a little after they have ended.
const TIMEOUT: Duration = Duration::from_secs(2);

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

impl Cgroups {
    /// Removes the cgroup as [`Cgroups::destroy`] does, if it has no processes and no sub-cgroups,
    /// with one system call for each hierarchy. Returns whether everything was removed.
    #[must_use]
    pub fn destroy_if_empty(&self) -> bool {
        let removed = |path: &Path| match rustix::fs::rmdir(path) {
            Ok(()) => true,
            Err(errno) => is_gone(errno),
        };
        let all = self.directories().into_iter().filter(|path| !removed(path)).count() == 0;
        all && self.destroy_parents().is_ok()
    }

    /// Removes the cgroup and everything below it from every hierarchy, after systemd has ended its
    /// scope, if it has one. Then the parents that
    /// [`Cgroups::create`] had created, if they are empty. Cgroups that do not exist count as
    /// removed.
    ///
    /// # Errors
    /// A cgroup that still has processes after two seconds, with their ids. It is still removed
    /// from the other hierarchies.
    pub fn destroy(&self) -> Result<()> {
        let mut outcome = self.scope().map_or(Ok(()), Scope::stop);
        let deadline = Instant::now() + TIMEOUT;
        for path in self.directories() {
            outcome = outcome.and(remove(path, deadline));
        }
        outcome.and(self.destroy_parents())
    }

    fn destroy_parents(&self) -> Result<()> {
        let mut outcome = Ok(());
        for path in self.made_parents.iter().rev() {
            match rustix::fs::rmdir(path) {
                // Another container or program may use it.
                Ok(()) | Err(Errno::BUSY | Errno::NOTEMPTY) => {}
                Err(errno) if is_gone(errno) => {}
                Err(errno) => outcome = outcome.and(Err(Error::path("rmdir", path, errno))),
            }
        }
        outcome
    }
}

fn remove(path: &Path, deadline: Instant) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut is_late = false;
    loop {
        let errno = match rustix::fs::rmdir(path) {
            Ok(()) => return Ok(()),
            Err(errno) if is_gone(errno) => return Ok(()),
            Err(errno @ (Errno::BUSY | Errno::NOTEMPTY)) => errno,
            Err(errno) => return Err(Error::path("rmdir", path, errno)),
        };
        let Some(directory) = Directory::open(path)? else { return Ok(()) };
        if is_late {
            return Err(busy(&directory, errno)?);
        }
        // After the deadline, which other hierarchies may have used up, one attempt follows.
        is_late = Instant::now() >= deadline;
        if !remove_below(&directory)? {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Removes sub-cgroups, deepest first. Returns whether one was removed.
fn remove_below(directory: &Directory) -> Result<bool> {
    let mut removed = false;
    let leave = |parent: &Directory, name: &std::ffi::OsStr| match parent.remove(name) {
        Ok(()) => {
            removed = true;
            Ok(())
        }
        // The caller tries again, or reports it.
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(()),
        Err(errno) if is_gone(errno) => Ok(()),
        Err(errno) => Err(Error::path("rmdir", parent.path().join(name), errno)),
    };
    tree::walk(directory, |_| Ok(()), leave)?;
    Ok(removed)
}

fn busy(directory: &Directory, errno: Errno) -> Result<Error> {
    let members = tree::processes(directory)?;
    if members.is_empty() {
        return Ok(Error::path("rmdir", directory.path(), errno));
    }
    let path = directory.path().to_string_lossy();
    let reason = format!("it has processes: {}", tree::describe(&members));
    Ok(Error::reason(Code::SystemError, "rmdir", path, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_tree_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("top");
        for below in ["a/b/c", "a/d", "e"] {
            std::fs::create_dir_all(path.join(below)).unwrap();
        }
        remove(&path, Instant::now() + TIMEOUT).unwrap();
        assert!(!path.exists());
        remove(&path, Instant::now()).unwrap();
    }

    #[test]
    fn an_error_has_the_processes_of_the_cgroup() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/cgroup.procs"), "12\n34\n").unwrap();
        let error = remove(root.path(), Instant::now()).unwrap_err().to_string();
        assert!(error.ends_with("it has processes: 12, 34"), "{error}");
    }

    #[test]
    fn only_empty_parents_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let [outer, inner] = ["outer", "outer/inner"].map(|path| root.path().join(path));
        std::fs::create_dir_all(&inner).unwrap();
        let stranger = root.path().join("stranger");
        std::fs::create_dir(&stranger).unwrap();
        std::fs::create_dir(outer.join("other")).unwrap();
        let paths = [("cpu".to_owned(), inner.join("leaf"))].into();
        let cgroups = Cgroups { paths, ..Cgroups::default() };
        let parents = vec![stranger.clone(), outer.clone(), inner.clone()];
        cgroups.with_made_parents(parents).destroy().unwrap();
        assert!(!inner.exists() && outer.exists() && stranger.exists());
    }
}
