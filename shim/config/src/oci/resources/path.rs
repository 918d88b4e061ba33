//! The property `linux.cgroupsPath`, and the whole cgroup of a container.

use super::Resources;
use super::apply::device_rules;
use crate::config;
use crate::error::{Error, Result};

/// Returns the cgroup of a container, from `linux.cgroupsPath` and `linux.resources`.
///
/// As with runc, an absolute path starts at the mount point of a hierarchy, and a relative path at
/// the calling process's cgroup. If the path is empty, `id` is used. Empty components and `.` are
/// removed. A path of the form `slice:prefix:name`, whose slice is empty or ends with `.slice`, is
/// that of a scope, which systemd makes. The cgroup always has device rules: those of
/// [`Resources::devices`], if any, and the runtime's own.
///
/// # Errors
/// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for a path with `..`, for the root of a
/// hierarchy, and for a scope without a name; and as [`Resources::apply`].
pub fn cgroup(path: &str, id: &str, resources: Option<&Resources>) -> Result<config::Cgroup> {
    let mut cgroup = if is_of_systemd(path) {
        scope(path)?
    } else {
        let (parent, name) = split(path, id)?;
        config::Cgroup { name, parent, ..config::Cgroup::default() }
    };
    if let Some(resources) = resources {
        resources.apply(&mut cgroup)?;
    }
    if cgroup.device_rules.is_empty() {
        cgroup.device_rules = device_rules(&[])?;
    }
    Ok(cgroup)
}

/// Splits a path into parent and name.
fn split(path: &str, id: &str) -> Result<(String, String)> {
    let refuse = |reason: &'static str| Error::config("linux.cgroupsPath", path, reason);
    if path.is_empty() {
        return Ok((String::new(), id.to_owned()));
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

/// Has systemd make the cgroup, which a path in `linux.cgroupsPath` or none has named.
///
/// Without a name, the prefix is `pidone`, and the caller should set the name to the container's
/// id.
///
/// # Errors
/// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for a path that is not of the form
/// `slice:prefix:name`.
pub fn use_scope(cgroup: &mut config::Cgroup) -> Result<()> {
    if cgroup.systemd {
        return Ok(());
    }
    if cgroup.name.is_empty() {
        cgroup.systemd = true;
        PREFIX.clone_into(&mut cgroup.parent);
        return Ok(());
    }
    let path = match cgroup.parent.as_str() {
        "" => cgroup.name.clone(),
        parent => format!("{}/{}", parent.trim_end_matches('/'), cgroup.name),
    };
    let config::Cgroup { slice, parent, name, .. } = scope(&path)?;
    *cgroup = config::Cgroup { systemd: true, slice, parent, name, ..cgroup.clone() };
    Ok(())
}

/// Has the runtime make the cgroup, also one that is named as a scope: then as a directory of that
/// name, as runc without `--systemd-cgroup`.
pub fn use_directory(cgroup: &mut config::Cgroup) {
    if cgroup.systemd {
        let name = format!("{}:{}:{}", cgroup.slice, cgroup.parent, cgroup.name);
        let (slice, parent) = (String::new(), String::new());
        *cgroup = config::Cgroup { systemd: false, slice, parent, name, ..cgroup.clone() };
    }
}

/// The prefix of the scope of a container that has no `linux.cgroupsPath`.
const PREFIX: &str = "pidone";

/// Returns the scope that a path of the form `slice:prefix:name` names, without limits.
///
/// # Errors
/// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for any other form, and without a name.
fn scope(path: &str) -> Result<config::Cgroup> {
    // The text is runc's.
    let reason = "expected cgroupsPath to be of format \"slice:prefix:name\"";
    let refuse = || Err(Error::config("linux.cgroupsPath", path, reason));
    let mut parts = path.split(':');
    let (Some(slice), Some(prefix), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return refuse();
    };
    if name.is_empty() || path.contains('/') {
        return refuse();
    }
    Ok(config::Cgroup {
        systemd: true,
        slice: slice.to_owned(),
        parent: prefix.to_owned(),
        name: name.to_owned(),
        ..config::Cgroup::default()
    })
}

/// Returns whether a path has the form `slice:prefix:name`, in which the slice is empty or ends
/// with `.slice`.
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
    fn path_is_split_into_parent_and_name() {
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
            (":docker:", "expected cgroupsPath to be of format"),
        ] {
            let text = cgroup(path, "box", None).unwrap_err().to_string();
            let start = format!("configuration `linux.cgroupsPath = {path}`: {reason}");
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn paths_of_systemd_name_a_scope() {
        for (path, slice, prefix, name) in [
            ("system.slice:docker:12ab", "system.slice", "docker", "12ab"),
            (":docker:12ab", "", "docker", "12ab"),
            ("a-b.slice::x", "a-b.slice", "", "x"),
        ] {
            let found = cgroup(path, "box", None).unwrap();
            let parts = (found.slice.as_str(), found.parent.as_str(), found.name.as_str());
            assert_eq!((found.systemd, parts), (true, (slice, prefix, name)), "{path}");
        }
        for path in ["a:b", "a:b:c:d", "a/b:c:d", "a:b:", "", "/a"] {
            let error = scope(path).unwrap_err().to_string();
            assert!(error.ends_with("of format \"slice:prefix:name\""), "{error}");
        }
    }

    #[test]
    fn device_rules_without_resources_are_those_of_the_runtime() {
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
