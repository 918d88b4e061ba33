//! Builders: the settings that most callers change, in a chain.

use super::default::cgroup;
use super::mount::flags::{BIND, NODEV, NOSUID, RDONLY, REC};
use super::{Cgroup, Config, Mount, NamespaceChoice, NamespaceType, Network};

impl Config {
    /// Adds a mount, after those that the configuration has.
    ///
    /// ```
    /// use pidone_config::Config;
    /// use pidone_config::config::{Mount, NamespaceChoice, NamespaceType};
    ///
    /// let config = Config::template("/srv/box".into())
    ///     .with_mount(Mount::bind("/srv/data", "/data").read_only())
    ///     .with_mount(Mount::tmpfs("/scratch", "size=64m,mode=1777"))
    ///     .with_namespace(NamespaceType::Network, &NamespaceChoice::Host)
    ///     .with_limits(|limits| limits.max_memory(64 << 20).max_pids(32).max_cpus(0.5));
    /// assert!(!config.has_new(NamespaceType::Network) && config.networks.is_empty());
    /// config.validate()?;
    /// # Ok::<(), pidone_config::Error>(())
    /// ```
    #[must_use]
    pub fn with_mount(mut self, mount: Mount) -> Self {
        self.mounts.push(mount);
        self
    }

    /// Chooses a namespace: new, shared with the caller, or joined.
    ///
    /// As `nsinit exec --net` and its like, this also removes from the configuration what would
    /// then be done in a namespace of the host or of another container: interfaces and routes, the
    /// host name, or mounts and devices. A new network namespace gets a loopback interface.
    #[must_use]
    pub fn with_namespace(mut self, kind: NamespaceType, choice: &NamespaceChoice) -> Self {
        self.choose_namespace(kind, choice);
        self
    }

    /// Changes the limits of the cgroup, which is added if the configuration has none.
    #[must_use]
    pub fn with_limits(mut self, change: impl FnOnce(Cgroup) -> Cgroup) -> Self {
        self.cgroups = Some(change(self.cgroups.take().unwrap_or_else(cgroup)));
        self
    }

    pub(super) fn choose_namespace(&mut self, kind: NamespaceType, choice: &NamespaceChoice) {
        match choice {
            NamespaceChoice::Private => self.set_namespace(kind, ""),
            NamespaceChoice::Host => self.remove_namespace(kind),
            NamespaceChoice::Join(path) => self.set_namespace(kind, path.as_str()),
        }
        match (kind, choice) {
            (NamespaceType::Network, NamespaceChoice::Private)
                if !self.networks.iter().any(|network| network.kind == "loopback") =>
            {
                self.networks.insert(0, Network::loopback());
            }
            (_, NamespaceChoice::Private) => {}
            (NamespaceType::Network, _) => {
                self.networks.clear();
                self.routes.clear();
            }
            (NamespaceType::Uts, _) => self.hostname.clear(),
            (NamespaceType::Mount, _) => {
                self.mounts.clear();
                self.links.clear();
                self.devices.clear();
                self.mask_paths.clear();
                self.readonly_paths.clear();
                self.privatefs = false;
                self.readonlyfs = false;
            }
            _ => {}
        }
    }
}

impl Cgroup {
    /// The most memory, in bytes; 0 for no limit.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.memory = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// The most memory and swap together, in bytes; 0 for no limit. With the value of
    /// [`Cgroup::max_memory`], nothing is swapped out.
    #[must_use]
    pub fn max_memory_and_swap(mut self, bytes: u64) -> Self {
        self.memory_swap = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// The most processes and threads. With 0 the first process cannot fork.
    #[must_use]
    pub fn max_pids(mut self, count: u64) -> Self {
        self.pids_limit = Some(i64::try_from(count).unwrap_or(i64::MAX));
        self
    }

    /// The most CPU time, in processors: 0.5 is half of one. 0 is no limit; the least is 0.01.
    #[must_use]
    pub fn max_cpus(mut self, cpus: f64) -> Self {
        /// The period of docker and of the kernel, in microseconds.
        const PERIOD: i64 = 100_000;
        #[allow(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
        let quota = (cpus * 100_000.0) as i64;
        (self.cpu_quota, self.cpu_period) =
            if cpus > 0.0 { (quota.max(1000), PERIOD) } else { (0, 0) };
        self
    }
}

impl Mount {
    /// Returns a bind mount of a file or directory of the host, with what is mounted below it.
    #[must_use]
    pub fn bind(source: impl Into<String>, destination: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            destination: destination.into(),
            device: "bind".to_owned(),
            flags: BIND | REC,
            ..Self::default()
        }
    }

    /// Returns a file system in memory, without setuid programs and devices. `data` has options of
    /// tmpfs, such as `size=64m,mode=1777`, or is empty: `tmpfs(5)`.
    #[must_use]
    pub fn tmpfs(destination: impl Into<String>, data: impl Into<String>) -> Self {
        Self {
            source: "tmpfs".to_owned(),
            destination: destination.into(),
            device: "tmpfs".to_owned(),
            flags: NOSUID | NODEV,
            data: data.into(),
            ..Self::default()
        }
    }

    /// Makes the mount read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.flags |= RDONLY;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_the_units_of_the_cgroup() {
        let limits = Cgroup::default().max_memory(5).max_memory_and_swap(6).max_pids(7);
        assert_eq!((limits.memory, limits.memory_swap, limits.pids_limit), (5, 6, Some(7)));
        for (cpus, quota) in [(0.5, 50_000), (2.0, 200_000), (0.001, 1000), (f64::MAX, i64::MAX)] {
            let limits = Cgroup::default().max_cpus(cpus);
            assert_eq!((limits.cpu_quota, limits.cpu_period), (quota, 100_000), "{cpus}");
        }
        for none in [0.0, -1.0, f64::NAN] {
            assert_eq!(Cgroup::default().max_cpus(none), Cgroup::default(), "{none}");
        }
        let config = Config { cgroups: None, ..Config::template("/srv".into()) };
        let config = config.with_limits(|limits| limits.max_pids(1));
        assert_eq!(
            config.cgroups.map(|limits| (limits.pids_limit, limits.name)),
            Some((Some(1), String::new()))
        );
    }

    #[test]
    fn a_shared_namespace_takes_with_it_what_would_change_the_hosts() {
        let shared =
            |kind| Config::template("/srv".into()).with_namespace(kind, &NamespaceChoice::Host);
        assert!(shared(NamespaceType::Network).networks.is_empty());
        assert_eq!(shared(NamespaceType::Uts).hostname, "");
        let config = shared(NamespaceType::Mount);
        assert!(config.mounts.is_empty() && config.devices.is_empty());
        let again = shared(NamespaceType::Network)
            .with_namespace(NamespaceType::Network, &NamespaceChoice::Private)
            .with_namespace(NamespaceType::Network, &NamespaceChoice::Private);
        assert_eq!(again.networks, [Network::loopback()]);
        let path = "/proc/7/ns/net".to_owned();
        let joined = again.with_namespace(NamespaceType::Network, &NamespaceChoice::Join(path));
        assert!(joined.networks.is_empty() && !joined.has_new(NamespaceType::Network));
    }
}
