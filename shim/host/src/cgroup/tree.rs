//! Walking a cgroup and the cgroups below it.
//!
//! A container that may write to its cgroup can nest sub-cgroups without limit. So the walk returns
//! to a parent by `..`, instead of keeping a descriptor for every level, and does not recurse.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;

use pidone_config::{Code, Error, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::directory::{Directory, is_gone, read_all};

/// The most sub-cgroups of a walk: more than any service manager creates, and few enough to walk
/// in seconds.
const MOST_CGROUPS: usize = 1 << 17;

/// Calls `enter` for `root` and everything below it, parents first, and `leave` with the parent
/// and the name of every sub-cgroup, children first.
///
/// # Errors
/// The first error of either function; more than [`MOST_CGROUPS`] sub-cgroups.
pub(super) fn walk(
    root: &Directory,
    mut enter: impl FnMut(&Directory) -> Result<()>,
    mut leave: impl FnMut(&Directory, &OsStr) -> Result<()>,
) -> Result<()> {
    let mut current = root.duplicate()?;
    enter(&current)?;
    let mut names = Vec::new();
    let mut unseen = vec![current.children()?];
    let mut count = 0;
    while let Some(children) = unseen.last_mut() {
        if let Some(name) = children.pop() {
            let Some(child) = current.child(&name)? else { continue };
            count += 1;
            if count > MOST_CGROUPS {
                let path = root.path().to_string_lossy();
                return Err(Error::reason(
                    Code::SystemError,
                    "read cgroup",
                    path,
                    format!("more than {MOST_CGROUPS} sub-cgroups"),
                ));
            }
            current = child;
            enter(&current)?;
            unseen.push(current.children()?);
            names.push(name);
        } else {
            unseen.pop();
            if let Some(name) = names.pop() {
                current = current.parent()?;
                leave(&current, &name)?;
            }
        }
    }
    Ok(())
}

/// Returns the processes of a cgroup and of everything below it, in the caller's pid namespace. A 0
/// stands for all processes that are not in that namespace.
pub(super) fn processes(root: &Directory) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    let enter = |directory: &Directory| -> Result<()> {
        let read = directory.file("cgroup.procs", OFlags::RDONLY);
        match read.and_then(|fd| read_all(fd.as_fd())) {
            Ok(text) => found.extend(pids(&text)),
            // A threaded cgroup, whose processes are listed in the domain above it.
            Err(Errno::OPNOTSUPP) => {}
            Err(errno) if is_gone(errno) => {}
            Err(errno) => return Err(directory.error("read", "cgroup.procs", errno)),
        }
        Ok(())
    };
    walk(root, enter, |_, _| Ok(()))?;
    Ok(found)
}

fn pids(text: &str) -> impl Iterator<Item = i32> {
    text.lines().filter_map(|line| line.parse().ok())
}

/// Formats processes for a message: the first few, and the number of the others.
pub(super) fn describe(processes: &BTreeSet<i32>) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = processes
        .iter()
        .take(SHOWN)
        .map(|pid| match pid {
            0 => "some of another pid namespace".to_owned(),
            pid => pid.to_string(),
        })
        .collect();
    if processes.len() > SHOWN {
        names.push(format!("{} more", processes.len() - SHOWN));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn cgroup(path: &Path, procs: &str) {
        std::fs::create_dir_all(path).unwrap();
        std::fs::write(path.join("cgroup.procs"), procs).unwrap();
    }

    #[test]
    fn processes_at_every_depth_are_listed_once() {
        let root = tempfile::tempdir().unwrap();
        cgroup(root.path(), "1\n7\n");
        cgroup(&root.path().join("a"), "");
        cgroup(&root.path().join("a/b"), "12\n7\n");
        cgroup(&root.path().join("c"), "0\n3\n");
        let root = Directory::existing(root.path()).unwrap();
        assert_eq!(processes(&root).unwrap(), BTreeSet::from([0, 1, 3, 7, 12]));
    }

    #[test]
    fn a_tree_deeper_than_path_max_is_walked() {
        const DEPTH: usize = 1500;
        let root = tempfile::tempdir().unwrap();
        let top = Directory::existing(root.path()).unwrap();
        let mut current = top.duplicate().unwrap();
        for _ in 0..DEPTH {
            current.make(OsStr::new("deeper")).unwrap();
            current = current.child(OsStr::new("deeper")).unwrap().unwrap();
        }
        let mut entered = 0;
        let enter = |_: &Directory| {
            entered += 1;
            Ok(())
        };
        let leave = |parent: &Directory, name: &OsStr| {
            parent.remove(name).unwrap();
            Ok(())
        };
        walk(&top, enter, leave).unwrap();
        assert_eq!(entered, DEPTH + 1);
        assert!(top.children().unwrap().is_empty());
    }

    #[test]
    fn a_message_lists_the_first_eight_processes() {
        assert_eq!(describe(&BTreeSet::from([4, 2])), "2, 4");
        assert_eq!(describe(&BTreeSet::from([0])), "some of another pid namespace");
        assert_eq!(describe(&(1..=10).collect()), "1, 2, 3, 4, 5, 6, 7, 8, 2 more");
    }
}
