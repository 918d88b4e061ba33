//! The resctrl file system: groups of processes with shares of caches and of the bandwidth of
//! memory. Reference: the kernel's `filesystems/resctrl`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use pidone_config::config::IntelRdt;
use pidone_config::{Error, Result};
use rustix::io::Errno;

use crate::proc::{parse_mount_line, unescape};

const MOUNTINFO: &str = "/proc/self/mountinfo";
const SCHEMATA: &str = "schemata";
const TASKS: &str = "tasks";
const MON_GROUPS: &str = "mon_groups";

/// A group, and the monitoring group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
    monitoring: Option<PathBuf>,
}

impl Group {
    /// Returns the group of the container with an id, on the resctrl file system of the host.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] if none is mounted.
    pub fn locate(config: &IntelRdt, id: &str) -> Result<Self> {
        let text = fs::read(MOUNTINFO).map_err(|error| Error::path("read", MOUNTINFO, error))?;
        let mut lines = text.split(|&byte| byte == b'\n').filter_map(parse_mount_line);
        match lines.find(|line| line.file_system == b"resctrl" && line.root == b"/") {
            Some(line) => Ok(Self::below(&unescape(line.point), config, id)),
            None => {
                let reason = "needs the file system resctrl, which is not mounted";
                Err(Error::config("intel_rdt", "", reason))
            }
        }
    }

    fn below(root: &Path, config: &IntelRdt, id: &str) -> Self {
        let name = if config.clos_id.is_empty() { id } else { &config.clos_id };
        let path = root.join(name);
        let monitoring = config.monitoring.then(|| path.join(MON_GROUPS).join(id));
        Self { path, monitoring }
    }

    /// Makes the groups that do not exist, and sets the shares. Calls `made` with each directory
    /// that was made and ends with the container, before anything else is done with it.
    ///
    /// A group with a name is shared with others: it stays, as with runc, and one that exists must
    /// have these shares already.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] if it has others, or if there is none and no shares
    /// are configured; [`pidone_config::Code::SystemError`] with the file and the value that the
    /// kernel refuses.
    pub fn create(
        &self,
        config: &IntelRdt,
        mut made: impl FnMut(&Path) -> Result<()>,
    ) -> Result<()> {
        let refuse = |reason| Err(Error::config("intel_rdt.clos_id", &config.clos_id, reason));
        if !config.clos_id.is_empty() && config.schemata.is_empty() {
            if !exists(&self.path)? {
                return refuse("names a group that does not exist, and there are no schemata");
            }
        } else if make(&self.path)? {
            if config.clos_id.is_empty() {
                made(&self.path)?;
            }
            for line in &config.schemata {
                write(&self.path.join(SCHEMATA), line)?;
            }
        } else if config.clos_id.is_empty() {
            // One of another container with this id, perhaps of another runtime.
            return Err(Error::path("mkdir", &self.path, Errno::EXIST));
        } else {
            let file = self.path.join(SCHEMATA);
            let text = fs::read_to_string(&file).map_err(|e| Error::path("read", &file, e))?;
            if !has_all(&text, &config.schemata) {
                return refuse("is a group with other schemata");
            }
        }
        if let Some(path) = &self.monitoring {
            if !make(path)? {
                return Err(Error::path("mkdir", path, Errno::EXIST));
            }
            made(path)?;
        }
        Ok(())
    }

    /// Moves a process into the groups. What it forks is in them, too.
    ///
    /// # Errors
    /// [`pidone_config::Code::SystemError`] with the file.
    pub fn add(&self, pid: i32) -> Result<()> {
        let groups = [Some(&self.path), self.monitoring.as_ref()];
        groups.into_iter().flatten().try_for_each(|path| write(&path.join(TASKS), &pid.to_string()))
    }
}

/// Removes groups, those in others first. What is gone is no error.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path.
pub fn remove(groups: &[PathBuf]) -> Result<()> {
    for path in groups.iter().rev() {
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::path("rmdir", path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| Error::path("stat", path, error))
}

/// Makes a directory. Returns false if it exists.
fn make(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::path("mkdir", path, error)),
    }
}

/// Writes a value to a file, with one call.
fn write(path: &Path, value: &str) -> Result<()> {
    let line = format!("{value}\n");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| Error::system("write", format!("{} = {value}", path.display()), error))
}

