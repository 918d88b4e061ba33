//! Control groups, which account, limit, freeze and kill the processes of a container.
//!
//! [`Cgroups`] is a container's cgroup in all hierarchies: one directory for each hierarchy of
//! cgroup v1, one for cgroup v2, or both on a hybrid host. It holds paths and no descriptors, so
//! that it can be stored with the container and restored by [`Cgroups::from_paths`].
//!
//! A cgroup that systemd makes has a [`Scope`].
//!
//! The life of a cgroup: [`locate`](Cgroups::locate), which changes nothing,
//! [`create`](Cgroups::create), [`delegate`](Cgroups::delegate) for a container that creates
//! cgroups itself, [`attach`](Cgroups::attach) or `CLONE_INTO_CGROUP` with
//! [`directory`](Cgroups::directory), then [`set`](Cgroups::set), [`stats`](Cgroups::stats),
//! [`freeze`](Cgroups::freeze) and so on, and finally [`kill`](Cgroups::kill) and
//! [`destroy`](Cgroups::destroy).
//!
//! References: `cgroups(7)`, the kernel's `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1`.

mod attach;
mod controllers;
mod create;
mod delegate;
mod device;
mod directory;
mod events;
mod freezer;
mod host;
mod kill;
mod knob;
mod remove;
mod scope;
mod stats;
mod tree;
mod undo;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use directory::{Directory, Version};
use knob::{IfAbsent, Knob};
use pidone_config::{Code, Error, Result, config};

pub use attach::{Entrance, entry_error};
pub use create::can_create;
pub use events::{Notice, PressureLevel, Watcher};
pub use freezer::Freezer;
pub use host::{Host, has_only_v2};
pub use scope::{Scope, Starting};
pub use stats::{
    BlkioEntry, BlkioStats, BurstData, CpuStats, CpuUsage, CpusetStats, HugetlbStats, MemoryData,
    MemoryStats, MiscStats, PageUsage, PageUsageByNuma, Pages, PidsStats, Pressure, Psi, RdmaEntry,
    RdmaStats, Stats, ThrottlingData,
};

/// The versions of cgroups that a host has mounted, or a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// No cgroups.
    #[default]
    None,
    /// cgroup v1 hierarchies only.
    V1,
    /// The controllers in cgroup v1 hierarchies, and a cgroup v2 hierarchy without them.
    Hybrid,
    /// cgroup v2 only, perhaps with systemd's v1 hierarchy that has no controllers.
    V2,
}

impl Mode {
    /// Derives the mode from names of controllers, `""` for cgroup v2.
    fn from_controllers<'a>(controllers: impl IntoIterator<Item = &'a String>) -> Self {
        let (mut v1, mut v2, mut named) = (false, false, false);
        for controller in controllers {
            match controller.as_str() {
                "" => v2 = true,
                name if name.starts_with("name=") => named = true,
                _ => v1 = true,
            }
        }
        match (v1, v2) {
            (true, true) => Self::Hybrid,
            (true, false) => Self::V1,
            (false, true) => Self::V2,
            (false, false) if named => Self::V1,
            (false, false) => Self::None,
        }
    }
}

/// A container's cgroup in every hierarchy.
///
/// The default value is a container without a cgroup. It has no processes and no statistics, and
/// operations that set no limit succeed.
///
/// ```
/// use std::path::Path;
///
/// use pidone_host::cgroup::{Cgroups, Mode};
///
/// # fn main() -> pidone_config::Result<()> {
/// // The empty key stands for cgroup v2.
/// let paths = [(String::new(), "/sys/fs/cgroup/example/box".into())].into();
/// let cgroups = Cgroups::from_paths(paths)?;
/// assert_eq!(cgroups.mode(), Mode::V2);
/// assert_eq!(cgroups.paths()[""], Path::new("/sys/fs/cgroup/example/box"));
/// // A cgroup that does not exist has no processes, and destroying it is no error.
/// assert!(cgroups.processes()?.is_empty());
/// cgroups.destroy()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    mode: Mode,
    /// Controller to directory, `""` for cgroup v2.
    paths: BTreeMap<String, PathBuf>,
    /// The parent directories that were created, outermost first.
    made_parents: Vec<PathBuf>,
    /// The scope, if systemd makes the cgroup.
    scope: Option<Scope>,
}

