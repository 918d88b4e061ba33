//! Intel Resource Director Technology: shares of caches and of the bandwidth of memory.

use serde::{Deserialize, Serialize};

use super::fault::{Check, Fault};
use super::json::list;

/// The group of the resctrl file system that the container's processes are in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntelRdt {
    /// The name of the group. If it is empty, the container's id takes its place, and the group
    /// ends with the container.
    pub clos_id: String,
    /// The lines to write to `schemata`: `L3:0=7f0;1=1f`. Without any, a group with a name must
    /// exist.
    #[serde(with = "list")]
    pub schemata: Vec<String>,
    /// Whether the container gets a monitoring group with its id.
    pub monitoring: bool,
}

impl IntelRdt {
    pub(super) fn check(&self) -> Check {
        let reserved = ["info", "mon_groups", "mon_data", ".", ".."];
        if self.clos_id.len() > 255
            || self.clos_id.contains(['/', '\0', '\n'])
            || reserved.contains(&self.clos_id.as_str())
        {
            return Err(Fault::text("clos_id", &self.clos_id, "cannot be the name of a group"));
        }
        for (index, line) in self.schemata.iter().enumerate() {
            let is_line = line.split_once(':').is_some_and(|(name, _)| !name.trim().is_empty());
            if !is_line || line.contains(char::is_control) {
                let field = format!("schemata[{index}]");
                return Err(Fault::text(&field, line, "is not a line like L3:0=7f0;1=1f"));
            }
        }
        Ok(())
    }
}
