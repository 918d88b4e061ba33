//! Creating a cgroup, and changing its limits.

use std::path::{Path, PathBuf};

use pidone_config::config::{self, Freezer};
use pidone_config::{Code, Error, Result};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::directory::{Directory, Version};
use super::knob::{self, Knob, UNIFIED};
use super::undo::FormerValues;
use super::{Cgroups, Mode, controllers, device, freezer, tree, v1, v2};

/// How often a parent may vanish between its creation and its use. Other containers that share the
/// parent remove it when they end.
const ATTEMPTS: u32 = 100;

impl Cgroups {
    /// Creates the cgroup and its missing parents in every hierarchy, and writes the limits.
    ///
    /// An existing cgroup is used if it has no processes. After an error everything that was
    /// created is removed.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for a field that cannot be honoured; an existing cgroup that has
    /// processes or is frozen; the file, the value and the errno of a write that failed.
    pub fn create(&mut self, config: &config::Cgroup) -> Result<()> {
        if config.freezer == Freezer::Frozen {
            let reason = "a container cannot start frozen";
            return Err(Error::config("cgroups.freezer", "FROZEN", reason));
        }
        self.check(config)?;
        let knobs = self.knobs(config)?;
        let policy = device::Policy::from_config(config)?;
        let mut made = Vec::new();
        let built = self.build(&knobs, &policy, &mut made);
        if built.is_err() {
            remove_made(&made);
            return built;
        }
        let leaves = self.directories();
        made.retain(|path| !leaves.contains(path.as_path()));
        self.made_parents = made;
        Ok(())
    }

    fn build(
        &self,
        knobs: &[Knob],
        policy: &device::Policy,
        made: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let mut all_new = true;
        for path in self.directories() {
            let is_new = make(path, made)?;
            if !is_new {
                refuse_used(&Directory::existing(path)?)?;
            }
            all_new &= is_new;
            self.refuse_frozen(path)?;
        }
        v1::inherit_cpuset(self, made)?;
        self.apply(knobs)?;
        // A new cgroup of cgroup v2 has no device program to detach.
        if all_new && self.mode == Mode::V2 && policy.is_open() {
            return Ok(());
        }
        device::apply(self, policy)
    }

    /// Returns the directories above the cgroup that do not exist now, outermost first.
    pub fn missing_parents(&self) -> Vec<PathBuf> {
        let mut missing = Vec::new();
        for path in self.directories() {
            let above = path.ancestors().skip(1).take_while(|path| !path.exists());
            let first = missing.len();
            missing.extend(above.map(Path::to_owned));
            missing[first..].reverse();
        }
        missing
    }

    /// Refuses a frozen cgroup, or one below a frozen one, which would stop the container's first
    /// process before it could report anything.
    fn refuse_frozen(&self, path: &Path) -> Result<()> {
        let is = |key: &str| self.paths.get(key).is_some_and(|own| own == path);
        let version = match (is(""), is("freezer")) {
            (true, _) => Version::V2,
            (_, true) => Version::V1,
            _ => return Ok(()),
        };
        if !freezer::would_stop(path, version)? {
            return Ok(());
        }
        let path = path.to_string_lossy();
        Err(Error::reason(Code::SystemError, "create cgroup", path, "the cgroup is frozen"))
    }

    /// Writes all limits of the configuration to an existing cgroup, which may have processes.
    ///
    /// A field that is not set leaves the kernel's value. The freezer is changed last.
    ///
    /// # Errors
    /// Those of [`Cgroups::create`]. The limits that were written before get their former values.
    pub fn set(&self, config: &config::Cgroup) -> Result<()> {
        self.check(config)?;
        if let (Mode::V2, Some(path)) = (self.mode, self.v2()) {
            v2::refuse_below_usage(&Directory::existing(path)?, config)?;
        }
        let knobs = self.knobs(config)?;
        let former = self.former_values(&knobs)?;
        self.change(config, &knobs)
            .and_then(|()| self.set_scope(config))
            .inspect_err(|_| former.restore())
    }

    /// Writes all limits, and changes the freezer last.
    fn change(&self, config: &config::Cgroup, knobs: &[Knob]) -> Result<()> {
        self.apply(knobs)?;
        if self.mode != Mode::V2 {
            v1::enable_oom_killer(self, config)?;
        }
        device::apply(self, &device::Policy::from_config(config)?)?;
        match config.freezer {
            Freezer::Undefined => Ok(()),
            Freezer::Frozen => self.freeze(),
            Freezer::Thawed => self.thaw(),
        }
    }

