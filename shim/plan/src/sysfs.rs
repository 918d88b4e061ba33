//! The sysfs of a container in a user namespace.

use pidone_config::config::Mount;
use pidone_config::config::mount::flags::{BIND, RDONLY, REMOUNT, attribute};
use pidone_config::{Config, Result};

use super::clean;
use super::facts::Facts;

/// Returns the configuration with a read-only sysfs where a user namespace permits no other: the
/// kernel locks it as it is on the host, and mounts no new one that may do more:
/// `mount_namespaces(7)`. `None` if it can be as configured.
///
/// `podman run --privileged` always wants a writable one, also where the host has none.
pub(super) fn as_permitted(config: &Config, facts: &Facts<'_>) -> Result<Option<Config>> {
    let is_locked =
        || -> Result<bool> { Ok((facts.attributes)("/sys".as_ref())? & attribute::RDONLY != 0) };
    if !facts.in_user_namespace || !config.mounts.iter().any(is_writable_sysfs) || !is_locked()? {
        return Ok(None);
    }
    let mut config = config.clone();
    for mount in config.mounts.iter_mut().filter(|mount| is_writable_sysfs(mount)) {
        mount.flags |= RDONLY;
        mount.cleared &= !RDONLY;
    }
    Ok(Some(config))
}

/// Whether a mount is a new sysfs, or the whole one of the host, that is not read-only.
fn is_writable_sysfs(mount: &Mount) -> bool {
    let is_bind = mount.flags & BIND != 0 || mount.device == "bind";
    let is_sysfs = if is_bind { clean(&mount.source) == "/sys" } else { mount.device == "sysfs" };
    // A bind without `rw` is what its source is.
    let is_writable = !is_bind || mount.cleared & RDONLY != 0;
    is_sysfs && is_writable && mount.flags & (RDONLY | REMOUNT) == 0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn sysfs(device: &str, source: &str, flags: u64, cleared: u64) -> Mount {
        Mount {
            device: device.into(),
            source: source.into(),
            destination: "/sys".into(),
            flags,
            cleared,
            ..Mount::default()
        }
    }

    /// Returns the flags that the mount gets, and those that it clears, with these attributes of
    /// the host's `/sys`.
    fn permitted(mount: Mount, host: u64, in_user_namespace: bool) -> Option<(u64, u64)> {
        let config = Config { mounts: vec![mount], ..Config::default() };
        let attributes = |path: &Path| {
            assert_eq!(path, Path::new("/sys"));
            Ok(host)
        };
        let facts = Facts { in_user_namespace, attributes: &attributes, ..crate::tests::facts() };
        let config = as_permitted(&config, &facts).unwrap()?;
        Some((config.mounts[0].flags, config.mounts[0].cleared))
    }

    #[test]
    fn a_writable_sysfs_becomes_read_only_where_the_hosts_is() {
        let locked = attribute::RDONLY;
        assert_eq!(permitted(sysfs("sysfs", "sysfs", 0, RDONLY), locked, true), Some((RDONLY, 0)));
        assert_eq!(permitted(sysfs("sysfs", "", 0, 0), locked, true), Some((RDONLY, 0)));
        let bind = || sysfs("bind", "/sys/", BIND, RDONLY);
        assert_eq!(permitted(bind(), locked, true), Some((BIND | RDONLY, 0)));
        assert_eq!(permitted(bind(), locked, false), None);
        assert_eq!(permitted(bind(), 0, true), None);
        for other in [
            sysfs("sysfs", "", RDONLY, 0),
            sysfs("bind", "/sys", BIND, 0),
            sysfs("bind", "/sys/fs/cgroup", BIND, RDONLY),
            sysfs("", "", REMOUNT, RDONLY),
        ] {
            assert_eq!(permitted(other, locked, true), None);
        }
    }
}
