//! nsinit's create options: changes that the command line makes to a configuration.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::default::{cgroup, mount};
use super::mount::flags::{BIND, NODEV, NOEXEC, NOSUID, RDONLY, REC};
use super::{Cgroup, Config, IdMap, NamespaceType, Network, Security, path};
use crate::error::{Error, Result};

/// The options of `nsinit exec` and `nsinit config` that change a configuration.
///
/// Fields that are `None`, `false` or empty change nothing, so an option that is not given never
/// overrides a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// `--rootfs`: the root file system. A relative path is resolved against the current directory.
    pub rootfs: Option<PathBuf>,
    /// `--read-only`: makes the root read-only.
    pub read_only: bool,
    /// `--init`: the init remains process 1.
    pub supervise: bool,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--parent-death-signal`: a signal, or 0 for none.
    pub parent_death_signal: Option<i32>,
    /// `--bind SRC:DST[:ro|rw]`: additional bind mounts.
    pub binds: Vec<String>,
    /// `--tmpfs DST`: additional tmpfs mounts.
    pub tmpfs: Vec<String>,
    /// `--cgroup`: mounts the container's cgroups.
    pub mount_cgroup: bool,
    /// `--systemd`: systemd makes the cgroup.
    pub systemd: bool,
    /// `--cpushares`.
    pub cpu_shares: Option<i64>,
    /// `--memory-limit`, in bytes.
    pub memory_limit: Option<i64>,
    /// `--memory-swap`: memory and swap together, in bytes.
    pub memory_swap: Option<i64>,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--security`: a security profile.
    pub security: Option<Security>,
    /// `--apparmor-profile`.
    pub apparmor_profile: Option<String>,
    /// `--process-label`.
    pub process_label: Option<String>,
    /// `--mount-label`.
    pub mount_label: Option<String>,
    /// `--groups`: supplementary groups, which replace the configuration's.
    pub groups: Vec<String>,
    /// `--sysctl KEY=VALUE`.
    pub sysctls: Vec<String>,
    /// `--userns-root-uid`: a new user namespace whose root is this user and group of the host.
    pub userns_root_uid: Option<u32>,
    /// `--net`.
    pub net: Option<NamespaceChoice>,
    /// `--ipc`.
    pub ipc: Option<NamespaceChoice>,
    /// `--pid`.
    pub pid: Option<NamespaceChoice>,
    /// `--uts`.
    pub uts: Option<NamespaceChoice>,
    /// `--mnt`.
    pub mnt: Option<NamespaceChoice>,
    /// `--veth-bridge`: an additional interface, on this bridge of the host.
    pub veth_bridge: Option<String>,
    /// `--veth-address`, with a prefix length.
    pub veth_address: Option<String>,
    /// `--veth-gateway`.
    pub veth_gateway: Option<String>,
    /// `--veth-mtu`.
    pub veth_mtu: Option<u32>,
}

/// The value of an option such as `--net`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceChoice {
    /// `private` or empty: a new namespace.
    Private,
    /// `host`: the caller's namespace.
    Host,
    /// A path: the namespace at that path.
    Join(String),
}

/// Parses `private`, `host` or an absolute path.
impl FromStr for NamespaceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "" | "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            path if path.starts_with('/') => Ok(Self::Join(path.to_owned())),
            _ => Err(Error::config("namespace", text, "must be private, host or an absolute path")),
        }
    }
}

