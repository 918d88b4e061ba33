//! What the host makes beside the init: file systems that need nothing of the container, and what
//! is in its `/dev`.
//!
//! The init attaches them. That saves it half of its work on a default container, which another
//! processor does meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};

use super::devices::{self, LINKS};
use super::mount::{self, MS_BIND, MS_RDONLY, MS_REMOUNT};
use super::{clean, text};
use crate::config::{Config, Mount};
use crate::error::Result;

/// A file system that the host makes, detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type.
    pub fstype: CString,
    /// Its options, each a key and a value, which is empty for a flag.
    pub options: Vec<(CString, CString)>,
    /// `MOUNT_ATTR_*` flags of the mount.
    pub attributes: u32,
    /// What is made in its root.
    pub entries: Vec<Entry>,
    /// Where it will be, with a slash at the end, for messages.
    pub at: String,
}

/// Something in the root of a new file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory {
        /// Its name.
        name: CString,
        /// The permission bits.
        mode: u32,
    },
    /// A device node: `mknodat(2)`.
    Node {
        /// Its name.
        name: CString,
        /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO` with permission bits.
        mode: u32,
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// A symbolic link.
    Link {
        /// Its name.
        name: CString,
        /// What it points to.
        target: CString,
    },
}

impl Entry {
    /// What is done to make it, and its name.
    pub(crate) fn subject(&self) -> (&'static str, &CStr) {
        match self {
            Self::Directory { name, .. } => ("mkdir", name),
            Self::Node { name, .. } => ("mknod", name),
            Self::Link { name, .. } => ("symlink", name),
        }
    }
}

/// What of a container is made beside its init.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// File systems, by the index of their mount.
    pub(super) file_systems: BTreeMap<usize, FileSystem>,
    /// Paths of nodes and links in them.
    paths: BTreeSet<String>,
}

impl Ahead {
    /// What can be made beside the init of a container in its caller's user namespace.
    pub(super) fn of(config: &Config) -> Result<Self> {
        let mut ahead = Self::default();
        for (index, mount) in config.mounts.iter().enumerate() {
            if is_own(mount) {
                ahead.file_systems.insert(index, file_system(config, mount)?);
            }
        }
        ahead.furnish(config)?;
        Ok(ahead)
    }

    /// Whether a mount is the first of them.
    pub(super) fn is_first(&self, index: usize) -> bool {
        self.file_systems.first_key_value().is_some_and(|(&first, _)| first == index)
    }

    /// Whether a node or link is made in one of them.
    pub(super) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Has all made in `/dev` that is a matter of this file system alone.
    fn furnish(&mut self, config: &Config) -> Result<()> {
        let places: Vec<_> = config.mounts.iter().map(|mount| clean(&mount.destination)).collect();
        let mut at_dev = (0..places.len()).filter(|&index| places[index] == "/dev");
        let (Some(dev), None) = (at_dev.next(), at_dev.next()) else { return Ok(()) };
        let covered = places[dev..].iter().any(|place| place == "/");
        let read_only = config.mounts[dev].flags & MS_RDONLY != 0;
        let Some(made) = self.file_systems.get_mut(&dev).filter(|_| !covered && !read_only) else {
            return Ok(());
        };
        if made.fstype.as_c_str() != c"tmpfs" {
            return Ok(());
        }
        // Each name once: what of two things in one place wins is for the init to find out.
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let devices: Vec<_> = config.devices.iter().map(|device| clean(&device.path)).collect();
        let links = LINKS.iter().filter_map(|(_, path)| path.to_str().ok());
        for path in places.iter().chain(&devices).map(String::as_str).chain(links) {
            *seen.entry(path).or_default() += 1;
        }
        let is_alone = |path: &str| seen.get(path) == Some(&1) && name(path).is_some();
        for (mount, place) in config.mounts.iter().zip(&places).skip(dev + 1) {
            // What takes its mode from its place has the kernel's own where there is none.
            let copies = is_bind(mount) || mount::begins_with_copy(mount);
            if let Some(name) = name(place).filter(|_| is_alone(place) && !copies) {
                let name = text("mounts.destination", name)?;
                made.entries.push(Entry::Directory { name, mode: 0o755 });
            }
        }
        for (device, path) in config.devices.iter().zip(&devices) {
            if let Some(name) = name(path).filter(|_| is_alone(path)) {
                made.entries.push(devices::entry(device, name)?);
                self.paths.insert(path.clone());
            }
        }
        for (target, path) in LINKS {
            let Some(path) = path.to_str().ok().filter(|path| is_alone(path)) else { continue };
            let name = text("links.path", name(path).unwrap_or_default())?;
            made.entries.push(Entry::Link { name, target: target.to_owned() });
            self.paths.insert(path.to_owned());
        }
        Ok(())
    }
}

/// The name of what is right in `/dev`.
fn name(path: &str) -> Option<&str> {
    path.strip_prefix("/dev/").filter(|name| !name.is_empty() && !name.contains('/'))
}

fn is_bind(mount: &Mount) -> bool {
    mount.device == "bind" || mount.flags & MS_BIND != 0
}

/// Whether a mount is a file system that is the same whoever makes it, and that takes nothing from
/// what it covers.
fn is_own(mount: &Mount) -> bool {
    matches!(mount.device.as_str(), "tmpfs" | "devpts")
        && mount.flags & (MS_BIND | MS_REMOUNT) == 0
        && !mount::is_legacy(mount)
        && !mount::begins_with_copy(mount)
        && mount::own_propagation(mount) == 0
}

fn file_system(config: &Config, mount: &Mount) -> Result<FileSystem> {
    let options = mount::options(config, mount)?;
    let mut strings = super::view(&options).iter().map(CStr::to_owned);
    let pairs = std::iter::from_fn(|| Some((strings.next()?, strings.next()?)));
    Ok(FileSystem {
        fstype: text("mounts.device", &mount.device)?,
        options: pairs.collect(),
        attributes: u32::try_from(mount::attributes(mount.flags)).unwrap_or(0),
        entries: Vec::new(),
        at: format!("{}/", clean(&mount.destination)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Device, default};

    fn mount(device: &str, destination: &str, data: &str) -> Mount {
        Mount {
            source: device.into(),
            device: device.into(),
            destination: destination.into(),
            data: data.into(),
            ..Mount::default()
        }
    }

    fn device(path: &str) -> Device {
        let null = default::simple_devices().into_iter().find(|device| device.path == "/dev/null");
        Device { path: path.into(), ..null.unwrap() }
    }

    fn usual() -> Config {
        Config {
            mounts: vec![
                mount("proc", "/proc", ""),
                mount("tmpfs", "/dev", "mode=755"),
                mount("devpts", "/dev/pts", "newinstance,gid=5"),
                mount("mqueue", "/dev/mqueue", ""),
                mount("sysfs", "/sys", ""),
            ],
            devices: vec![device("/dev/null"), device("/dev/net/tun")],
            ..Config::default()
        }
    }

    /// The names of what is made in `/dev`, and the indices of the mounts.
    fn ahead(config: &Config) -> (Vec<String>, Vec<usize>) {
        let ahead = Ahead::of(config).unwrap();
        let dev = ahead.file_systems.values().find(|made| made.at == "/dev/");
        let names = dev.map_or(&[][..], |made| &made.entries).iter();
        let names = names.map(|entry| entry.subject().1.to_str().unwrap().to_owned());
        (names.collect(), ahead.file_systems.into_keys().collect())
    }

    #[test]
    fn what_depends_on_namespaces_is_left_to_the_init() {
        let (names, mounts) = ahead(&usual());
        assert_eq!(mounts, [1, 2]);
        let expected = ["pts", "mqueue", "null", "fd", "stdin", "stdout", "stderr", "core"];
        assert_eq!(names, expected);
        let made = Ahead::of(&usual()).unwrap();
        assert!(made.has("/dev/null") && made.has("/dev/fd") && !made.has("/dev/net/tun"));
        assert_eq!(made.file_systems[&2].options[1], (c"gid".to_owned(), c"5".to_owned()));
        assert!(made.is_first(1) && !made.is_first(2));
    }

    #[test]
    fn what_takes_from_its_place_is_left_to_the_init() {
        let mut config = usual();
        config.mounts[1].data = String::new();
        assert_eq!(ahead(&config), (vec![], vec![2]), "the mode is that of what it covers");
        config.mounts[1] = Mount { flags: MS_BIND, ..mount("tmpfs", "/dev", "mode=755") };
        assert_eq!(ahead(&config), (vec![], vec![2]));
        config.mounts[1] = Mount { propagation: 1 << 20, ..mount("tmpfs", "/dev", "mode=755") };
        assert_eq!(ahead(&config), (vec![], vec![2]));
    }

    #[test]
    fn no_place_is_made_for_what_would_take_its_mode() {
        let mut config = usual();
        config.mounts.push(mount("tmpfs", "/dev/shm", ""));
        assert!(!ahead(&config).0.contains(&"shm".to_owned()));
        config.mounts[5].data = "mode=1777".into();
        assert!(ahead(&config).0.contains(&"shm".to_owned()));
    }

    #[test]
    fn nothing_is_made_in_what_is_covered_or_read_only() {
        let mut config = usual();
        config.mounts.push(mount("tmpfs", "/dev/", "mode=700"));
        assert_eq!(ahead(&config).0, [""; 0]);
        config.mounts[5].destination = "/".into();
        assert_eq!(ahead(&config).0, [""; 0]);
        config.mounts[5].destination = "/run".into();
        assert!(!ahead(&config).0.is_empty());
        config.mounts[1].flags = MS_RDONLY;
        assert_eq!(ahead(&config).0, [""; 0]);
    }

    #[test]
    fn of_two_things_in_one_place_none_is_made() {
        let mut config = usual();
        config.devices.extend([device("/dev/null"), device("/dev/fd"), device("//dev/pts")]);
        let bind = Mount { flags: MS_BIND, ..mount("bind", "/dev/core", "") };
        config.mounts.push(bind);
        assert_eq!(ahead(&config).0, ["mqueue", "stdin", "stdout", "stderr"]);
    }

    #[test]
    fn a_device_that_cannot_be_is_an_error() {
        let mut config = usual();
        config.devices[0].kind = 'x';
        let error = Ahead::of(&config).unwrap_err().to_string();
        assert_eq!(error, "configuration `devices.type = x`: not one of c, b, p, u");
    }
}
