//! Enabling the controllers that a cgroup of cgroup v2 needs.
//!
//! A cgroup has the controllers that its parent lists in `cgroup.subtree_control`. Reference: the
//! kernel's `admin-guide/cgroup-v2`.

use std::collections::BTreeSet;

use pidone_config::{Code, Error, Result};
use rustix::io::Errno;

use super::directory::Directory;
use super::knob::{self, IfAbsent, Knob};

/// The controllers that account for what a container uses. They are enabled where possible, even
/// without a limit, so that statistics and OOM events exist.
const ACCOUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// Enables controllers for the cgroup `leaf`, by writing them to `cgroup.subtree_control` of every
/// ancestor that does not list them yet: the controllers of `knobs`, which are required, and those
/// of [`ACCOUNTING`] where available.
///
/// # Errors
/// `Code::ConfigInvalid` for a knob whose controller is not available. An ancestor that has
/// processes itself: there the kernel enables no domain controllers ("no internal processes"), and
/// threaded ones only by making the cgroups below unusable for whole processes.
pub(super) fn enable(leaf: &Directory, knobs: &[Knob]) -> Result<()> {
    let needed = |knob: &&Knob| knob.if_absent != IfAbsent::Skip && knob.controller != knob::CORE;
    let required: BTreeSet<&str> =
        knobs.iter().filter(needed).map(|knob| knob.controller).collect();
    let wanted: BTreeSet<&str> = required.iter().copied().chain(ACCOUNTING).collect();
    if wanted.is_subset(&words(&leaf.read_existing("cgroup.controllers")?)) {
        return Ok(());
    }
    let ancestors = ancestors(leaf)?;
    if let Some(highest) = ancestors.first().filter(|_| required.is_empty()) {
        // Usually none is available if the controllers are in hierarchies of cgroup v1.
        let available = highest.read_existing("cgroup.controllers")?;
        if words(&available).is_disjoint(&wanted) {
            return Ok(());
        }
    }
    for ancestor in ancestors {
        let available = ancestor.read_existing("cgroup.controllers")?;
        let available = words(&available);
        let lacking = |knob: &&Knob| !available.contains(knob.controller);
        if let Some(knob) = knobs.iter().filter(needed).find(lacking) {
            return Err(knob.refusal(format!(
                "needs the cgroup controller `{}`, which `{}` does not have",
                knob.controller,
                ancestor.path().display()
            )));
        }
        let enabled = ancestor.read_existing("cgroup.subtree_control")?;
        let enabled = words(&enabled);
        let missing = wanted
            .iter()
            .copied()
            .filter(|name| available.contains(name) && !enabled.contains(name));
        let missing: Vec<&str> = missing.collect();
        if missing.is_empty() {
            continue;
        }
        if is_occupied(&ancestor)? {
            let Some(controller) = required.iter().find(|name| missing.contains(name)) else {
                return Ok(());
            };
            let path = ancestor.path().to_string_lossy();
            let reason = format!(
                "it has processes of its own, so that the controller `{controller}` \
                 cannot be enabled below it"
            );
            return Err(Error::reason(Code::SystemError, "enable cgroup controller", path, reason)
                .with_hint("name a parent without processes, or move them to a cgroup below"));
        }
        for name in missing {
            let written = ancestor.try_write("cgroup.subtree_control", &format!("+{name}"));
            match written {
                Err(errno) if required.contains(name) => {
                    let file = "cgroup.subtree_control";
                    return Err(ancestor.write_error(file, &format!("+{name}"), errno));
                }
                // The accounting controllers are optional.
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a cgroup has processes that prevent enabling controllers. The root is exempt.
fn is_occupied(directory: &Directory) -> Result<bool> {
    if !directory.has("cgroup.type") {
        return Ok(false);
    }
    match directory.read("cgroup.procs") {
        // A threaded cgroup, which has threads but no processes.
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Ok(true),
        other => Ok(other?.is_some_and(|text| !text.is_empty())),
    }
}

/// Returns the cgroups above `leaf`, starting with the highest that is visible.
fn ancestors(leaf: &Directory) -> Result<Vec<Directory>> {
    let mut found = vec![leaf.parent()?];
    while let Some(lowest) = found.last() {
        let above = lowest.parent()?;
        if !above.has("cgroup.subtree_control") {
            break;
        }
        found.push(above);
    }
    found.reverse();
    Ok(found)
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_ascii_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Creates a cgroup of plain files.
    fn cgroup(path: &Path, controllers: &str, enabled: &str, procs: Option<&str>) {
        std::fs::create_dir_all(path).unwrap();
        std::fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(path.join("cgroup.subtree_control"), enabled).unwrap();
        if let Some(procs) = procs {
            std::fs::write(path.join("cgroup.type"), "domain").unwrap();
            std::fs::write(path.join("cgroup.procs"), procs).unwrap();
        }
    }

    fn memory_knob() -> [Knob; 1] {
        [Knob::new("memory", "memory", "memory.max", "1")]
    }

    #[test]
    fn controllers_are_enabled_from_the_top() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("leaf");
        cgroup(root.path(), "cpu memory hugetlb", "", None);
        cgroup(&leaf, "", "", Some(""));
        let leaf = Directory::existing(&leaf).unwrap();
        enable(&leaf, &memory_knob()).unwrap();
        // In a plain file each write replaces the beginning, so the last one is left.
        let control = root.path().join("cgroup.subtree_control");
        assert_eq!(std::fs::read_to_string(control).unwrap(), "+memory");

        let knob = Knob::new("pids_limit", "pids", "pids.max", "1");
        enable(&leaf, &[knob.clone().or(IfAbsent::Skip)]).unwrap();
        let error = enable(&leaf, &[knob]).unwrap_err().to_string();
        assert!(error.contains("needs the cgroup controller `pids`"), "{error}");
    }

    #[test]
    fn a_parent_with_processes_is_an_error_only_for_a_required_controller() {
        let root = tempfile::tempdir().unwrap();
        let middle = root.path().join("middle");
        let leaf = middle.join("leaf");
        cgroup(root.path(), "memory", "memory", None);
        cgroup(&middle, "memory", "", Some("42\n"));
        cgroup(&leaf, "", "", Some(""));
        let leaf = Directory::existing(&leaf).unwrap();
        enable(&leaf, &[]).unwrap();
        let error = enable(&leaf, &memory_knob()).unwrap_err().to_string();
        assert!(error.contains("/middle`: it has processes of its own"), "{error}");
        let control = middle.join("cgroup.subtree_control");
        assert_eq!(std::fs::read_to_string(control).unwrap(), "");
    }
}