impl Cgroups {
    /// Computes the cgroup's directory in every mounted hierarchy, and checks that the
    /// configuration can be expressed there. Creates nothing.
    ///
    /// An absolute `parent` starts at the mount point of a hierarchy, any other at the cgroup of
    /// the calling process. Programs that start many containers call [`Host::locate`] instead.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` with the field: a name with an invalid component (components have 1 to
    /// 255 bytes, are not `.` or `..`, and have no control characters), a value out of range, a
    /// limit that cgroup v2 does not have, a limit whose controller is not mounted.
    pub fn locate(config: &config::Cgroup) -> Result<Self> {
        host::locate(config)
    }

    /// Restores the value from paths as returned by [`Cgroups::paths`].
    ///
    /// # Errors
    /// A path that is not absolute.
    pub fn from_paths(paths: BTreeMap<String, PathBuf>) -> Result<Self> {
        for path in paths.values() {
            if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
                return Err(not_a_containers(path, "the path is not absolute"));
            }
        }
        Ok(Self {
            mode: Mode::from_controllers(paths.keys()),
            paths,
            made_parents: Vec::new(),
            scope: None,
        })
    }

    /// Checks that the paths can belong to a container, before everything in them is killed.
    /// Directories that no longer exist are no error.
    ///
    /// # Errors
    /// A path that is not in a cgroup file system of the right version, or is the root of a
    /// hierarchy.
    pub fn verify(&self) -> Result<()> {
        for (controller, path) in &self.paths {
            let Some(directory) = Directory::open(path)? else { continue };
            let expected = if controller.is_empty() { Version::V2 } else { Version::V1 };
            if directory.version()? != expected {
                return Err(not_a_containers(path, "the cgroup is of the other version"));
            }
            if directory.parent()?.version().ok() != Some(expected) {
                let reason = "the root of a hierarchy does not belong to a container";
                return Err(not_a_containers(path, reason));
            }
        }
        Ok(())
    }

    /// Returns the directory of the cgroup by controller, `""` for cgroup v2.
    #[must_use]
    pub fn paths(&self) -> &BTreeMap<String, PathBuf> {
        &self.paths
    }

    /// Returns the versions of cgroups that the container uses.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the parent directories that [`Cgroups::create`] had to create.
    /// [`Cgroups::destroy`] removes those that are empty.
    #[must_use]
    pub fn made_parents(&self) -> &[PathBuf] {
        &self.made_parents
    }

    /// Restores what [`Cgroups::made_parents`] of an earlier value returned. Paths that are not
    /// above the cgroup are ignored.
    #[must_use]
    pub fn with_made_parents(mut self, parents: Vec<PathBuf>) -> Self {
        self.made_parents = parents;
        let Self { paths, made_parents, .. } = &mut self;
        made_parents.retain(|parent| paths.values().any(|path| path.starts_with(parent)));
        self
    }

    /// Returns the directory of cgroup v2.
    fn v2(&self) -> Option<&Path> {
        self.paths.get("").map(PathBuf::as_path)
    }

    /// Returns the directories of cgroup v1, each once, since controllers may share a hierarchy.
    fn v1(&self) -> BTreeSet<&Path> {
        let v1 = self.paths.iter().filter(|(controller, _)| !controller.is_empty());
        v1.map(|(_, path)| path.as_path()).collect()
    }

    /// Returns all directories, each once.
    fn directories(&self) -> BTreeSet<&Path> {
        self.paths.values().map(PathBuf::as_path).collect()
    }

    /// Opens the directory that has a controller's files. Returns `None` if the controller is not
    /// mounted or the cgroup does not exist.
    fn controller(&self, name: &str) -> Result<Option<Directory>> {
        let key = if self.mode == Mode::V2 { "" } else { name };
        self.paths.get(key).map_or(Ok(None), |path| Directory::open(path))
    }

    /// Refuses a configuration that this host's cgroups cannot express, before anything is created.
    fn check(&self, config: &config::Cgroup) -> Result<()> {
        if !config.systemd && !config.slice.is_empty() {
            let reason = "needs the systemd cgroup driver; this is the cgroupfs driver";
            return Err(Error::config("cgroups.slice", &config.slice, reason));
        }
        if let (Some(file), None) = (config.unified.keys().next(), self.v2()) {
            let field = format!("cgroups.unified.{file}");
            return Err(Error::config(field, "", "needs cgroup v2, which is not mounted"));
        }
        self.knobs(config)?;
        device::check(self, &device::Policy::from_config(config)?)
    }

    /// Returns the values to write. Their controllers are mounted, but on cgroup v2 need not be
    /// enabled yet.
    fn knobs(&self, config: &config::Cgroup) -> Result<Vec<Knob>> {
        if self.mode == Mode::V2 {
            let mut knobs = v2::knobs(config)?;
            if config.systemd {
                scope::round(&mut knobs)?;
            }
            return Ok(knobs);
        }
        let mut knobs = v1::knobs(config)?;
        knobs.retain(|knob| {
            knob.if_absent != IfAbsent::Skip || self.paths.contains_key(knob.controller)
        });
        match knobs.iter().find(|knob| !self.paths.contains_key(knob.controller)) {
            None => {
                knobs.extend(v2::unified(config)?);
                Ok(knobs)
            }
            Some(knob) => Err(knob.refusal(format!(
                "needs the cgroup controller `{}`, which is not mounted",
                knob.controller
            ))),
        }
    }
}

