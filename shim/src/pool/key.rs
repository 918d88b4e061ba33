//! The part of a configuration that a container parked without its root was made from.

use pidone_config::config::{Cgroup, IdMap, Namespace, Network, Route};
use pidone_config::{Config, Error, Process, Result};
use pidone_plan::container::has_commands;

/// The fields of a configuration that a container depends on before it has a root.
#[derive(Debug, PartialEq)]
pub(super) struct Key {
    namespaces: Vec<Namespace>,
    ids: [Vec<IdMap>; 2],
    networks: Vec<Network>,
    routes: Vec<Route>,
    /// The limits and the parent of the cgroup, without its name.
    cgroup: Option<Cgroup>,
    labels: [String; 3],
    parent_death_signal: i32,
}

impl Key {
    pub(super) fn new(config: &Config) -> Self {
        let mut cgroup = config.cgroups.clone();
        if let Some(cgroup) = &mut cgroup {
            cgroup.name.clear();
        }
        Self {
            namespaces: config.namespaces.clone(),
            ids: [config.uid_mappings.clone(), config.gid_mappings.clone()],
            networks: config.networks.clone(),
            routes: config.routes.clone(),
            cgroup,
            labels: [&config.apparmor_profile, &config.process_label, &config.mount_label]
                .map(String::clone),
            parent_death_signal: config.parent_death_signal,
        }
    }

    /// Checks that a configuration with the key `other` can use containers with this key.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] with the field that differs.
    pub(super) fn check(&self, other: &Self) -> Result<()> {
        let field = if self.namespaces != other.namespaces {
            "namespaces"
        } else if self.ids != other.ids {
            "uid_mappings, gid_mappings"
        } else if self.networks != other.networks {
            "networks"
        } else if self.routes != other.routes {
            "routes"
        } else if self.cgroup != other.cgroup {
            "cgroups"
        } else if self.labels != other.labels {
            "apparmor_profile, process_label, mount_label"
        } else if self.parent_death_signal != other.parent_death_signal {
            "parent_death_signal"
        } else {
            return Ok(());
        };
        Err(Error::config(field, "", "not the same as the pool's"))
    }
}

/// Whether a start has steps of the host that a parked container does not allow: before the program
/// is known, or while the root is set up. Such a start is cold.
pub(super) fn needs_host(config: &Config, process: &Process) -> bool {
    config.mounts.iter().any(has_commands)
        || config.hooks.need_host_mounts()
        || !config.hooks.prestart.is_empty()
        || !config.hooks.create_runtime.is_empty()
        || process.oom_score_adj.is_some()
        || config.supervise
}

#[cfg(test)]
mod tests {
    use super::*;
    use pidone_config::config::NamespaceType;

    #[test]
    fn keys_differ_in_namespaces_labels_and_limits_but_not_in_the_root() {
        let config = Config::template("/srv/one".into());
        let key = Key::new(&config);
        let mut other = Config { rootfs: "/srv/other".into(), ..config.clone() };
        other.readonlyfs = true;
        if let Some(cgroup) = &mut other.cgroups {
            cgroup.name = "other".into();
        }
        assert!(key.check(&Key::new(&other)).is_ok());
        let differ = |change: fn(&mut Config)| {
            let mut other = config.clone();
            change(&mut other);
            key.check(&Key::new(&other)).unwrap_err().to_string()
        };
        assert!(
            differ(|config| config.set_namespace(NamespaceType::User, "")).contains("namespaces")
        );
        assert!(differ(|config| config.apparmor_profile = "x".into()).contains("apparmor"));
        let limit = |config: &mut Config| config.cgroups.as_mut().unwrap().memory = 1 << 20;
        assert!(differ(limit).contains("cgroups"));
        assert!(!needs_host(&config, &Process::default()));
    }
}
