//! Binds whose source is a path in the root that another mount of the container provides.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pidone_config::config::Mount;
use pidone_config::config::mount::flags::{BIND, REMOUNT};
use pidone_config::{Config, Result};
use pidone_proto::Create;

use super::clean;
use super::facts::Facts;

/// Whether a mount is a new file system, rather than a bind or a change of a mount.
pub(super) fn is_new(mount: &Mount) -> bool {
    mount.flags & (BIND | REMOUNT) == 0 && mount.device != "bind"
}

/// The mounts so far, by the path that leads to them.
#[derive(Default)]
pub(super) struct Destinations(HashMap<String, usize>);

impl Destinations {
    /// Adds a mount by its index, and returns the one that it covers.
    pub(super) fn add(&mut self, mount: &Mount, index: usize) -> Option<usize> {
        if mount.flags & REMOUNT != 0 {
            return None;
        }
        self.0.insert(clean(&mount.destination), index)
    }

    /// Returns the index of the mount that the destination of a mount leads to.
    pub(super) fn leads_to(&self, mount: &Mount) -> Option<usize> {
        self.0.get(&clean(&mount.destination)).copied()
    }

    /// Returns the last mount at a path or above it.
    fn last_above(&self, path: &Path) -> Option<usize> {
        let above = path.ancestors().filter_map(|path| self.0.get(path.to_str()?));
        above.copied().max()
    }
}

/// The source of a bind that an earlier mount of the container provides.
pub(super) struct Provided {
    /// The path below the root.
    pub(super) path: String,
    /// What is made in the place where it is bound.
    pub(super) create: Create,
}

/// Returns the source of a bind as a path below the root, if it is a path in `rootfs` that an
/// earlier mount covers: runc mounts in the host's view of the root, where the source is then that
/// of the container.
pub(super) fn provided_source(
    config: &Config,
    mount: &Mount,
    destinations: &Destinations,
    facts: &Facts<'_>,
) -> Result<Option<Provided>> {
    let in_host = config.tmpfs_root || config.rootfs == Path::new("/");
    if in_host || mount.id_map.is_some() || is_new(mount) || mount.flags & REMOUNT != 0 {
        return Ok(None);
    }
    let Ok(below) = Path::new(&mount.source).strip_prefix(&config.rootfs) else { return Ok(None) };
    let path = clean(&below.to_string_lossy());
    let provider = destinations.last_above(Path::new(&path)).map(|index| &config.mounts[index]);
    let Some(provider) = provider else { return Ok(None) };
    let rest = Path::new(&path).strip_prefix(clean(&provider.destination)).unwrap_or(below);
    let on_host = match (is_new(provider), provider.copy_up) {
        (false, _) if rest.as_os_str().is_empty() => Some(PathBuf::from(&provider.source)),
        (false, _) => Some(Path::new(&provider.source).join(rest)),
        (true, true) => Some(PathBuf::from(&mount.source)),
        // A new file system has only directories, on which others are mounted.
        (true, false) => None,
    };
    let is_directory = on_host.map_or(Ok(true), |path| (facts.is_directory)(&path))?;
    let create = if is_directory { Create::Directory } else { Create::File };
    Ok(Some(Provided { path, create }))
}
