//! The objects of `mounts`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::linux::{IdMapping, id_maps};
use crate::config::json::{list, objects};
use crate::config::mount::flags::{self, attribute};
use crate::config::{self, MountIdMap, MountOptions, path, quoted};
use crate::error::{Error, Result};

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The place in the container; a relative path begins at its root.
    pub destination: String,
    /// The type of file system. Without meaning for a bind.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The source of a bind, where a relative path begins at the bundle; else a name that
    /// `/proc/mounts` shows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The options: of [`flags::TABLE`], of [`flags::RECURSIVE`], of [`EXTENSIONS`], or the file
    /// system's own.
    #[serde(default, with = "list", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The user ids of an id-mapped mount.
    #[serde(default, with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// The group ids of an id-mapped mount.
    #[serde(default, with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// The options that are neither flags nor a file system's: a tmpfs that begins with a copy of what
/// it covers, and id-mapped mounts without and with those below.
pub(super) const EXTENSIONS: [&str; 3] = ["idmap", "ridmap", "tmpcopyup"];

impl Mount {
    /// The mount in a bundle, by its place in the list.
    pub(super) fn mount(&self, index: usize, bundle: &Path) -> Result<config::Mount> {
        let mut mount = self.with_options(index)?;
        self.destination.clone_into(&mut mount.destination);
        let (uid_mappings, gid_mappings) =
            (id_maps(&self.uid_mappings), id_maps(&self.gid_mappings));
        if mount.id_map.is_some() || !uid_mappings.is_empty() || !gid_mappings.is_empty() {
            let recursive = mount.id_map.is_some_and(|id_map| id_map.recursive);
            mount.id_map = Some(MountIdMap { uid_mappings, gid_mappings, recursive });
        }
        if self.kind == "bind" || mount.flags & flags::BIND != 0 {
            mount.flags |= flags::BIND;
            "bind".clone_into(&mut mount.device);
            if self.source.is_empty() {
                return Err(Error::config(format!("mounts[{index}].source"), "", "missing"));
            }
            mount.source = if self.source.starts_with('/') {
                self.source.clone()
            } else {
                path::clean(&bundle.join(&self.source)).to_string_lossy().into_owned()
            };
        } else {
            let source = if self.source.is_empty() { &self.kind } else { &self.source };
            source.clone_into(&mut mount.source);
            self.kind.clone_into(&mut mount.device);
        }
        if mount.device == "none" {
            let reason = "is no file system; a bind has the option bind or rbind";
            return Err(Error::config(format!("mounts[{index}].type"), "\"none\"", reason));
        }
        Ok(mount)
    }

    /// What the options say. A later one wins over an earlier one.
    fn with_options(&self, index: usize) -> Result<config::Mount> {
        let mut mount = config::Mount::default();
        let mut options = MountOptions::default();
        for (number, word) in self.options.iter().enumerate() {
            let refuse = |reason: &'static str| {
                let place = format!("mounts[{index}].options[{number}]");
                Err(Error::config(place, quoted(word), reason))
            };
            if let Some(propagation) = flags::find_propagation(word) {
                let other = mount.propagation & flags::PROPAGATION & !propagation;
                if other != 0 {
                    return refuse("more than one kind of propagation");
                }
                mount.propagation = propagation;
            } else if let Some((bits, set)) = flags::find_recursive(word) {
                add_recursive(&mut mount, bits, set);
            } else {
                match word.as_str() {
                    "" => {}
                    "remount" => return refuse("a new mount cannot be a remount"),
                    "tmpcopyup" => mount.copy_up = true,
                    "idmap" | "ridmap" => {
                        let recursive = word == "ridmap";
                        mount.id_map = Some(MountIdMap { recursive, ..MountIdMap::default() });
                    }
                    word => options.add(word),
                }
            }
        }
        mount.flags = options.set;
        mount.cleared = options.cleared;
        mount.data = options.data.join(",");
        Ok(mount)
    }
}

/// Adds attributes of the mount and of those below it.
///
/// The kind of access times is a field of its own, and mount_setattr(2) takes a change of it only
/// with all its bits cleared.
fn add_recursive(mount: &mut config::Mount, bits: u64, set: bool) {
    let times = bits == attribute::RELATIME || bits & attribute::ATIME != 0;
    let cleared = if times { attribute::ATIME } else { bits };
    mount.recursive_set &= !cleared;
    if set {
        mount.recursive_set |= bits;
        mount.recursive_clear &= !bits;
    }
    if times || !set {
        mount.recursive_clear |= cleared;
    }
}
