//! Adapts a configuration to a user namespace.
//!
//! What the kernel refuses in a user namespace is left out if a container can do without it, and is
//! an error otherwise.

use std::path::Path;

use pidone_config::config::default::auto_created_devices;
use pidone_config::config::{IdMap, NamespaceType};
use pidone_config::{Config, Error, Result};
use pidone_host::cgroup;
use pidone_host::privilege::Caller;

/// The facts of the host that the changes depend on.
struct Host<'a> {
    /// The id maps of the container, if the caller is not root of the host.
    id_maps: Option<(Vec<IdMap>, Vec<IdMap>)>,
    /// Returns whether the host has a device.
    has_device: &'a dyn Fn(&str) -> bool,
    /// Returns whether the caller can create the container's cgroup.
    can_make_cgroup: &'a dyn Fn(&pidone_config::config::Cgroup) -> bool,
}

/// Changes the configuration so that the caller can start it.
///
/// Root of the host can start any configuration, so nothing changes for it unless the configuration
/// has a user namespace. For anyone else it gets a user namespace in which the caller is root. What
/// a user namespace forbids and a container can do without is left out: device nodes that the host
/// lacks, file systems of a namespace that is shared with the host, and a cgroup that the caller
/// cannot create.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for an invalid configuration, and for a limit or a view
/// of the cgroup if there can be no cgroup; [`pidone_config::Code::SystemError`] if the ids of the
/// caller's user namespace cannot be read.
pub fn fit_caller(config: &mut Config) -> Result<()> {
    // Before anything is left out, so that what is invalid is refused even if it is not needed.
    config.validate()?;
    let caller = Caller::current();
    let host = Host {
        id_maps: (!caller.is_privileged()).then(|| caller.id_maps()).transpose()?,
        has_device: &|path| Path::new(path).exists(),
        can_make_cgroup: &cgroup::can_create,
    };
    fit(config, &host)
}

/// Changes a configuration so that it can be started on a host with these facts.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a limit or a view of the cgroup if there can be no
/// cgroup.
fn fit(config: &mut Config, host: &Host<'_>) -> Result<()> {
    if let Some((users, groups)) = &host.id_maps {
        if config.namespace(NamespaceType::User).is_none() {
            config.set_id_maps(users.clone(), groups.clone());
        }
        fit_cgroup(config, host)?;
    }
    if config.has_new(NamespaceType::User) {
        fit_devices(config, host);
        fit_mounts(config);
    }
    Ok(())
}

/// Leaves out the devices that cannot be bound from the host, since mknod(2) is refused.
///
/// Of the default devices these are the ones that the host lacks, and `/dev/fuse`: its node has no
/// permissions in a container, and a bind would have those of the host's node.
fn fit_devices(config: &mut Config, host: &Host<'_>) {
    let defaults = auto_created_devices();
    config.devices.retain(|device| {
        let is_default = defaults.iter().any(|default| default.path == device.path);
        !is_default || (device.file_mode & 0o777 != 0 && (host.has_device)(&device.path))
    });
}

/// Leaves out the file systems of a namespace that the container shares with the host: only the
/// user namespace that owns it may mount them.
fn fit_mounts(config: &mut Config) {
    let new = [NamespaceType::Network, NamespaceType::Ipc].map(|kind| config.has_new(kind));
    let [network, ipc] = new;
    config.mounts.retain(|mount| match mount.device.as_str() {
        "sysfs" => network,
        "mqueue" => ipc,
        _ => true,
    });
}

