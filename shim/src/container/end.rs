//! The end of a container: its processes killed, and nothing of it left on the host.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, unlinkat};
use rustix::process::Signal;

use super::{Container, owner};
use crate::cgroup::Cgroups;
use crate::error::{Code, Error, Result};
use crate::journal::Journal;
use crate::lock::Lock;
use crate::{net, notify, process};

impl Container {
    /// Removes a container that does not run, with all that it has on the host.
    ///
    /// # Errors
    /// [`Code::ContainerNotStopped`] if its first process runs; [`Code::SystemError`] if
    /// something cannot be removed: it can be tried again then.
    pub fn destroy(&mut self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        if self.open_init()?.is_some() {
            return Err(self.not(Code::ContainerNotStopped, "destroy", "container is not stopped"));
        }
        self.clean()?;
        self.remove_directory()?;
        self.poststop = self.hooks(None).poststop();
        Ok(())
    }

    /// The hooks that failed behind [`Container::destroy`]: the container is gone all the same.
    pub fn poststop_failures(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.poststop)
    }

    /// Kills all processes of the container, frozen or not, and waits for their end.
    ///
    /// # Errors
    /// [`Code::SystemError`] if they do not end.
    pub fn kill(&mut self) -> Result<()> {
        let _lock = Lock::take(self.directory.as_fd(), self.id())?;
        self.refresh()?;
        let init = self.open_init()?;
        if let Some(init) = &init {
            let _ = process::send(init.as_fd(), self.state.init_process_pid, Signal::KILL.as_raw());
        }
        let journal = Journal::read(self.directory.as_fd())?;
        if let Some(cgroups) = self.own_cgroups(&journal)? {
            cgroups.verify()?;
            cgroups.kill()?;
        }
        match init {
            Some(init) => crate::pid::wait_for_end(init.as_fd(), self.state.init_process_pid),
            None => Ok(()),
        }
    }

    /// Removes what is left of the container on the host, outside its directory.
    pub(super) fn clean(&self) -> Result<()> {
        let journal = Journal::read(self.directory.as_fd())?;
        if let Some(cgroups) = self.own_cgroups(&journal)? {
            if !cgroups.destroy_if_empty() {
                cgroups.verify()?;
                cgroups.kill()?;
                cgroups.destroy()?;
            }
        } else {
            // They were about to be made. If they are another container's, with its processes,
            // they cannot be removed.
            let leaves = journal.cgroups.iter().flat_map(BTreeMap::values);
            for path in leaves.chain(journal.cgroups_missing.iter().rev()) {
                let _ = std::fs::remove_dir(path);
            }
        }
        let links = self.state.host_links.iter().chain(&journal.host_links);
        net::remove(&owner(&self.path), links.map(String::as_str))
    }

    /// The cgroups that are known to be this container's, and not only asked for.
    pub(super) fn own_cgroups(&self, journal: &Journal) -> Result<Option<Cgroups>> {
        let (paths, parents) = match (&journal.cgroups, &journal.cgroups_made) {
            (Some(paths), Some(parents)) => (paths, parents.clone()),
            // The journal is lost; a container that was started has made them.
            (None, _) if self.state.init_process_pid > 0 => (&self.state.cgroup_paths, Vec::new()),
            _ => return Ok(None),
        };
        Ok(Some(Cgroups::from_paths(paths.clone())?.with_made_parents(parents)))
    }

    /// Removes the container's directory; from here on the id is free.
    fn remove_directory(&self) -> Result<()> {
        notify::remove(self.directory.as_fd())?;
        let entries = std::fs::read_dir(&self.path)
            .map_err(|error| Error::path("read", &self.path, error))?;
        for entry in entries {
            let name = entry.map_err(|error| Error::path("read", &self.path, error))?.file_name();
            unlinkat(&self.directory, &name, AtFlags::empty())
                .map_err(|errno| Error::path("unlink", self.path.join(&name), errno))?;
        }
        std::fs::remove_dir(&self.path).map_err(|error| Error::path("rmdir", &self.path, error))
    }
}
