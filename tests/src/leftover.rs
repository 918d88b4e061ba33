//! What tests leave on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Mount;

/// The variable that all containers of a sandbox have, with its name.
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
fn mounts(directory: &Path) -> impl Iterator<Item = String> {
    let inside = move |mount: &Mount| {
        let shown = directory.strip_prefix("/").unwrap_or(directory);
        Path::new(&mount.point).starts_with(directory)
            || Path::new(&mount.root).strip_prefix("/").is_ok_and(|root| root.starts_with(shown))
    };
    host_mounts().into_iter().filter(inside).map(|mount| format!("mount {}", mount.point))
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

    /// What is there now and was not, apart from what the library keeps for the life of the
    /// process. What is just ending gets a moment for it.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let left = self.compare();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
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
