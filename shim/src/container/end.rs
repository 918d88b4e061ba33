//! The end of a container: killing its processes and removing what it has on the host.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::PoisonError;

use pidone_config::{Code, Error, Result};
use pidone_host::cgroup::{Cgroups, Scope};
use pidone_host::{net, pidfd, resctrl};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::Signal;

use super::{Container, children, owner};
use crate::container::state::journal::{Entry, Journal};
use crate::container::state::lock::Lock;

impl Container {
    /// Removes a stopped container: its cgroups, its interfaces on the host, and its directory.
    ///
    /// Processes that remain in its cgroups are killed. The `poststop` hooks run last; their errors
    /// are in [`Container::poststop_failures`], and that of a [damaged](Container::is_damaged)
    /// state.
    ///
    /// # Errors
    /// [`Code::ContainerNotStopped`] if its first process runs; [`Code::SystemError`] if
    /// something cannot be removed, after which the call can be repeated.
    pub fn destroy(&mut self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        self.destroy_locked()
    }

    /// Does the work of [`Container::destroy`] with the lock held and a current state.
    pub(super) fn destroy_locked(&self) -> Result<()> {
        if self.open_init()?.is_some() {
            return Err(self.error(
                Code::ContainerNotStopped,
                "destroy",
                "container is not stopped",
            ));
        }
        self.clean()?;
        self.remove_directory()?;
        let state = self.known();
        let mut failures = self.hooks(&state, None).poststop();
        if self.is_damaged() {
            let reason = "the state is damaged: processes and cgroups may be left";
            failures.push(Error::reason(Code::SystemError, "delete", self.id(), reason));
        }
        *self.poststop.lock().unwrap_or_else(PoisonError::into_inner) = failures;
        Ok(())
    }

    /// Returns, and forgets, what [`Container::destroy`] could not do: hooks that failed, and
    /// cgroups that a damaged state does not name. The container was removed nevertheless.
    pub fn poststop_failures(&mut self) -> Vec<Error> {
        std::mem::take(self.poststop.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Kills all processes of the container, frozen or not, and waits until they have ended.
    ///
    /// The first process is not reaped: [`Running::wait`](crate::Running::wait) returns its exit.
    /// This also kills what remains in the cgroups after the first process has ended, and succeeds
    /// if nothing runs.
    ///
    /// # Errors
    /// [`Code::SystemError`] if they do not end.
    pub fn kill(&self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        let init = self.open_init()?;
        if let Some(init) = &init {
            let _ = pidfd::send(init.as_fd(), self.pid(), Signal::KILL.as_raw());
        }
        let journal = Journal::read(self.directory.as_fd())?;
        if let Some(cgroups) = self.own_cgroups(&journal)? {
            cgroups.verify()?;
            cgroups.kill()?;
        }
        match init {
            Some(init) => children::wait_for_killed(init.as_fd(), self.pid()),
            None => Ok(()),
        }
    }

    /// Removes what the container has on the host, except for its directory.
    pub(super) fn clean(&self) -> Result<()> {
        let journal = Journal::read(self.directory.as_fd())?;
        if let Some(cgroups) = self.own_cgroups(&journal)? {
            if cgroups.scope().is_some() || !cgroups.destroy_if_empty() {
                cgroups.verify()?;
                cgroups.kill()?;
                cgroups.destroy()?;
            }
        } else {
            // The journal announced these cgroups but does not say that they were made. Any that
            // belong to another container hold its processes, so that removing them fails.
            let leaves = || journal.cgroups.iter().flat_map(BTreeMap::values);
            if let Some(unit) = &journal.scope {
                leaves().try_for_each(|path| Scope::from_unit(unit).stop_abandoned(path))?;
            }
            for path in leaves().chain(journal.cgroups_missing.iter().rev()) {
                let _ = std::fs::remove_dir(path);
            }
        }
        if !journal.resctrl.is_empty() {
            resctrl::remove(&journal.resctrl)?;
            // Another container may make groups of these names.
            Journal::append(self.directory.as_fd(), &[Entry::ResctrlMade(Vec::new())])?;
        }
        let state = self.known();
        let links = state.host_links.iter().chain(&journal.host_links);
        net::remove(&owner(&self.path), links.map(String::as_str))
    }

    /// Returns the cgroups that this container is known to have made, not only configured.
    pub(super) fn own_cgroups(&self, journal: &Journal) -> Result<Option<Cgroups>> {
        let state = self.known();
        let (paths, parents) = match (&journal.cgroups, &journal.cgroups_made) {
            (Some(paths), Some(parents)) => (paths, parents.clone()),
            // The journal is lost, but a container that was started has made its cgroups.
            (None, _) if state.init_process_pid > 0 => (&state.cgroup_paths, Vec::new()),
            _ => return Ok(None),
        };
        let scope = match (&journal.scope, &state.config.cgroups) {
            (Some(unit), _) => Some(Scope::from_unit(unit)),
            (None, Some(limits)) if journal.cgroups.is_none() => Scope::of(limits)?,
            _ => None,
        };
        let cgroups = Cgroups::from_paths(paths.clone())?;
        Ok(Some(cgroups.with_made_parents(parents).with_scope(scope)))
    }

    /// Removes the container's directory, which frees the id.
    fn remove_directory(&self) -> Result<()> {
        remove_entries(self.directory.as_fd(), &self.path)?;
        std::fs::remove_dir(&self.path).map_err(|error| Error::path("rmdir", &self.path, error))
    }
}

/// Removes everything in a container's directory.
///
/// A subdirectory was put there by another program, for instance to bind a socket in it into the
/// container.
fn remove_entries(directory: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let entries = std::fs::read_dir(path).map_err(|error| Error::path("read", path, error))?;
    for entry in entries {
        let name = entry.map_err(|error| Error::path("read", path, error))?.file_name();
        let fail = |verb, errno| Error::path(verb, path.join(&name), errno);
        match unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(directory, &name, flags, Mode::empty())
                    .map_err(|errno| fail("open", errno))?;
                remove_entries(below.as_fd(), &path.join(&name))?;
                unlinkat(directory, &name, AtFlags::REMOVEDIR)
                    .map_err(|errno| fail("rmdir", errno))?;
            }
            Err(errno) => return Err(fail("unlink", errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_links_and_directories_are_removed_and_link_targets_kept() {
        let base = tempfile::tempdir().unwrap();
        let (state, other) = (base.path().join("state"), base.path().join("other"));
        for directory in [&state, &other, &state.join("notify")] {
            fs::create_dir(directory).unwrap();
        }
        for file in [state.join("state.json"), state.join("notify/notify.sock"), other.join("kept")]
        {
            fs::write(file, "").unwrap();
        }
        symlink(&other, state.join("link")).unwrap();
        remove_entries(File::open(&state).unwrap().as_fd(), &state).unwrap();
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        assert!(other.join("kept").exists());
    }
}