fn not_a_containers(path: &Path, reason: &'static str) -> Error {
    Error::reason(Code::SystemError, "open cgroup", path.to_string_lossy(), reason)
}

/// Returns the first field of the configuration that sets a limit, `None` if the container could
/// run without a cgroup. Rules about devices do not count.
///
/// # Errors
/// `Code::ConfigInvalid` for a value out of range.
pub fn first_limit(config: &config::Cgroup) -> Result<Option<&'static str>> {
    let mut knobs = v1::knobs(config)?;
    knobs.extend(v2::unified(config)?);
    Ok(knobs.iter().find(|knob| knob.if_absent != IfAbsent::Skip).map(|knob| knob.field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_no_container_can_own_are_refused() {
        let refused = |key: &str, path: &str| {
            let paths = BTreeMap::from([(key.to_owned(), PathBuf::from(path))]);
            let verified = Cgroups::from_paths(paths).and_then(|cgroups| cgroups.verify());
            verified.unwrap_err().to_string()
        };
        assert!(refused("cpu", "relative/path").ends_with("the path is not absolute"));
        assert!(refused("cpu", "/x/../y").ends_with("the path is not absolute"));
        assert!(refused("", "/").ends_with("not a cgroup file system"));
    }

    #[test]
    fn a_missing_cgroup_is_valid_and_empty() {
        let path = PathBuf::from("/nonexistent/cgroup");
        let paths = BTreeMap::from([(String::new(), path.clone()), ("cpu".into(), path)]);
        let cgroups = Cgroups::from_paths(paths).unwrap();
        cgroups.verify().unwrap();
        assert_eq!(cgroups.mode(), Mode::Hybrid);
        cgroups.destroy().unwrap();
        assert!(cgroups.processes().unwrap().is_empty());
    }

    #[test]
    fn a_container_without_a_cgroup_has_no_limits() {
        let mut none = Cgroups::default();
        let mut config = config::Cgroup {
            allow_all_devices: true,
            memory_swappiness: -1,
            ..config::Cgroup::default()
        };
        assert_eq!(first_limit(&config).unwrap(), None);
        none.create(&config).unwrap();
        none.kill().unwrap();
        assert_eq!(none.stats().unwrap(), Stats::default());

        let high = [("memory.high".to_owned(), "1".to_owned())].into();
        let unified = config::Cgroup { unified: high, ..config.clone() };
        assert_eq!(first_limit(&unified).unwrap(), Some("unified"));
        assert_eq!(
            none.create(&unified).unwrap_err().to_string(),
            "configuration `cgroups.unified.memory.high`: needs cgroup v2, which is not mounted"
        );

        config.pids_limit = Some(-1);
        assert_eq!(first_limit(&config).unwrap(), None);
        none.create(&config).unwrap();
        config.pids_limit = Some(5);
        assert_eq!(first_limit(&config).unwrap(), Some("pids_limit"));
        let error = none.create(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            "configuration `cgroups.pids_limit = 5`: \
             needs the cgroup controller `pids`, which is not mounted"
        );
    }

    #[test]
    fn a_systemd_slice_is_refused() {
        let config = config::Cgroup { slice: "a.slice".into(), ..config::Cgroup::default() };
        let error = Cgroups::default().check(&config).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
    }
}
