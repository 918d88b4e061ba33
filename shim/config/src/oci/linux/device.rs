//! The property `devices`.

use serde::{Deserialize, Serialize};

use crate::config::{self, default, path};
use crate::error::{Error, Result};
use crate::text::quoted;

/// The default mode of a node. The cgroup decides which devices may be used.
const MODE: u32 = 0o666;

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// The path of the node in the container.
    pub path: String,
    /// The type: `c`, `b`, `u` (also a character device) or `p` (a FIFO).
    #[serde(rename = "type")]
    pub kind: String,
    /// The major number; ignored for a FIFO.
    #[serde(default)]
    pub major: i64,
    /// The minor number; ignored for a FIFO.
    #[serde(default)]
    pub minor: i64,
    /// The permission bits; 0666 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// The owner, as an id in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group, as an id in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

impl Device {
    fn node(&self, index: usize) -> Result<config::Device> {
        let kind = match self.kind.as_str() {
            "c" | "u" => 'c',
            "b" => 'b',
            "p" => 'p',
            kind => {
                let place = format!("linux.devices[{index}].type");
                return Err(Error::config(place, quoted(kind), "must be c, b, u or p"));
            }
        };
        Ok(config::Device {
            kind,
            path: self.path.clone(),
            major: self.major,
            minor: self.minor,
            permissions: String::new(),
            // Clients include the file type of stat(2), or the bits of Go's `os.FileMode`. mknod(2)
            // in runc drops the latter.
            file_mode: self.file_mode.unwrap_or(MODE) & 0o7777,
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        })
    }
}

/// Returns the given nodes, in order, followed by the default devices of the specification whose
/// paths are not taken.
pub(super) fn nodes(devices: &[Device]) -> Result<Vec<config::Device>> {
    let given = devices.iter().enumerate().map(|(index, device)| device.node(index));
    let mut nodes = given.collect::<Result<Vec<_>>>()?;
    for own in default::simple_devices() {
        let place = path::in_root(&own.path);
        if !nodes.iter().any(|node| path::in_root(&node.path) == place) {
            nodes.push(own);
        }
    }
    Ok(nodes)
}