impl CreateOptions {
    /// Applies the options to a configuration, without validating the result.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for an option with a malformed value,
    /// [`Code::SystemError`](crate::Code::SystemError) if a path is relative and the current
    /// directory no longer exists.
    pub fn apply(&self, config: &mut Config) -> Result<()> {
        if let Some(rootfs) = &self.rootfs {
            config.rootfs = absolute(rootfs)?;
            config.tmpfs_root = false;
        }
        config.readonlyfs |= self.read_only;
        set(&mut config.parent_death_signal, self.parent_death_signal.as_ref());
        if let Some(security) = self.security {
            security.apply(config);
        }
        set(&mut config.apparmor_profile, self.apparmor_profile.as_ref());
        set(&mut config.process_label, self.process_label.as_ref());
        set(&mut config.mount_label, self.mount_label.as_ref());
        if !self.groups.is_empty() {
            config.additional_groups.clone_from(&self.groups);
        }
        self.apply_limits(config);
        self.apply_namespaces(config);
        config.supervise |= self.supervise;
        set(&mut config.hostname, self.hostname.as_ref());
        if let Some(uid) = self.userns_root_uid {
            map_root(config, uid)?;
        }
        self.apply_veth(config)?;
        self.apply_sysctls(config)?;
        self.apply_mounts(config)
    }

    fn apply_limits(&self, config: &mut Config) {
        let given = [self.cpu_shares, self.memory_limit, self.memory_swap, self.memory_swappiness]
            .iter()
            .any(Option::is_some);
        let given = given || self.cpuset_cpus.is_some() || self.cpuset_mems.is_some();
        if !given && !self.systemd {
            return;
        }
        // A limit needs a cgroup. If the file has none, it is added.
        let limits: &mut Cgroup = config.cgroups.get_or_insert_with(cgroup);
        limits.systemd |= self.systemd;
        set(&mut limits.cpu_shares, self.cpu_shares.as_ref());
        set(&mut limits.memory, self.memory_limit.as_ref());
        set(&mut limits.memory_swap, self.memory_swap.as_ref());
        set(&mut limits.memory_swappiness, self.memory_swappiness.as_ref());
        set(&mut limits.cpuset_cpus, self.cpuset_cpus.as_ref());
        set(&mut limits.cpuset_mems, self.cpuset_mems.as_ref());
    }

    /// Applies the options for namespaces.
    ///
    /// It also removes from the configuration what would then be done in a namespace of the host or
    /// of another container, as libcontainer did.
    fn apply_namespaces(&self, config: &mut Config) {
        for (choice, kind) in [
            (&self.net, NamespaceType::Network),
            (&self.ipc, NamespaceType::Ipc),
            (&self.pid, NamespaceType::Pid),
            (&self.uts, NamespaceType::Uts),
            (&self.mnt, NamespaceType::Mount),
        ] {
            let Some(choice) = choice else { continue };
            config.choose_namespace(kind, choice);
            if kind == NamespaceType::Mount && *choice != NamespaceChoice::Private {
                // With --read-only the two options contradict each other, and validation reports
                // that.
                config.readonlyfs = self.read_only;
            }
        }
    }

    fn apply_veth(&self, config: &mut Config) -> Result<()> {
        let Some(bridge) = &self.veth_bridge else {
            for (option, value) in [
                ("--veth-address", self.veth_address.clone()),
                ("--veth-gateway", self.veth_gateway.clone()),
                ("--veth-mtu", self.veth_mtu.map(|mtu| mtu.to_string())),
            ] {
                if let Some(value) = value {
                    return Err(Error::config(option, value, "needs --veth-bridge"));
                }
            }
            return Ok(());
        };
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        config.networks.push(Network {
            kind: "veth".to_owned(),
            name: "eth0".to_owned(),
            bridge: bridge.clone(),
            address: given(&self.veth_address),
            gateway: given(&self.veth_gateway),
            mtu: self.veth_mtu.unwrap_or(0),
            host_interface_name: random_interface()?,
            ..Network::default()
        });
        Ok(())
    }

