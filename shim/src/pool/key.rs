//! What must be the same of two configurations for a container that was parked without its root.

use pidone_config::config::{Cgroup, IdMap, Namespace, Network, Route};
use pidone_config::{Config, Error, Process, Result};
use pidone_plan::container::has_commands;

/// What a container is made of before it has a root.
#[derive(Debug, PartialEq)]
pub(super) struct Key {
    namespaces: Vec<Namespace>,
    ids: [Vec<IdMap>; 2],
    networks: Vec<Network>,
    routes: Vec<Route>,
    /// Its limits and where it is, without its name.
    cgroup: Option<Cgroup>,
    labels: [String; 3],
    parent_death_signal: i32,
}

impl Key {
    pub(super) fn of(config: &Config) -> Self {
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

    /// Makes sure that a configuration has this key.
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

/// Whether the host has something to do while the container is furnished, or had before the program
/// was known: such a start is cold.
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
    fn the_root_is_no_part_of_it() {
        let config = Config::template("/srv/one".into());
        let key = Key::of(&config);
        let mut other = Config { rootfs: "/srv/other".into(), ..config.clone() };
        other.readonlyfs = true;
        if let Some(cgroup) = &mut other.cgroups {
            cgroup.name = "other".into();
        }
        assert!(key.check(&Key::of(&other)).is_ok());
        let differ = |change: fn(&mut Config)| {
            let mut other = config.clone();
            change(&mut other);
            key.check(&Key::of(&other)).unwrap_err().to_string()
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
