//! The objects of `mounts`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::linux::{IdMapping, id_maps};
use crate::config::json::{list, objects};
use crate::config::mount::flags::{self, attribute};
use crate::config::{self, MountIdMap, MountOptions, path};
use crate::error::{Error, Result};
use crate::text::quoted;

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The path in the container. A relative path starts at its root.
    pub destination: String,
    /// The type of the file system; ignored for a bind.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The source. For a bind, a path, which is resolved against the bundle if it is relative;
    /// otherwise a name that `/proc/mounts` shows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The options: those of [`flags::TABLE`] and [`flags::RECURSIVE`], `idmap`, `ridmap`,
    /// `tmpcopyup`, and those of the file system.
    #[serde(default, with = "list", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The user id map of the mount.
    #[serde(default, with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// The group id map of the mount.
    #[serde(default, with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// The options that are neither flags nor options of the file system: `idmap` and `ridmap` for
/// id-mapped mounts without and with the mounts below, and `tmpcopyup` for a tmpfs that starts with
/// a copy of what it covers.
pub(super) const EXTENSIONS: [&str; 3] = ["idmap", "ridmap", "tmpcopyup"];

impl Mount {
    /// Lowers the mount at `index` of a bundle's list.
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

    /// Lowers the options. A later option overrides an earlier one.
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

/// Adds a change of attributes of the mount and of all mounts below.
///
/// The access time setting is a field of several bits, and mount_setattr(2) changes it only if all
/// bits of the field are cleared.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> config::Mount {
        let given = Mount {
            destination: "/x".to_owned(),
            kind: kind.to_owned(),
            source: "src".to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..Mount::default()
        };
        given.mount(0, Path::new("/bundle")).unwrap()
    }

    /// All words of the specification with their effect: flags, cleared flags, propagation,
    /// attributes set and cleared.
    ///
    /// It repeats the tables of [`flags`] on purpose, as the expected values.
    #[test]
    fn options_have_the_effect_that_the_specification_gives() {
        use flags::{MANDLOCK, NOATIME, PRIVATE, RDONLY, REC, SHARED, SLAVE, UNBINDABLE};
        let (set, clear) = (|bits| (bits, 0, 0, 0, 0), |bits| (0, bits, 0, 0, 0));
        let propagation = |bits| (0, 0, bits, 0, 0);
        let (all, none) = (|bits| (0, 0, 0, bits, 0), |bits| (0, 0, 0, 0, bits));
        let times = |bits| (0, 0, 0, bits, attribute::ATIME);
        for (word, effect) in [
            ("async", clear(flags::SYNCHRONOUS)),
            ("atime", clear(NOATIME)),
            ("bind", set(flags::BIND)),
            ("defaults", set(0)),
            ("dev", clear(flags::NODEV)),
            ("diratime", clear(flags::NODIRATIME)),
            ("dirsync", set(flags::DIRSYNC)),
            ("exec", clear(flags::NOEXEC)),
            ("iversion", set(flags::I_VERSION)),
            ("lazytime", set(flags::LAZYTIME)),
            ("loud", clear(flags::SILENT)),
            ("mand", set(MANDLOCK)),
            ("noatime", set(NOATIME)),
            ("nodev", set(flags::NODEV)),
            ("nodiratime", set(flags::NODIRATIME)),
            ("noexec", set(flags::NOEXEC)),
            ("noiversion", clear(flags::I_VERSION)),
            ("nolazytime", clear(flags::LAZYTIME)),
            ("nomand", clear(MANDLOCK)),
            ("norelatime", clear(flags::RELATIME)),
            ("nostrictatime", clear(flags::STRICTATIME)),
            ("nosuid", set(flags::NOSUID)),
            ("nosymfollow", set(flags::NOSYMFOLLOW)),
            ("private", propagation(PRIVATE)),
            ("ratime", times(0)),
            ("rbind", set(flags::BIND | REC)),
            ("rdev", none(attribute::NODEV)),
            ("rdiratime", none(attribute::NODIRATIME)),
            ("relatime", set(flags::RELATIME)),
            ("rexec", none(attribute::NOEXEC)),
            ("rnoatime", times(attribute::NOATIME)),
            ("rnodev", all(attribute::NODEV)),
            ("rnodiratime", all(attribute::NODIRATIME)),
            ("rnoexec", all(attribute::NOEXEC)),
            ("rnorelatime", times(0)),
            ("rnostrictatime", times(0)),
            ("rnosuid", all(attribute::NOSUID)),
            ("rnosymfollow", all(attribute::NOSYMFOLLOW)),
            ("ro", set(RDONLY)),
            ("rprivate", propagation(PRIVATE | REC)),
            ("rrelatime", times(0)),
            ("rro", all(attribute::RDONLY)),
            ("rrw", none(attribute::RDONLY)),
            ("rshared", propagation(SHARED | REC)),
            ("rslave", propagation(SLAVE | REC)),
            ("rstrictatime", times(attribute::STRICTATIME)),
            ("rsuid", none(attribute::NOSUID)),
            ("rsymfollow", none(attribute::NOSYMFOLLOW)),
            ("runbindable", propagation(UNBINDABLE | REC)),
            ("rw", clear(RDONLY)),
            ("shared", propagation(SHARED)),
            ("silent", set(flags::SILENT)),
            ("slave", propagation(SLAVE)),
            ("strictatime", set(flags::STRICTATIME)),
            ("suid", clear(flags::NOSUID)),
            ("symfollow", clear(flags::NOSYMFOLLOW)),
            ("sync", set(flags::SYNCHRONOUS)),
            ("unbindable", propagation(UNBINDABLE)),
        ] {
            let made = mount("tmpfs", &[word]);
            let effects = (
                made.flags,
                made.cleared,
                made.propagation,
                made.recursive_set,
                made.recursive_clear,
            );
            assert_eq!(effects, effect, "{word}");
            assert_eq!(made.data, "", "{word}");
        }
        assert!(mount("tmpfs", &["tmpcopyup"]).copy_up);
        let id_map = |word| mount("bind", &[word]).id_map.unwrap();
        assert!(!id_map("idmap").recursive && id_map("ridmap").recursive);
        let made = mount("tmpfs", &["size=1m", "", "acl", "mode=755"]);
        assert_eq!((made.data.as_str(), made.flags), ("size=1m,acl,mode=755", 0));
    }

    #[test]
    fn later_options_override_earlier_ones() {
        let made = mount("tmpfs", &["ro", "rw", "rro", "rrw", "rnoatime", "rrelatime"]);
        assert_eq!((made.flags, made.cleared), (0, flags::RDONLY));
        assert_eq!(made.recursive_set, 0);
        assert_eq!(made.recursive_clear, attribute::RDONLY | attribute::ATIME);
        let made = mount("tmpfs", &["rrw", "rro", "rprivate", "private"]);
        assert_eq!((made.recursive_set, made.recursive_clear), (attribute::RDONLY, 0));
        assert_eq!(made.propagation, flags::PRIVATE);
    }

    #[test]
    fn bind_is_declared_by_type_or_option() {
        for (kind, options, recursive) in [
            ("bind", &[][..], false),
            ("none", &["bind"], false),
            ("", &["rbind", "rprivate"], true),
            ("ext4", &["bind", "rslave"], false),
        ] {
            let made = mount(kind, options);
            assert_eq!((made.device.as_str(), made.source.as_str()), ("bind", "/bundle/src"));
            let rec = if recursive { flags::REC } else { 0 };
            assert_eq!(made.flags, flags::BIND | rec, "{kind} {options:?}");
        }
        let made = Mount { kind: "proc".to_owned(), ..Mount::default() };
        assert_eq!(made.mount(0, Path::new("/")).unwrap().source, "proc");
    }
}
