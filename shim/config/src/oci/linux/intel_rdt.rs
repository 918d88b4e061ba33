//! The property `intelRdt`.

use serde::{Deserialize, Serialize};

use crate::config;
use crate::config::json::list;

/// Intel Resource Director Technology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IntelRdt {
    /// The class of service: the name of a group of the resctrl file system.
    #[serde(rename = "closID", skip_serializing_if = "String::is_empty")]
    pub clos_id: String,
    /// The lines to write to `schemata`.
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// The schema of the L3 cache: `L3:0=7f0;1=1f`.
    #[serde(rename = "l3CacheSchema", skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// The schema of the bandwidth of memory: `MB:0=20;1=70`.
    #[serde(rename = "memBwSchema", skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Whether the container has its own monitoring group.
    #[serde(rename = "enableMonitoring", skip_serializing_if = "std::ops::Not::not")]
    pub enable_monitoring: bool,
    /// Whether the use of caches is monitored: before version 1.3.
    #[serde(rename = "enableCMT", skip_serializing_if = "std::ops::Not::not")]
    pub enable_cmt: bool,
    /// Whether the bandwidth of memory is monitored: before version 1.3.
    #[serde(rename = "enableMBM", skip_serializing_if = "std::ops::Not::not")]
    pub enable_mbm: bool,
}

impl IntelRdt {
    /// Lowers the property. The lines of `schemata` come last, and the line of `memBwSchema` takes
    /// the place of those in `l3CacheSchema`, as the specification says.
    pub(super) fn group(&self) -> config::IntelRdt {
        let filled = |text: &&str| !text.trim().is_empty();
        let l3 = self.l3_cache_schema.lines().filter(filled);
        let l3 = l3.filter(|line| self.mem_bw_schema.is_empty() || !line.starts_with("MB:"));
        let lines = l3
            .chain(self.mem_bw_schema.lines().filter(filled))
            .chain(self.schemata.iter().flat_map(|text| text.lines()).filter(filled));
        config::IntelRdt {
            clos_id: self.clos_id.clone(),
            schemata: lines.map(str::to_owned).collect(),
            monitoring: self.enable_monitoring || self.enable_cmt || self.enable_mbm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_schemas_become_lines_in_the_specified_order() {
        let group = |json: &str| serde_json::from_str::<IntelRdt>(json).unwrap().group();
        let all = group(
            r#"{"closID": "a", "l3CacheSchema": "L3:0=f\nMB:0=1\n", "memBwSchema": "MB:0=20",
                "schemata": ["L2:0=f", "L3:0=3"], "enableMonitoring": true}"#,
        );
        assert_eq!(all.schemata, ["L3:0=f", "MB:0=20", "L2:0=f", "L3:0=3"]);
        assert_eq!((all.clos_id.as_str(), all.monitoring), ("a", true));
        assert_eq!(group(r#"{"l3CacheSchema": "MB:0=1"}"#).schemata, ["MB:0=1"]);
        assert_eq!(group("{}"), config::IntelRdt::default());
        assert!(group(r#"{"enableCMT": true}"#).monitoring);
    }
}
