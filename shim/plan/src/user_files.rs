//! Where the user files of a container are, `/etc/passwd` and `/etc/group`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pidone_config::Config;
use pidone_config::config::mount::flags::{BIND, REMOUNT};
use pidone_config::config::{Mount, NamespaceType};

use super::clean;
use super::container::has_commands;
use super::provided::is_new;

/// The files and what leads to them. A mount there covers them.
const PATHS: [&str; 4] = ["/", "/etc", "/etc/passwd", "/etc/group"];

/// File systems that have nothing of the image or the host in them when they are made.
const EMPTY: [&str; 9] =
    ["cgroup", "cgroup2", "devpts", "hugetlbfs", "mqueue", "proc", "ramfs", "sysfs", "tmpfs"];

/// The most places that are worth looking at. To wait for the mounts takes as long.
const PLACES: usize = 16;

/// Where the user files of a container can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserFiles {
    /// On the host, before anything is set up: nothing covers or changes them then.
    ///
    /// That holds if no symbolic link leads to the files, or to one of the places. What is mounted
    /// at a link covers what it leads to.
    OnHost {
        /// The directory in which they are, as in the container's root.
        root: PathBuf,
        /// Paths below it at which something is mounted.
        places: Vec<String>,
    },
    /// In the container, once its root is complete.
    InContainer,
}

impl UserFiles {
    /// Returns where the files of a container are. The configuration does not say what links the
    /// image has.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let namespace = config.namespace(NamespaceType::Mount);
        let joined = namespace.is_some_and(|namespace| !namespace.path.is_empty());
        let commands = config.mounts.iter().any(has_commands);
        // Commands and hooks may do anything, and do change these files.
        if joined || commands || config.hooks.need_host_mounts() {
            return Self::InContainer;
        }
        let mut walk = Walk::new(config);
        let mut destinations = config.mounts.iter().filter(|mount| mount.flags & REMOUNT == 0);
        let devices = config.devices.iter().map(|device| &device.path);
        let others = devices.chain(&config.mask_paths);
        let links = config.links.iter().map(|link| &link.path);
        let apart = destinations.all(|mount| walk.mount(mount))
            && others.map(|path| clean(path)).all(|path| walk.is_apart(&path, None))
            // Links are made in directories without links.
            && links.map(|path| clean(path)).all(|path| !PATHS.contains(&&*path));
        if !apart || !walk.has_files || walk.places.len() > PLACES {
            return Self::InContainer;
        }
        let root = if config.tmpfs_root { Path::new("/") } else { &config.rootfs };
        Self::OnHost { root: root.into(), places: walk.places }
    }
}

/// What a mount shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Nothing: no link in it leads anywhere.
    Nothing,
    /// What the host has at the same path.
    Same,
    /// Anything else.
    Other,
}

/// A walk through what is mounted, in the order of the plan.
struct Walk<'a> {
    config: &'a Config,
    /// The mounts so far.
    mounted: HashMap<String, Content>,
    places: Vec<String>,
    /// Whether the user files are those of the host's directory.
    has_files: bool,
}

impl<'a> Walk<'a> {
    fn new(config: &'a Config) -> Self {
        // An empty root has the files only if the host's are bound.
        let has_files = !config.tmpfs_root;
        Self { config, mounted: HashMap::new(), places: Vec::new(), has_files }
    }

    /// Adds a mount. Returns whether the user files are still where they were.
    fn mount(&mut self, mount: &Mount) -> bool {
        let at = clean(&mount.destination);
        let content = self.content(mount);
        if at == "/etc" && content == Content::Same && !self.has_files {
            self.has_files = true;
        } else if !self.is_apart(&at, Some(mount)) {
            return false;
        }
        self.mounted.insert(at, content);
        true
    }

