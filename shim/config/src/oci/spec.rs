//! The document `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Linux, Mount, Process};
use crate::config::Hooks;
use crate::config::json::{self, map, object, objects};
use crate::error::{Error, Result};
use crate::text::quoted;

/// The newest version of the specification, all of which is known.
pub const VERSION: &str = "1.3.0";

/// A `config.json`.
///
/// The sections of other platforms are read only to detect a configuration that is not for Linux.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// The version of the specification that the document follows: `1.*`.
    pub oci_version: String,
    /// The first process of the container.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The NIS domain name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    /// The mounts, in order.
    #[serde(with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs to run at steps of the container's life.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Annotations, which are kept and reported.
    #[serde(with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The Linux section.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// The section for virtual machines; refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<serde_json::Value>,
    /// The Windows section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<serde_json::Value>,
    /// The Solaris section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solaris: Option<serde_json::Value>,
    /// The z/OS section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zos: Option<serde_json::Value>,
    /// The FreeBSD section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freebsd: Option<serde_json::Value>,
}

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The directory. A relative path is resolved against the bundle.
    #[serde(default)]
    pub path: String,
    /// Whether the container cannot write to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

impl Spec {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid), with the position, for malformed JSON
    /// and for a property of the wrong type, and for an `ociVersion` other than `1.*`.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        Self::parse(text, "")
    }

    /// Reads a `config.json` from a file of at most [`MAX_SIZE`](crate::config::MAX_SIZE).
    ///
    /// # Errors
    /// As [`Spec::from_json`]; [`Code::SystemError`](crate::Code::SystemError) if the file cannot
    /// be read.
    pub fn from_file(file: &Path) -> Result<Self> {
        Self::parse(&json::read(file)?, &file.to_string_lossy())
    }

    fn parse(text: &[u8], origin: &str) -> Result<Self> {
        let spec: Self = json::parse_with_nulls(text, origin)?;
        if spec.oci_version.is_empty() {
            return Err(Error::config("ociVersion", "", "missing"));
        }
        if !spec.oci_version.starts_with("1.") {
            let reason = "only versions 1.* of the specification are supported";
            return Err(Error::config("ociVersion", quoted(&spec.oci_version), reason));
        }
        Ok(spec)
    }

    /// Refuses configurations for virtual machines and for other platforms.
    pub(super) fn check_platform(&self) -> Result<()> {
        if self.vm.is_some() {
            return Err(Error::config("vm", "", "virtual machines are not supported"));
        }
        for (section, given) in [
            ("windows", &self.windows),
            ("solaris", &self.solaris),
            ("zos", &self.zos),
            ("freebsd", &self.freebsd),
        ] {
            if given.is_some() && self.linux.is_none() {
                return Err(Error::config(section, "", "this is Linux, and linux is missing"));
            }
        }
        Ok(())
    }
}