    fn apply_sysctls(&self, config: &mut Config) -> Result<()> {
        for sysctl in &self.sysctls {
            let Some((key, value)) = sysctl.split_once('=') else {
                return Err(Error::config("--sysctl", sysctl, "must be KEY=VALUE"));
            };
            config.system_properties.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn apply_mounts(&self, config: &mut Config) -> Result<()> {
        const PLAIN: u64 = NOEXEC | NOSUID | NODEV;
        for bind in &self.binds {
            let refuse = |reason: &'static str| Error::config("--bind", bind, reason);
            let mut parts = bind.splitn(3, ':');
            let (Some(source), Some(destination)) = (parts.next(), parts.next()) else {
                return Err(refuse("must be SRC:DST[:ro|rw]"));
            };
            if source.is_empty() || destination.is_empty() {
                return Err(refuse("must be SRC:DST[:ro|rw]"));
            }
            let flags = match parts.next() {
                None | Some("rw") => BIND | REC,
                Some("ro") => BIND | REC | RDONLY,
                Some(_) => return Err(refuse("the mode must be ro or rw")),
            };
            let source = absolute(Path::new(source))?;
            let source = source.to_str().ok_or_else(|| refuse("the path is not UTF-8"))?;
            config.mounts.push(mount("bind", source, destination, flags, ""));
        }
        for destination in &self.tmpfs {
            config.mounts.push(mount("tmpfs", "tmpfs", destination, PLAIN, ""));
        }
        let mounted = |config: &Config| config.mounts.iter().any(|mount| mount.device == "cgroup");
        if self.mount_cgroup && !mounted(config) {
            config.mounts.push(mount("cgroup", "cgroup", "/sys/fs/cgroup", PLAIN | RDONLY, ""));
        }
        Ok(())
    }
}

fn set<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(value) = given {
        field.clone_from(value);
    }
}

/// Returns an absolute path without `.` and `..`. Symbolic links in it are left for validation.
fn absolute(path: &Path) -> Result<PathBuf> {
    let full = std::path::absolute(path).map_err(|error| Error::path("getcwd", path, error))?;
    Ok(path::clean(&full))
}

/// Maps root to a user of the host, and all other ids to themselves. The id that root is mapped to
/// has no other id in the container.
fn map_root(config: &mut Config, uid: u32) -> Result<()> {
    const LAST: u32 = i32::MAX.unsigned_abs();
    if uid >= LAST {
        let reason = format!("must be below {LAST}");
        return Err(Error::config("--userns-root-uid", uid, reason));
    }
    let ranges = [(0, uid, 1), (1, 1, uid.saturating_sub(1)), (uid + 1, uid + 1, LAST - uid)];
    let maps: Vec<_> = ranges
        .into_iter()
        .filter(|(.., size)| *size > 0)
        .map(|(container_id, host_id, size)| IdMap { container_id, host_id, size })
        .collect();
    for device in &mut config.devices {
        (device.uid, device.gid) = (uid, uid);
    }
    config.set_id_maps(maps.clone(), maps);
    Ok(())
}

/// Returns a random name for a network interface of the host.
fn random_interface() -> Result<String> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::system("getrandom", "", errno))?;
    // Seven digits, as in libcontainer.
    Ok(format!("veth{:07x}", u32::from_ne_bytes(bytes) >> 4))
}

#[cfg(test)]
mod tests {
    use super::super::{Mount, Route};
    use super::*;

    fn applied(options: CreateOptions) -> Config {
        let mut config = Config::template("/srv/root".into());
        options.apply(&mut config).unwrap();
        config.validate().unwrap();
        config
    }

    fn refused(options: CreateOptions) -> String {
        options.apply(&mut Config::template("/srv/root".into())).unwrap_err().to_string()
    }

    #[test]
    fn default_options_change_nothing() {
        assert_eq!(applied(CreateOptions::default()), Config::template("/srv/root".into()));
    }