/// Whether a group has all of these shares. Those that a line does not name may be any.
fn has_all(text: &str, wanted: &[String]) -> bool {
    let found: Vec<_> = text.lines().filter_map(shares).collect();
    // A later line replaces what earlier ones say.
    let mut expected: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (resource, values) in wanted.iter().filter_map(|line| shares(line)) {
        expected.entry(resource).or_default().extend(values);
    }
    expected.iter().all(|(resource, values)| {
        let line = found.iter().find(|(name, _)| name == resource);
        line.is_some_and(|(_, found)| {
            values.iter().all(|(domain, value)| found.get(domain) == Some(value))
        })
    })
}

/// Parses `L3:0=00ff;1=f`: the resource, and the shares by their domains, without leading zeros.
fn shares(line: &str) -> Option<(&str, BTreeMap<&str, &str>)> {
    let (resource, list) = line.trim().split_once(':')?;
    let pairs = list.split(';').filter_map(|pair| pair.split_once('='));
    let plain = |text: &'_ str| -> usize { text.len() - text.trim_start_matches('0').len() };
    let pairs = pairs.map(|(domain, value)| {
        let value = value.trim();
        let zeros = plain(value).min(value.len().saturating_sub(1));
        (domain.trim(), &value[zeros..])
    });
    Some((resource.trim(), pairs.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(clos_id: &str, schemata: &[&str], monitoring: bool) -> IntelRdt {
        let schemata = schemata.iter().map(|line| (*line).to_owned()).collect();
        IntelRdt { clos_id: clos_id.to_owned(), schemata, monitoring }
    }

    /// Makes the group of a container `id` on a file system below `root`.
    fn create(root: &Path, config: &IntelRdt) -> std::result::Result<Vec<PathBuf>, String> {
        let mut made = Vec::new();
        let group = Group::below(root, config, "id");
        let keep = |path: &Path| {
            // The kernel makes what is in a group with its directory.
            let _ = fs::create_dir(path.join(MON_GROUPS));
            made.push(path.to_owned());
            Ok(())
        };
        group.create(config, keep).map_err(|error| error.to_string())?;
        group.add(77).map_err(|error| error.to_string())?;
        Ok(made)
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_group_without_a_name_is_the_containers() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("id");
        let made = create(root.path(), &config("", &["L3:0=f"], true)).unwrap();
        assert_eq!(made, [group.clone(), group.join("mon_groups/id")]);
        assert_eq!(read(group.join("schemata")), "L3:0=f\n");
        assert_eq!(read(group.join("tasks")), "77\n");
        assert_eq!(read(group.join("mon_groups/id/tasks")), "77\n");
        let again = create(root.path(), &config("", &[], false)).unwrap_err();
        assert!(again.contains("exists"), "{again}");
    }

    #[test]
    fn a_group_with_a_name_is_shared_if_it_has_the_shares() {
        let root = tempfile::tempdir().unwrap();
        let gold = root.path().join("gold");
        let missing = create(root.path(), &config("gold", &[], false)).unwrap_err();
        assert!(missing.contains("does not exist"), "{missing}");
        assert!(!gold.exists());
        let made = create(root.path(), &config("gold", &["L3:0=f;1=3"], false)).unwrap();
        assert_eq!(made, [] as [PathBuf; 0], "it stays");
        fs::write(gold.join("schemata"), "    L3:0=00f;1=003\n    MB:0=100;1=100\n").unwrap();
        for same in [&["L3:0=f;1=3"][..], &["L3:1=03"], &["MB:0=10", "MB:0=100"], &[]] {
            assert_eq!(
                create(root.path(), &config("gold", same, false)).unwrap(),
                [] as [PathBuf; 0]
            );
        }
        for other in [["L3:0=ff"], ["L3:2=f"], ["L2:0=f"], ["MB:0=10"]] {
            let error = create(root.path(), &config("gold", &other, false)).unwrap_err();
            assert!(error.contains("other schemata"), "{error}");
        }
    }

    #[test]
    fn groups_are_removed_from_within() {
        let root = tempfile::tempdir().unwrap();
        let outer = root.path().join("id");
        let inner = outer.join("mon");
        fs::create_dir_all(&inner).unwrap();
        let groups = [outer.clone(), inner];
        remove(&groups).unwrap();
        assert!(!outer.exists());
        remove(&groups).unwrap();
    }
}
