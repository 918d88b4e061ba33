//! The pages of a container by memory node. cgroup v1 only.

use std::collections::BTreeMap;

use serde::Serialize;

use super::text::number;

/// Pages by kind, of the cgroup itself and with its sub-cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PageUsageByNuma {
    /// All pages.
    pub total: Pages,
    /// Pages of files.
    pub file: Pages,
    /// Anonymous pages.
    pub anon: Pages,
    /// Pages that cannot be reclaimed.
    pub unevictable: Pages,
    /// The same, including the pages of sub-cgroups.
    pub hierarchical: PageUsage,
}

/// Pages by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PageUsage {
    /// All pages.
    pub total: Pages,
    /// Pages of files.
    pub file: Pages,
    /// Anonymous pages.
    pub anon: Pages,
    /// Pages that cannot be reclaimed.
    pub unevictable: Pages,
}

/// A number of pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// On all nodes.
    pub total: u64,
    /// By number of the node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<u32, u64>,
}

/// Parses lines of `kind=PAGES N0=PAGES N1=PAGES ...`.
pub(super) fn parse(text: &str) -> PageUsageByNuma {
    let mut usage = PageUsageByNuma::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        let Some((kind, total)) = words.next() else { continue };
        let pages = match kind {
            "total" => &mut usage.total,
            "file" => &mut usage.file,
            "anon" => &mut usage.anon,
            "unevictable" => &mut usage.unevictable,
            "hierarchical_total" => &mut usage.hierarchical.total,
            "hierarchical_file" => &mut usage.hierarchical.file,
            "hierarchical_anon" => &mut usage.hierarchical.anon,
            "hierarchical_unevictable" => &mut usage.hierarchical.unevictable,
            _ => continue,
        };
        pages.total = number(total).unwrap_or(0);
        let node = |(node, pages): (&str, &str)| {
            Some((node.strip_prefix('N')?.parse().ok()?, number(pages)?))
        };
        pages.nodes = words.filter_map(node).collect();
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_by_kind_and_node() {
        let text = "total=10 N0=4 N1=6\nfile=3 N0=3 N1=0\nlater=1\n\nhierarchical_anon=7 N0=7\nx";
        let usage = parse(text);
        assert_eq!(usage.total, Pages { total: 10, nodes: [(0, 4), (1, 6)].into() });
        assert_eq!(usage.file.nodes, [(0, 3), (1, 0)].into());
        assert_eq!(usage.hierarchical.anon, Pages { total: 7, nodes: [(0, 7)].into() });
        assert_eq!(usage.anon, Pages::default());
        let json = serde_json::to_value(&usage).unwrap();
        assert_eq!(json["total"]["nodes"]["1"], 6);
        assert_eq!(json["hierarchical"]["anon"]["total"], 7);
    }
}