    /// Reads the values that [`Cgroups::change`] replaces.
    fn former_values(&self, knobs: &[Knob]) -> Result<FormerValues> {
        let mut former = FormerValues::default();
        for knob in knobs {
            let Some(path) = self.paths.get(self.key(knob)) else { continue };
            former.add(Directory::existing(path)?, std::slice::from_ref(knob))?;
        }
        if self.mode != Mode::V2
            && let Some(memory) = self.controller("memory")?
        {
            former.add_oom_control(memory)?;
        }
        Ok(former)
    }

    fn apply(&self, knobs: &[Knob]) -> Result<()> {
        let in_v2 = |knob: &&Knob| self.key(knob).is_empty();
        let needed: Vec<Knob> = knobs.iter().filter(in_v2).cloned().collect();
        if let Some(path) = self.v2()
            && (self.mode == Mode::V2 || !needed.is_empty())
        {
            controllers::enable(&Directory::existing(path)?, &needed)?;
        }
        let place = |knob: &Knob| (self.key(knob), knob.controller);
        for group in knobs.chunk_by(|a, b| place(a) == place(b)) {
            let Some(first) = group.first() else { continue };
            let Some(path) = self.paths.get(self.key(first)) else { continue };
            knob::apply(&Directory::existing(path)?, group)?;
        }
        Ok(())
    }

    /// Returns the key of `paths` for the hierarchy that a value is written to.
    fn key(&self, knob: &Knob) -> &'static str {
        if self.mode == Mode::V2 || knob.field == UNIFIED { "" } else { knob.controller }
    }
}

/// Whether the caller may create the cgroup of a configuration in all hierarchies and move
/// processes into it.
///
/// For a scope, systemd decides when it is asked.
pub fn can_create(config: &config::Cgroup) -> bool {
    if config.systemd {
        return true;
    }
    let writable = |path: &Path| {
        let parent = path.ancestors().skip(1).find(|ancestor| ancestor.exists());
        // Moving a process needs write permission on `cgroup.procs` of the common ancestor too.
        parent.is_some_and(|parent| {
            [parent.to_owned(), parent.join("cgroup.procs")]
                .iter()
                .all(|path| accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok())
        })
    };
    Cgroups::locate(config).is_ok_and(|cgroups| cgroups.paths().values().all(|path| writable(path)))
}

/// Creates a cgroup and its missing parents, and adds each to `made`. Returns whether the cgroup is
/// new.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                made.push(path.to_owned());
                return Ok(true);
            }
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::NOENT) => {
                let parent = path.parent();
                make(parent.ok_or_else(|| Error::path("mkdir", path, Errno::INVAL))?, made)?;
            }
            Err(errno) => return Err(Error::path("mkdir", path, errno)),
        }
    }
    Err(Error::path("mkdir", path, Errno::NOENT))
}

fn remove_made(made: &[PathBuf]) {
    for path in made.iter().rev() {
        // The first error is the one to report.
        let _ = rustix::fs::rmdir(path);
    }
}

fn refuse_used(directory: &Directory) -> Result<()> {
    let processes = tree::processes(directory)?;
    if processes.is_empty() {
        return Ok(());
    }
    Err(Error::reason(
        Code::SystemError,
        "create cgroup",
        directory.path().to_string_lossy(),
        format!("it exists and has processes: {}", tree::describe(&processes)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parents_are_created_and_removed_in_reverse() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        let mut made = Vec::new();
        assert!(make(&path, &mut made).unwrap());
        assert_eq!(made, ["a", "a/b", "a/b/c"].map(|path| root.path().join(path)));
        assert!(!make(&path, &mut Vec::new()).unwrap());
        remove_made(&made);
        assert!(std::fs::read_dir(root.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_configuration_that_starts_frozen_is_refused() {
        let config = config::Cgroup { freezer: Freezer::Frozen, ..config::Cgroup::default() };
        let error = Cgroups::default().create(&config).unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration `cgroups.freezer = FROZEN`: a container cannot start frozen"
        );
    }
}