    #[test]
    fn given_options_override_the_configuration() {
        let config = applied(CreateOptions {
            rootfs: Some("/srv/./other/".into()),
            read_only: true,
            hostname: Some("box".into()),
            parent_death_signal: Some(0),
            cpu_shares: Some(512),
            memory_limit: Some(1 << 20),
            memory_swap: Some(-1),
            memory_swappiness: Some(0),
            cpuset_cpus: Some("0".into()),
            cpuset_mems: Some("0-1".into()),
            apparmor_profile: Some("docker-default".into()),
            process_label: Some("p".into()),
            mount_label: Some("m".into()),
            groups: vec!["audio".into(), "5".into()],
            sysctls: vec!["kernel.sem=1 2=3".into()],
            ..CreateOptions::default()
        });
        assert_eq!(config.rootfs.as_os_str(), "/srv/other");
        assert!(config.readonlyfs);
        assert_eq!((config.hostname.as_str(), config.parent_death_signal), ("box", 0));
        let cgroup = config.cgroups.unwrap();
        assert_eq!((cgroup.cpu_shares, cgroup.memory, cgroup.memory_swap), (512, 1 << 20, -1));
        assert_eq!(
            (cgroup.memory_swappiness, &*cgroup.cpuset_cpus, &*cgroup.cpuset_mems),
            (0, "0", "0-1")
        );
        assert_eq!(config.apparmor_profile, "docker-default");
        assert_eq!((config.process_label, config.mount_label), ("p".into(), "m".into()));
        assert_eq!(config.additional_groups, ["audio", "5"]);
        assert_eq!(config.system_properties["kernel.sem"], "1 2=3");
    }

    #[test]
    fn limit_adds_a_missing_cgroup() {
        let mut config = Config { rootfs: "/srv/box".into(), ..Config::default() };
        CreateOptions::default().apply(&mut config).unwrap();
        assert_eq!(config.cgroups, None);
        let options = CreateOptions { memory_limit: Some(1), ..CreateOptions::default() };
        options.apply(&mut config).unwrap();
        let cgroup = config.cgroups.unwrap();
        // The id of the container takes the place of the name.
        assert_eq!((&*cgroup.name, &*cgroup.parent, cgroup.memory), ("", "nsinit", 1));
    }

    #[test]
    fn relative_rootfs_is_resolved_against_the_current_directory() {
        let config = applied(CreateOptions { rootfs: Some("a/../b".into()), ..Default::default() });
        assert_eq!(config.rootfs, std::env::current_dir().unwrap().join("b"));
    }

    #[test]
    fn namespace_options_make_share_or_join() {
        let config = applied(CreateOptions {
            net: Some(NamespaceChoice::Host),
            uts: Some(NamespaceChoice::Host),
            mnt: Some(NamespaceChoice::Host),
            ipc: Some(NamespaceChoice::Join("/proc/1/ns/ipc".into())),
            pid: Some(NamespaceChoice::Private),
            ..CreateOptions::default()
        });
        let kinds: Vec<_> = config.namespaces.iter().map(|n| (n.kind, n.path.as_str())).collect();
        assert_eq!(kinds, [(NamespaceType::Ipc, "/proc/1/ns/ipc"), (NamespaceType::Pid, "")]);
        assert_eq!((config.networks.len(), config.mounts.len(), config.hostname.len()), (0, 0, 0));

        let mut config = Config { rootfs: "/srv".into(), ..Config::default() };
        config.routes = vec![Route { gateway: "10.0.0.1".into(), ..Route::default() }];
        let private = CreateOptions { net: Some(NamespaceChoice::Private), ..Default::default() };
        private.apply(&mut config).unwrap();
        private.apply(&mut config).unwrap();
        assert_eq!((config.networks.len(), config.routes.len()), (1, 1));

        for (text, choice) in [
            ("", NamespaceChoice::Private),
            ("private", NamespaceChoice::Private),
            ("host", NamespaceChoice::Host),
            ("/run/netns/a", NamespaceChoice::Join("/run/netns/a".into())),
        ] {
            assert_eq!(text.parse::<NamespaceChoice>().unwrap(), choice);
        }
        assert!("netns".parse::<NamespaceChoice>().is_err());
    }

    #[test]
    fn contradicting_options_fail_validation() {
        for options in [
            CreateOptions {
                uts: Some(NamespaceChoice::Host),
                hostname: Some("box".into()),
                ..CreateOptions::default()
            },
            CreateOptions {
                mnt: Some(NamespaceChoice::Host),
                read_only: true,
                ..CreateOptions::default()
            },
        ] {
            let mut config = Config::template("/srv".into());
            options.apply(&mut config).unwrap();
            assert!(config.validate().is_err());
        }
    }

