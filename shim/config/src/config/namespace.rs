//! Namespaces: new, joined, or shared with the caller.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::fault::{Check, Fault, each};
use super::{Config, path};

/// Nanoseconds per second.
const NANOSECONDS: u32 = 1_000_000_000;

/// A namespace that is new, or joined by its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// The type of the namespace.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// The path of a namespace file to join; empty for a new namespace.
    #[serde(default)]
    pub path: String,
}

/// The types of namespaces: `namespaces(7)`.
///
/// Files may have the name of the clone flag, with or without `CLONE_`, or the name of the file in
/// `/proc/PID/ns`. Case does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub enum NamespaceType {
    /// User and group ids, and capabilities.
    #[serde(rename = "NEWUSER")]
    User,
    /// Mounts.
    #[serde(rename = "NEWNS")]
    Mount,
    /// Process ids.
    #[serde(rename = "NEWPID")]
    Pid,
    /// Network devices, addresses, routes and ports.
    #[serde(rename = "NEWNET")]
    Network,
    /// System V IPC and POSIX message queues.
    #[serde(rename = "NEWIPC")]
    Ipc,
    /// Host name and NIS domain name.
    #[serde(rename = "NEWUTS")]
    Uts,
    /// The root of the cgroup hierarchy. Addition.
    #[serde(rename = "NEWCGROUP")]
    Cgroup,
    /// The monotonic clock and the boot-time clock. Addition.
    #[serde(rename = "NEWTIME")]
    Time,
}

/// The offset of a clock in a time namespace from the initial namespace's clock:
/// `time_namespaces(7)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, less than a second.
    pub nanosecs: u32,
}

impl NamespaceType {
    /// All types.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Network,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
    ];

    /// Returns the `CLONE_NEW*` flag of `clone(2)`.
    #[must_use]
    pub const fn clone_flag(self) -> u32 {
        match self {
            Self::User => 0x1000_0000,
            Self::Mount => 0x2_0000,
            Self::Pid => 0x2000_0000,
            Self::Network => 0x4000_0000,
            Self::Ipc => 0x800_0000,
            Self::Uts => 0x400_0000,
            Self::Cgroup => 0x200_0000,
            Self::Time => 0x80,
        }
    }

    /// Returns libcontainer's name: that of the clone flag, without `CLONE_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "NEWUSER",
            Self::Mount => "NEWNS",
            Self::Pid => "NEWPID",
            Self::Network => "NEWNET",
            Self::Ipc => "NEWIPC",
            Self::Uts => "NEWUTS",
            Self::Cgroup => "NEWCGROUP",
            Self::Time => "NEWTIME",
        }
    }

    /// Returns the name of the file in `/proc/PID/ns`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let text = text.strip_prefix("CLONE_").unwrap_or(&text);
        Some(match text.strip_prefix("NEW").unwrap_or(text) {
            "USER" => Self::User,
            "NS" | "MNT" | "MOUNT" => Self::Mount,
            "PID" => Self::Pid,
            "NET" | "NETWORK" => Self::Network,
            "IPC" => Self::Ipc,
            "UTS" => Self::Uts,
            "CGROUP" => Self::Cgroup,
            "TIME" => Self::Time,
            _ => return None,
        })
    }
}

impl fmt::Display for NamespaceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for NamespaceType {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(reader)?)
            .ok_or_else(|| serde::de::Error::custom("unknown namespace"))
    }
}

impl Config {
    /// Returns the entry of a namespace that is new or joined; `None` if the caller's is shared.
    #[must_use]
    pub fn namespace(&self, kind: NamespaceType) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    /// Returns whether the container gets a new namespace of a type.
    #[must_use]
    pub fn has_new(&self, kind: NamespaceType) -> bool {
        self.namespace(kind).is_some_and(|namespace| namespace.path.is_empty())
    }

    /// Makes a namespace new if `path` is empty, and otherwise joins the one at `path`.
    pub fn set_namespace(&mut self, kind: NamespaceType, path: impl Into<String>) {
        let path = path.into();
        match self.namespaces.iter_mut().find(|namespace| namespace.kind == kind) {
            Some(namespace) => namespace.path = path,
            None => self.namespaces.push(Namespace { kind, path }),
        }
    }

    /// Shares the caller's namespace of a type.
    pub fn remove_namespace(&mut self, kind: NamespaceType) {
        self.namespaces.retain(|namespace| namespace.kind != kind);
    }

    pub(super) fn check_time_offsets(&self) -> Check {
        if !self.time_offsets.is_empty() && !self.has_new(NamespaceType::Time) {
            return Err(Fault::new("time_offsets", "", "needs a new time namespace (NEWTIME)"));
        }
        for (clock, offset) in &self.time_offsets {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                let reason = "must be monotonic or boottime";
                return Err(Fault::text("time_offsets", clock, reason));
            }
            if offset.nanosecs >= NANOSECONDS {
                let place = format!("time_offsets.{clock}");
                let reason = "must be less than a second";
                return Err(Fault::new("nanosecs", offset.nanosecs, reason).under(&place));
            }
        }
        Ok(())
    }

    pub(super) fn check_namespaces(&self) -> Check {
        each("namespaces", &self.namespaces, |namespace| {
            if !namespace.path.is_empty() {
                path::check_absolute("path", &namespace.path)?;
            }
            let first = self.namespace(namespace.kind);
            if !first.is_some_and(|first| std::ptr::eq(first, namespace)) {
                return Err(Fault::text("type", namespace.kind.name(), "stands more than once"));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_names_of_flags_and_of_proc_files() {
        for (kind, names) in [
            (NamespaceType::User, &["NEWUSER", "user", "CLONE_NEWUSER"][..]),
            (NamespaceType::Mount, &["NEWNS", "mnt", "mount", "Mount"]),
            (NamespaceType::Pid, &["NEWPID", "pid", "newpid"]),
            (NamespaceType::Network, &["NEWNET", "net", "network"]),
            (NamespaceType::Ipc, &["NEWIPC", "ipc"]),
            (NamespaceType::Uts, &["NEWUTS", "uts"]),
            (NamespaceType::Cgroup, &["NEWCGROUP", "cgroup"]),
            (NamespaceType::Time, &["NEWTIME", "time"]),
        ] {
            for name in names {
                assert_eq!(NamespaceType::parse(name), Some(kind), "{name}");
            }
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
        for name in ["", "NEW", "CLONE_", "NEWPIDS", "NEWBOOT"] {
            assert_eq!(NamespaceType::parse(name), None, "{name}");
        }
    }

    #[test]
    fn empty_path_is_written() {
        let namespace = Namespace { kind: NamespaceType::Pid, path: String::new() };
        assert_eq!(serde_json::to_string(&namespace).unwrap(), r#"{"type":"NEWPID","path":""}"#);
    }

    #[test]
    fn duplicate_namespaces_and_relative_paths_are_refused() {
        let mut config = Config::default();
        config.set_namespace(NamespaceType::Pid, "");
        assert!(config.has_new(NamespaceType::Pid));
        config.set_namespace(NamespaceType::Pid, "/proc/1/ns/pid");
        assert!(!config.has_new(NamespaceType::Pid));
        config.check_namespaces().unwrap();
        config.namespaces.push(Namespace { kind: NamespaceType::Pid, path: String::new() });
        assert!(config.check_namespaces().is_err());
        config.remove_namespace(NamespaceType::Pid);
        assert_eq!(config.namespace(NamespaceType::Pid), None);
        config.set_namespace(NamespaceType::Network, "net");
        assert!(config.check_namespaces().is_err());
    }
}
