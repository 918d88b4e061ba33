//! A configuration made to fit a user namespace: what the kernel refuses there is left out where
//! a container can do without, and is an error where it cannot.

use std::path::Path;

use pidone_config::config::default::auto_created_devices;
use pidone_config::config::{IdMap, NamespaceType};
use pidone_config::{Config, Error, Result};
use pidone_host::cgroup;
use pidone_host::privilege::Caller;

/// The facts of the host that decide.
struct Host<'a> {
    /// The ids of the container, where the caller is not root of the host.
    id_maps: Option<(Vec<IdMap>, Vec<IdMap>)>,
    /// Whether the host has a device.
    has_device: &'a dyn Fn(&str) -> bool,
    /// Whether the caller can make the container's cgroup.
    can_make_cgroup: &'a dyn Fn(&pidone_config::config::Cgroup) -> bool,
}

/// Changes the configuration so that the caller can start it: root of the host any configuration,
/// everybody else one with a user namespace in which the caller is root.
///
/// What a user namespace forbids and a container can do without is left out: device nodes that
/// the host lacks, file systems that show a namespace which stays the host's, a cgroup that the
/// caller cannot make. Nothing changes for root unless the configuration has a user namespace.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for what is wrong in the configuration already, and for a
/// limit, or a view of the cgroup, where there can be none; [`pidone_config::Code::SystemError`] if the
/// ids of the caller's own namespace cannot be read.
pub fn fit_caller(config: &mut Config) -> Result<()> {
    // Before anything is left out: what is wrong must not pass because it is not needed.
    config.validate()?;
    let caller = Caller::current();
    let host = Host {
        id_maps: (!caller.is_privileged()).then(|| caller.id_maps()).transpose()?,
        has_device: &|path| Path::new(path).exists(),
        can_make_cgroup: &cgroup::can_create,
    };
    fit(config, &host)
}

/// Changes a configuration so that it can be started.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for a limit, or a view of the cgroup, where there can be none.
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

/// Nodes are those of the host, which are bound since mknod(2) is refused.
///
/// Of the nodes that every container has, those that the host lacks are left out; so is
/// `/dev/fuse`, which is to be there without permissions: the host's has its own.
fn fit_devices(config: &mut Config, host: &Host<'_>) {
    let defaults = auto_created_devices();
    config.devices.retain(|device| {
        let is_default = defaults.iter().any(|default| default.path == device.path);
        !is_default || (device.file_mode & 0o777 != 0 && (host.has_device)(&device.path))
    });
}

/// A file system that shows a namespace can be mounted by who owns that namespace.
fn fit_mounts(config: &mut Config) {
    let new = [NamespaceType::Network, NamespaceType::Ipc].map(|kind| config.has_new(kind));
    let [network, ipc] = new;
    config.mounts.retain(|mount| match mount.device.as_str() {
        "sysfs" => network,
        "mqueue" => ipc,
        _ => true,
    });
}

/// Without a writable cgroup the container stays in the caller's. In one, rules about devices
/// need more than the right to write there, and less is open anyway.
fn fit_cgroup(config: &mut Config, host: &Host<'_>) -> Result<()> {
    let Some(own) = &mut config.cgroups else { return Ok(()) };
    let limit = cgroup::asks_for(own)?;
    if (host.can_make_cgroup)(own) {
        own.allow_all_devices = true;
        own.allowed_devices.clear();
        own.denied_devices.clear();
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
    fn root_of_the_host_changes_nothing() {
        let config = template(CreateOptions::default());
        let same = fitted_on(config.clone(), false, |_| false, false).unwrap();
        assert_eq!(same, config);
    }

    #[test]
    fn an_ordinary_user_is_root_inside() {
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
        let mut asked = template(host);
        asked.set_id_maps(vec![IdMap { container_id: 0, host_id: 5, size: 9 }], Vec::new());
        asked.gid_mappings.clone_from(&asked.uid_mappings);
        let config = fitted_on(asked, false, |_| true, false).unwrap();
        assert!(!has_mount(&config, "sysfs"));
        assert!(config.cgroups.is_some(), "root of the host has its cgroup");
    }

    #[test]
    fn a_user_namespace_that_is_asked_for_stays() {
        let options = CreateOptions { userns_root_uid: Some(7), ..CreateOptions::default() };
        let config = fitted(template(options)).unwrap();
        assert_eq!(config.host_uid(), Some(7));
        assert_eq!(config.uid_mappings.len(), 3);
    }

    #[test]
    fn what_was_asked_for_is_not_dropped() {
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
    fn a_writable_cgroup_is_kept_without_rules() {
        let limit = CreateOptions { memory_limit: Some(1 << 26), ..CreateOptions::default() };
        let config = fitted_on(template(limit), true, |_| true, true).unwrap();
        let cgroup = config.cgroups.unwrap();
        assert_eq!(cgroup.memory, 1 << 26);
        assert!(cgroup.allow_all_devices && cgroup.allowed_devices.is_empty());
    }
}
