//! The property `memoryPolicy`.

use serde::{Deserialize, Serialize};

use super::find;
use crate::config;
use crate::config::json::list;
use crate::config::process::numbers;
use crate::error::{Error, Result};
use crate::text::quoted;

/// The modes by the specification's name: `linux/mempolicy.h`.
pub const MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// The flags of modes by the specification's name: `linux/mempolicy.h`.
pub const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// A NUMA memory policy: set_mempolicy(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// One of [`MODES`].
    pub mode: String,
    /// The memory nodes, as a list such as `0-3,7`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nodes: String,
    /// Any of [`FLAGS`].
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

impl MemoryPolicy {
    pub(super) fn policy(&self) -> Result<config::MemoryPolicy> {
        let mode_place = "linux.memoryPolicy.mode";
        let mut mode = find(&MODES, &self.mode, mode_place, "unknown policy")?;
        for (index, flag) in self.flags.iter().enumerate() {
            let place = format!("linux.memoryPolicy.flags[{index}]");
            mode |= find(&FLAGS, flag, &place, "unknown flag")?;
        }
        let nodes = numbers("linux.memoryPolicy.nodes", &self.nodes)?;
        let without_nodes = matches!(self.mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL");
        let optional = self.mode == "MPOL_PREFERRED";
        if without_nodes != nodes.is_empty() && !optional {
            let reason = if without_nodes { "takes no nodes" } else { "needs nodes" };
            return Err(Error::config(mode_place, quoted(&self.mode), reason));
        }
        Ok(config::MemoryPolicy { mode, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some modes take no nodes, which may be absent, empty or `null`, and some may do without.
    #[test]
    fn nodes_may_be_empty_where_the_mode_needs_none() {
        for (mode, may_be_empty, may_be_filled) in [
            ("MPOL_DEFAULT", true, false),
            ("MPOL_LOCAL", true, false),
            ("MPOL_PREFERRED", true, true),
            ("MPOL_BIND", false, true),
            ("MPOL_INTERLEAVE", false, true),
        ] {
            let policy = |nodes: &str| {
                let text = format!(r#"{{"mode": "{mode}"{nodes}}}"#);
                config::json::parse_with_nulls::<MemoryPolicy>(text.as_bytes(), "")
                    .and_then(|policy| policy.policy())
            };
            for empty in ["", r#", "nodes": """#, r#", "nodes": null"#] {
                assert_eq!(policy(empty).is_ok(), may_be_empty, "{mode}{empty}");
            }
            assert_eq!(policy(r#", "nodes": "0""#).is_ok(), may_be_filled, "{mode}");
        }
    }
}
