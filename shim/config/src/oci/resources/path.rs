//! The property `linux.cgroupsPath`, and the whole cgroup.

use super::Resources;
use super::apply::device_rules;
use crate::config;
use crate::error::{Error, Result};

/// Makes the cgroup of a container from `linux.cgroupsPath` and `linux.resources`.
///
/// As with runc, an absolute path begins at the mount point of a hierarchy, any other at the
/// calling process's own cgroup, and an empty one stands for `id`. Empty components and `.` are
/// left out. Devices are ruled by those of [`Resources::devices`] and the runtime's own set, also
/// when there are none.
///
/// # Errors
/// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid): a path with `..`, the root of a hierarchy,
/// the form `slice:prefix:name` of the systemd driver; and as [`Resources::apply`].
pub fn cgroup(path: &str, id: &str, resources: Option<&Resources>) -> Result<config::Cgroup> {
    let (parent, name) = split(path, id)?;
    let mut cgroup = config::Cgroup { name, parent, ..config::Cgroup::default() };
    if let Some(resources) = resources {
        resources.apply(&mut cgroup)?;
    }
    if cgroup.device_rules.is_empty() {
        cgroup.device_rules = device_rules(&[])?;
    }
    Ok(cgroup)
}

/// The path in the parts that the configuration has.
fn split(path: &str, id: &str) -> Result<(String, String)> {
    let refuse = |reason: &'static str| Error::config("linux.cgroupsPath", path, reason);
    if path.is_empty() {
        return Ok((String::new(), id.to_owned()));
    }
    if is_of_systemd(path) {
        let reason = "needs the systemd cgroup driver; this is the cgroupfs driver";
        return Err(refuse(reason));
    }
    let mut components: Vec<&str> =
        path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if components.contains(&"..") {
        return Err(refuse("has a component `..`"));
    }
    let name = components.pop().ok_or_else(|| refuse("is the root of the hierarchy"))?;
    let root = if path.starts_with('/') { "/" } else { "" };
    Ok((format!("{root}{}", components.join("/")), name.to_owned()))
}

/// Whether a path is `slice:prefix:name`, the slice empty or with its suffix.
fn is_of_systemd(path: &str) -> bool {
    let mut parts = path.split(':');
    let slice = parts.next().unwrap_or("");
    !path.contains('/') && parts.count() == 2 && (slice.is_empty() || slice.ends_with(".slice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> (String, String) {
        let cgroup = cgroup(path, "box", None).unwrap();
        (cgroup.parent, cgroup.name)
    }

    #[test]
    fn paths_are_split_before_the_last_component() {
        for (path, parent, name) in [
            ("", "", "box"),
            ("/box1", "/", "box1"),
            ("box1", "", "box1"),
            ("a/b/c", "a/b", "c"),
            ("/libpod_parent/libpod-12ab", "/libpod_parent", "libpod-12ab"),
            ("/kubepods/besteffort/pod1/12ab", "/kubepods/besteffort/pod1", "12ab"),
            ("//a/./b//c/", "/a/b", "c"),
            ("./a", "", "a"),
            ("/a:b:c", "/", "a:b:c"),
        ] {
            assert_eq!(parts(path), (parent.to_owned(), name.to_owned()), "{path}");
        }
    }

    #[test]
    fn paths_out_of_the_hierarchy_are_refused() {
        for (path, reason) in [
            ("..", "has a component `..`"),
            ("/a/../../b", "has a component `..`"),
            ("a/..", "has a component `..`"),
            ("/", "is the root of the hierarchy"),
            ("./", "is the root of the hierarchy"),
            ("system.slice:docker:12ab", "needs the systemd cgroup driver"),
            (":docker:12ab", "needs the systemd cgroup driver"),
        ] {
            let text = cgroup(path, "box", None).unwrap_err().to_string();
            let start = format!("configuration `linux.cgroupsPath = {path}`: {reason}");
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn devices_are_closed_but_for_the_runtimes_own_set() {
        let none = cgroup("/a", "box", None).unwrap();
        let empty = cgroup("/a", "box", Some(&Resources::default())).unwrap();
        assert_eq!(none, empty);
        let rules: Vec<String> = none.device_rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules[0], "allow c *:* m");
        assert!(rules.contains(&"allow c 1:3 rwm".to_owned()));
        assert!(rules.iter().all(|rule| rule.starts_with("allow")));
        assert!(!none.allow_all_devices && none.allowed_devices.is_empty());
    }
}