    /// Returns whether something at a path covers no user file, unless a link leads to the path.
    /// Paths of which the configuration does not say that become places.
    fn is_apart(&mut self, at: &str, mount: Option<&Mount>) -> bool {
        if PATHS.contains(&at) {
            return false;
        }
        let mut above = Path::new(at).ancestors();
        let above = above.find_map(|path| Some((path, self.mounted.get(path.to_str()?)?)));
        match above {
            // The path leads there again.
            Some((path, _)) if path == Path::new(at) => return true,
            Some((_, Content::Nothing)) => return true,
            Some((_, Content::Other)) => return false,
            None if self.config.tmpfs_root => return true,
            Some((_, Content::Same)) | None => {}
        }
        if above.is_some() || !mount.is_some_and(|mount| self.refuses_links(at, mount)) {
            self.places.push(at.to_owned());
        }
        true
    }

    /// Whether a container with this mount does not start if the image has a link in its place.
    fn refuses_links(&self, at: &str, mount: &Mount) -> bool {
        let at_dev = |mount: &&Mount| clean(&mount.destination) == "/dev";
        match (mount.device.as_str(), at) {
            ("proc", "/proc") | ("sysfs", "/sys") => is_new(mount),
            // The links in it are made in a directory that is none.
            (_, "/dev") => self.config.mounts.iter().filter(at_dev).all(is_new),
            _ => false,
        }
    }

    fn content(&self, mount: &Mount) -> Content {
        if is_new(mount) {
            let empty = EMPTY.contains(&mount.device.as_str()) && !mount.copy_up;
            return if empty { Content::Nothing } else { Content::Other };
        }
        let bind = mount.device == "bind" || mount.flags & BIND != 0;
        let same = bind && self.config.tmpfs_root && mount.source == clean(&mount.destination);
        if same { Content::Same } else { Content::Other }
    }
}

#[cfg(test)]
mod tests {
    use pidone_config::config::mount::flags::RDONLY;
    use pidone_config::config::{Command, Device, Hook, Link, Namespace};

    use super::*;

    fn config(mounts: &[(&str, &str, &str)]) -> Config {
        let mount = |(device, source, destination): &(&str, &str, &str)| Mount {
            device: (*device).into(),
            source: (*source).into(),
            destination: (*destination).into(),
            ..Mount::default()
        };
        Config {
            rootfs: "/srv/root".into(),
            namespaces: vec![Namespace { kind: NamespaceType::Mount, path: String::new() }],
            mounts: mounts.iter().map(mount).collect(),
            ..Config::default()
        }
    }

    /// Returns the places at which a link would matter; `None` if the files are in the container.
    fn places(config: &Config) -> Option<Vec<String>> {
        match UserFiles::of(config) {
            UserFiles::OnHost { root, places } => {
                let expected = if config.tmpfs_root { "/" } else { "/srv/root" };
                assert_eq!(root, Path::new(expected));
                Some(places)
            }
            UserFiles::InContainer => None,
        }
    }

    const DEFAULT: [(&str, &str, &str); 6] = [
        ("proc", "proc", "/proc"),
        ("tmpfs", "tmpfs", "/dev"),
        ("devpts", "devpts", "/dev/pts"),
        ("mqueue", "mqueue", "dev/mqueue/"),
        ("sysfs", "sysfs", "/sys"),
        ("cgroup", "cgroup", "/sys/fs/cgroup"),
    ];

    #[test]
    fn nothing_of_a_default_container_has_to_be_looked_at() {
        let mut config = config(&DEFAULT);
        config.mask_paths = ["/proc/kcore", "/sys/firmware"].map(str::to_owned).into();
        config.devices = vec![Device { path: "/dev/null".into(), ..Device::default() }];
        assert_eq!(places(&config), Some(vec![]));
        assert_eq!(places(&self::config(&[])), Some(vec![]));
    }

