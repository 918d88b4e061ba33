//! RDMA resources and those of the controller misc, in files that both versions have.

use std::collections::BTreeMap;

use pidone_config::Result;
use serde::Serialize;

use super::super::directory::Directory;
use super::Stats;
use super::text::{keyed, number};

/// Use of RDMA resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RdmaStats {
    /// The limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma_limit: Vec<RdmaEntry>,
    /// The current use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma_current: Vec<RdmaEntry>,
}

/// Resources of one RDMA device. A limit of `u32::MAX` stands for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RdmaEntry {
    /// The name of the device.
    pub device: String,
    /// Open handles.
    pub hca_handles: u32,
    /// Objects.
    pub hca_objects: u32,
}

/// One resource of the controller misc.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MiscStats {
    /// The current use.
    pub usage: u64,
    /// How often the limit was reached.
    pub events: u64,
}

pub(super) fn rdma(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let read = |file| -> Result<Vec<RdmaEntry>> {
        Ok(entries(&directory.read(file)?.unwrap_or_default()))
    };
    stats.rdma_stats =
        RdmaStats { rdma_limit: read("rdma.max")?, rdma_current: read("rdma.current")? };
    Ok(())
}

/// Parses lines of `DEVICE hca_handle=N hca_object=N`.
fn entries(text: &str) -> Vec<RdmaEntry> {
    let parse = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = number(value).map_or(0, |value| u32::try_from(value).unwrap_or(u32::MAX));
            match key {
                "hca_handle" => entry.hca_handles = value,
                "hca_object" => entry.hca_objects = value,
                _ => {}
            }
        }
        Some(entry)
    };
    text.lines().filter_map(parse).collect()
}

pub(super) fn misc(directory: &Directory, stats: &mut Stats) -> Result<()> {
    let current = directory.read("misc.current")?.unwrap_or_default();
    let events = directory.read("misc.events")?.unwrap_or_default();
    let mut resources: BTreeMap<String, MiscStats> = keyed(&current)
        .map(|(name, usage)| (name.to_owned(), MiscStats { usage, events: 0 }))
        .collect();
    for (name, events) in keyed(&events) {
        let resource = name.strip_suffix(".max").and_then(|name| resources.get_mut(name));
        if let Some(resource) = resource {
            resource.events = events;
        }
    }
    stats.misc_stats = resources;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_resources_are_read() {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n\n"),
            ("rdma.current", "mlx4_0 hca_handle=1 hca_object=20\n"),
            ("misc.current", "res_a 3\nres_b 0\n"),
            ("misc.events", "res_a.max 9\nres_c.max 1\nres_a 4\n"),
        ] {
            std::fs::write(root.path().join(file), text).unwrap();
        }
        let directory = Directory::existing(root.path()).unwrap();
        let mut stats = Stats::default();
        rdma(&directory, &mut stats).unwrap();
        misc(&directory, &mut stats).unwrap();
        let entry = |hca_handles, hca_objects| {
            vec![RdmaEntry { device: "mlx4_0".into(), hca_handles, hca_objects }]
        };
        let expected = RdmaStats { rdma_limit: entry(2, u32::MAX), rdma_current: entry(1, 20) };
        assert_eq!(stats.rdma_stats, expected);
        assert_eq!(
            stats.misc_stats,
            [
                ("res_a".to_owned(), MiscStats { usage: 3, events: 9 }),
                ("res_b".to_owned(), MiscStats::default()),
            ]
            .into()
        );
    }
}