/// Leaves out the cgroup if the caller cannot create it: the container then stays in the caller's.
///
/// In a cgroup that the caller can create, the device rules are left out: they need privileges, and
/// an ordinary user can open fewer devices anyway.
fn fit_cgroup(config: &mut Config, host: &Host<'_>) -> Result<()> {
    let Some(cgroup) = &mut config.cgroups else { return Ok(()) };
    let limit = cgroup::first_limit(cgroup)?;
    if (host.can_make_cgroup)(cgroup) {
        cgroup.allow_all_devices = true;
        cgroup.allowed_devices.clear();
        cgroup.denied_devices.clear();
        return Ok(());
    }
    let reason = "needs a cgroup, and this user can make none";
    if let Some(field) = limit {
        return Err(Error::config(format!("cgroups.{field}"), "", reason));
    }
    if let Some(index) = config.mounts.iter().position(|mount| mount.device.starts_with("cgroup")) {
        let device = &config.mounts[index].device;
        return Err(Error::config(format!("mounts[{index}].device"), device, reason));
    }
    config.cgroups = None;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config::{CreateOptions, NamespaceChoice};

    fn fitted(config: Config) -> Result<Config> {
        fitted_on(config, true, |path| path != "/dev/full", false)
    }

    fn fitted_on(
        mut config: Config,
        ordinary: bool,
        has_device: impl Fn(&str) -> bool,
        cgroup: bool,
    ) -> Result<Config> {
        let map = |id| vec![IdMap { container_id: 0, host_id: id, size: 1 }];
        let host = Host {
            id_maps: ordinary.then(|| (map(1000), map(100))),
            has_device: &has_device,
            can_make_cgroup: &|_| cgroup,
        };
        fit(&mut config, &host)?;
        config.validate()?;
        Ok(config)
    }

    fn template(options: CreateOptions) -> Config {
        let mut config = Config::template("/srv/root".into());
        options.apply(&mut config).unwrap();
        config
    }

    fn has_mount(config: &Config, device: &str) -> bool {
        config.mounts.iter().any(|mount| mount.device == device)
    }

    #[test]
    fn nothing_changes_for_root_of_the_host() {
        let config = template(CreateOptions::default());
        let same = fitted_on(config.clone(), false, |_| false, false).unwrap();
        assert_eq!(same, config);
    }

    #[test]
    fn an_ordinary_user_gets_a_user_namespace_without_what_it_forbids() {
        let config = fitted(template(CreateOptions::default())).unwrap();
        assert!(config.has_new(NamespaceType::User));
        assert_eq!((config.host_uid(), config.host_gid()), (Some(1000), Some(100)));
        let paths: Vec<_> = config.devices.iter().map(|device| device.path.as_str()).collect();
        assert_eq!(paths, ["/dev/null", "/dev/zero", "/dev/tty", "/dev/urandom", "/dev/random"]);
        let devpts = config.mounts.iter().find(|mount| mount.device == "devpts").unwrap();
        assert!(!devpts.data.contains("gid="), "{}", devpts.data);
        assert!(has_mount(&config, "sysfs") && has_mount(&config, "mqueue"));
        assert_eq!(config.cgroups, None);
    }

    #[test]
    fn file_systems_of_a_shared_namespace_are_left_out() {
        let host = CreateOptions {
            net: Some(NamespaceChoice::Host),
            ipc: Some(NamespaceChoice::Host),
            ..CreateOptions::default()
        };
        let config = fitted(template(host.clone())).unwrap();
        assert!(!has_mount(&config, "sysfs") && !has_mount(&config, "mqueue"));
        assert!(has_mount(&config, "proc") && has_mount(&config, "tmpfs"));
        let mut mapped = template(host);
        mapped.set_id_maps(vec![IdMap { container_id: 0, host_id: 5, size: 9 }], Vec::new());
        mapped.gid_mappings.clone_from(&mapped.uid_mappings);
        let config = fitted_on(mapped, false, |_| true, false).unwrap();
        assert!(!has_mount(&config, "sysfs"));
        assert!(config.cgroups.is_some(), "root of the host has its cgroup");
    }

    #[test]
    fn the_id_maps_of_the_configuration_stay() {
        let options = CreateOptions { userns_root_uid: Some(7), ..CreateOptions::default() };
        let config = fitted(template(options)).unwrap();
        assert_eq!(config.host_uid(), Some(7));
        assert_eq!(config.uid_mappings.len(), 3);
    }

    #[test]
    fn limits_cgroup_mounts_and_other_devices_are_not_left_out() {
        let limit = CreateOptions { memory_limit: Some(1 << 26), ..CreateOptions::default() };
        let error = fitted(template(limit)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration `cgroups.memory`: needs a cgroup, and this user can make none"
        );
        let view = CreateOptions { mount_cgroup: true, ..CreateOptions::default() };
        let error = fitted(template(view)).unwrap_err().to_string();
        assert!(error.contains("`mounts[6].device = cgroup`"), "{error}");
        let mut device = template(CreateOptions::default());
        device.devices[1].path = "/dev/null2".into();
        let config = fitted_on(device, true, |_| false, false).unwrap();
        assert_eq!(config.devices.len(), 1);
    }

    #[test]
    fn a_writable_cgroup_stays_without_device_rules() {
        let limit = CreateOptions { memory_limit: Some(1 << 26), ..CreateOptions::default() };
        let config = fitted_on(template(limit), true, |_| true, true).unwrap();
        let cgroup = config.cgroups.unwrap();
        assert_eq!(cgroup.memory, 1 << 26);
        assert!(cgroup.allow_all_devices && cgroup.allowed_devices.is_empty());
    }
}