    #[test]
    fn what_covers_the_files_is_read_in_the_container() {
        for at in ["/", "", "/etc", "etc/", "/etc/passwd", "/x/../etc/group", "//etc/./passwd"] {
            for device in ["bind", "tmpfs", "overlay"] {
                assert_eq!(places(&config(&[(device, "/src", at)])), None, "{device} {at}");
            }
            let mut devices = config(&DEFAULT);
            devices.devices = vec![Device { path: at.into(), ..Device::default() }];
            let masks = Config { mask_paths: vec![at.into()], ..config(&DEFAULT) };
            let links = Config {
                links: vec![Link { path: at.into(), target: "x".into() }],
                ..config(&DEFAULT)
            };
            for config in [devices, masks, links] {
                assert_eq!(places(&config), None, "{at}");
            }
            // The content stays the same.
            let mut change = config(&[("bind", "", at)]);
            change.mounts[0].flags = REMOUNT | BIND | RDONLY;
            assert_eq!(places(&change), Some(vec![]), "{at}");
        }
    }

    #[test]
    fn links_in_the_image_may_lead_to_the_files() {
        let binds = config(&[
            ("bind", "/src", "/etc/hosts"),
            ("bind", "/src", "data/./x"),
            ("tmpfs", "tmpfs", "/run"),
            ("bind", "/src", "/run/any"),
            ("bind", "/other", "/etc/hosts"),
        ]);
        let expected = ["/etc/hosts", "/data/x", "/run"].map(str::to_owned);
        assert_eq!(places(&binds), Some(expected.into()));
        // A bound /dev gets no links, which would be refused.
        let bound = [("tmpfs", "tmpfs", "/dev"), ("bind", "/dev", "/dev")];
        assert_eq!(places(&config(&bound)), Some(vec!["/dev".to_owned()]));
        // What is in another mount is not in the image.
        assert_eq!(places(&config(&[("bind", "/src", "/a"), ("bind", "/src", "/a/b")])), None);
        let mut copied = config(&[("tmpfs", "tmpfs", "/a"), ("bind", "/src", "/a/b")]);
        assert_eq!(places(&copied), Some(vec!["/a".to_owned()]));
        copied.mounts[0].copy_up = true;
        assert_eq!(places(&copied), None);
        let many: Vec<_> = (0..20).map(|number| format!("/m/{number}")).collect();
        let many: Vec<_> = many.iter().map(|at| ("bind", "/src", at.as_str())).collect();
        assert!(places(&config(&many[..16])).is_some());
        assert_eq!(places(&config(&many)), None);
    }

    #[test]
    fn an_empty_root_has_the_hosts_files_if_they_are_bound() {
        let root = |mounts: &[_]| Config { tmpfs_root: true, ..config(mounts) };
        assert_eq!(places(&root(&[])), None);
        assert_eq!(places(&root(&[("bind", "/srv/etc", "/etc")])), None);
        let mut same = root(&[("bind", "/etc", "/etc"), ("tmpfs", "tmpfs", "/run")]);
        assert_eq!(places(&same), Some(vec![]));
        same.mask_paths = vec!["/etc/shadow".into(), "/srv/none".into()];
        assert_eq!(places(&same), Some(vec!["/etc/shadow".to_owned()]));
        same.mounts.push(Mount { destination: "/etc".into(), ..same.mounts[0].clone() });
        assert_eq!(places(&same), None);
    }

    #[test]
    fn commands_hooks_and_other_namespaces_may_change_everything() {
        let mut commands = config(&DEFAULT);
        commands.mounts[0].postmount_cmds = vec![Command::default()];
        let mut hooks = config(&DEFAULT);
        hooks.hooks.create_runtime = vec![Hook::default()];
        let mut joined = config(&[]);
        joined.namespaces[0].path = "/proc/1/ns/mnt".into();
        for config in [commands, hooks, joined] {
            assert_eq!(places(&config), None);
        }
        let mut late = config(&DEFAULT);
        late.hooks.start_container = vec![Hook::default()];
        assert_eq!(places(&late), Some(vec![]));
    }
}