    #[test]
    fn binds_tmpfs_and_cgroup_are_appended_to_the_mounts() {
        let config = applied(CreateOptions {
            binds: vec!["/a:/b".into(), "/a:/c:ro".into(), "rel:/d:rw".into()],
            tmpfs: vec!["/e".into()],
            mount_cgroup: true,
            ..CreateOptions::default()
        });
        let added: Vec<&Mount> = config.mounts.iter().skip(6).collect();
        assert_eq!((&*added[0].source, &*added[0].destination), ("/a", "/b"));
        assert_eq!(added[0].flags, BIND | REC);
        assert_eq!(added[1].flags, BIND | REC | RDONLY);
        assert!(added[2].source.ends_with("/rel") && added[2].source.starts_with('/'));
        assert_eq!((&*added[3].device, added[3].flags), ("tmpfs", NOEXEC | NOSUID | NODEV));
        assert_eq!((&*added[4].device, &*added[4].destination), ("cgroup", "/sys/fs/cgroup"));
    }

    #[test]
    fn veth_gets_a_random_name_on_the_host() {
        let options = CreateOptions {
            veth_bridge: Some("docker0".into()),
            veth_address: Some("172.17.0.101/16".into()),
            veth_gateway: Some("172.17.42.1".into()),
            veth_mtu: Some(1500),
            ..CreateOptions::default()
        };
        let (one, two) = (applied(options.clone()), applied(options));
        let name = &one.networks[1].host_interface_name;
        assert!(name.starts_with("veth") && name.len() == 11, "{name}");
        assert_ne!(one.networks[1].host_interface_name, two.networks[1].host_interface_name);
    }

    #[test]
    fn userns_root_uid_maps_root_and_owns_devices() {
        for uid in [0, 1, 2, 5, 1000, i32::MAX.unsigned_abs() - 1] {
            let config =
                applied(CreateOptions { userns_root_uid: Some(uid), ..CreateOptions::default() });
            assert_eq!((config.host_uid(), config.host_gid()), (Some(uid), Some(uid)));
            assert!(config.devices.iter().all(|node| (node.uid, node.gid) == (uid, uid)));
            assert_eq!(config.mounts[2].data.contains("gid=5"), uid != 5);
        }
        let config =
            applied(CreateOptions { userns_root_uid: Some(1000), ..CreateOptions::default() });
        let maps: Vec<_> =
            config.uid_mappings.iter().map(|m| (m.container_id, m.host_id, m.size)).collect();
        assert_eq!(maps, [(0, 1000, 1), (1, 1, 999), (1001, 1001, 2147482647)]);
    }

    #[test]
    fn apparmor_option_overrides_the_security_profile() {
        let config = applied(CreateOptions {
            security: Some(Security::High),
            apparmor_profile: Some("mine".into()),
            ..CreateOptions::default()
        });
        assert_eq!(config.capabilities.len(), 3);
        assert!(config.seccomp.is_some());
        assert_eq!(config.apparmor_profile, "mine");
    }

    #[test]
    fn errors_name_the_option() {
        let binds = |bind: &str| CreateOptions { binds: vec![bind.into()], ..Default::default() };
        for bind in ["", "/a", ":/b", "/a:", "/a:/b:rx", "/a:/b:ro:x"] {
            assert!(refused(binds(bind)).contains("--bind"), "{bind}");
        }
        assert!(
            refused(CreateOptions { sysctls: vec!["a".into()], ..Default::default() })
                .contains("`--sysctl = a`: must be KEY=VALUE")
        );
        assert!(
            refused(CreateOptions { veth_mtu: Some(1500), ..Default::default() })
                .contains("`--veth-mtu = 1500`: needs --veth-bridge")
        );
        assert!(
            refused(CreateOptions { userns_root_uid: Some(u32::MAX), ..Default::default() })
                .contains("--userns-root-uid")
        );
    }
}
