//! What tests leave on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Mount, eventually};

/// Where cgroups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The variable that all processes of a sandbox or bench have, with its name.
pub const MARK: &str = "PIDONE_TEST";

/// How deep cgroups are looked for below the root of a hierarchy.
const DEPTH: u32 = 5;

/// Cgroups, mounts and processes that carry the name of a sandbox, or lie in its directory.
#[must_use]
pub fn of(name: &str, directory: &Path) -> Vec<String> {
    let mut left = cgroups(name);
    left.extend(mounts(directory));
    left.extend(processes(name));
    left
}

/// Returns what is left once nothing more goes away: something that was just killed exists until it
/// is reaped.
pub fn settled(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let mut left = Vec::new();
    eventually(|| {
        left = look();
        left.is_empty()
    });
    left
}

/// Finds a file or directory by its exact name, so many levels deep.
#[must_use]
pub fn find(directory: &Path, depth: u32, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        let below = depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(found) = below.then(|| find(&entry.path(), depth - 1, name)).flatten() {
            return Some(found);
        }
    }
    None
}

/// The directories of cgroups that have the name in theirs.
#[must_use]
pub fn cgroups(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for mount in host_mounts().iter().filter(|mount| mount.fstype.starts_with("cgroup")) {
        search(Path::new(&mount.point), name, DEPTH, &mut found);
    }
    found
}

fn search(directory: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
    let Ok(entries) = directory.read_dir() else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(format!("cgroup {}", entry.path().display()));
        } else if depth > 1 {
            search(&entry.path(), name, depth - 1, found);
        }
    }
}

/// The host's mounts.
#[must_use]
pub fn host_mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(Mount::parse).collect()
}

/// The mounts that lie in a directory, or show it.
pub fn mounts(directory: &Path) -> impl Iterator<Item = String> {
    let inside = move |mount: &Mount| {
        let shown = directory.strip_prefix("/").unwrap_or(directory);
        Path::new(&mount.point).starts_with(directory)
            || Path::new(&mount.root).strip_prefix("/").is_ok_and(|root| root.starts_with(shown))
    };
    host_mounts().into_iter().filter(inside).map(|mount| format!("mount {}", mount.point))
}

/// The entries of a state root.
#[must_use]
pub fn states(root: &Path) -> Vec<String> {
    let entries = root.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| format!("state {}", entry.path().display())).collect()
}

/// The network interfaces whose alias names a state root, which says whom they belong to.
#[must_use]
pub fn interfaces(root: &str) -> Vec<String> {
    let links = Path::new("/sys/class/net").read_dir().into_iter().flatten().flatten();
    let owned = links.filter(|link| {
        let alias = fs::read_to_string(link.path().join("ifalias"));
        alias.is_ok_and(|alias| alias.contains(root))
    });
    owned.map(|link| format!("interface {}", link.path().display())).collect()
}

/// The processes that see something of a directory among their mounts.
#[must_use]
pub fn viewers(directory: &str) -> Vec<String> {
    let sees = |pid: &i32| {
        let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        mounts.windows(directory.len()).any(|part| part == directory.as_bytes())
    };
    let named = |pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("process {pid} {}", line.replace('\0', " "))
    };
    pids().into_iter().filter(sees).map(named).collect()
}

/// The processes that were marked with the name, but for those that have ended meanwhile.
#[must_use]
pub fn processes(name: &str) -> Vec<String> {
    let mark = format!("{MARK}={name}");
    pids()
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|&byte| byte == 0).any(|one| one == mark.as_bytes()))
        })
        .map(|pid| format!("process {pid}"))
        .collect()
}

/// All processes that are seen here.
fn pids() -> Vec<i32> {
    let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What the test program has before any test.
#[derive(Debug)]
pub struct Baseline {
    descriptors: BTreeSet<String>,
    children: BTreeSet<i32>,
}

impl Baseline {
    /// Looks at the process.
    #[must_use]
    pub fn take() -> Self {
        Self { descriptors: descriptors(), children: children() }
    }

    /// Returns what exists now and did not, apart from what the library keeps for the life of the
    /// process.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        settled(|| self.compare())
    }

    fn compare(&self) -> Vec<String> {
        let mut left = Vec::new();
        for new in descriptors().difference(&self.descriptors) {
            // The image of the init, and the mount namespace of the template.
            if !new.contains("memfd:pidone-init") && !new.contains("mnt:[") {
                left.push(format!("descriptor {new}"));
            }
        }
        left.extend(children().difference(&self.children).map(|pid| format!("child {pid}")));
        // All sandboxes of this process have its number in their names.
        let name = format!("pidone-test-{}-", std::process::id());
        left.extend(cgroups(&name));
        let mounts = host_mounts();
        let ours = mounts.iter().filter(|mount| mount.point.contains(&name));
        left.extend(ours.map(|mount| format!("mount {}", mount.point)));
        left
    }
}

/// The descriptors of this process, with their numbers.
fn descriptors() -> BTreeSet<String> {
    let directory = Path::new("/proc/self/fd");
    let entries = directory.read_dir().into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            // The listing itself.
            let own = target.ends_with("fd") && target.starts_with("/proc");
            let name = entry.file_name().to_string_lossy().into_owned();
            (!own).then(|| format!("{name} -> {}", target.display()))
        })
        .collect()
}

/// The children of this process, whichever thread made them.
fn children() -> BTreeSet<i32> {
    let own = std::process::id().to_string();
    pids()
        .into_iter()
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            fields.split_ascii_whitespace().nth(1) == Some(own.as_str())
        })
        .collect()
}
