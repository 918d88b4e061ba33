//! The validation of a whole configuration.
//!
//! The checks of a single type are next to the type. Only [`Config::check_rootfs`] and
//! [`Config::check_host`] access the host.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::fault::{Check, Fault, Names, each};
use super::mount::check_propagation;
use super::{Config, Link, NamespaceType, Rlimit, capability, group, path};
use crate::error::{Code, Error, Result};

/// The longest host name in bytes, `__NEW_UTS_LEN`.
const HOSTNAME_MAX: usize = 64;

/// The last signal, `SIGRTMAX`.
const SIGNAL_MAX: i32 = 64;

impl Config {
    /// Checks everything that can be checked without accessing the host.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`] for the first rule that is broken, with the path of the field and
    /// its value.
    pub fn validate(&self) -> Result<()> {
        Ok(self.check()?)
    }

    /// Validates as [`Config::validate`] does, with other names for the fields in errors.
    pub(crate) fn validate_as(&self, names: &Names) -> Result<()> {
        Ok(self.check().map_err(|fault| fault.renamed(names))?)
    }

    fn check(&self) -> Check {
        self.check_root()?;
        self.check_namespaces()?;
        self.check_id_maps()?;
        self.check_file_system()?;
        self.check_process()?;
        self.check_networks()?;
        self.check_sysctls()?;
        self.check_time_offsets()?;
        self.hooks.check()?;
        if let Some(cgroup) = &self.cgroups {
            cgroup.check().map_err(|fault| fault.under("cgroups"))?;
        }
        if let Some(rdt) = &self.intel_rdt {
            rdt.check().map_err(|fault| fault.under("intel_rdt"))?;
        }
        Ok(())
    }

    fn check_root(&self) -> Check {
        let rootfs = self.rootfs.to_string_lossy();
        let refuse = |reason| Err(Fault::text("rootfs", &rootfs, reason));
        match (self.tmpfs_root, self.rootfs.as_os_str().is_empty()) {
            (true, _) if self.volatile_root => {
                return Err(Fault::new("volatile_root", "", "is not possible with tmpfs_root"));
            }
            (true, true) => return Ok(()),
            (true, false) => return refuse("must be empty with tmpfs_root"),
            (false, true) => return refuse("missing"),
            (false, false) => {}
        }
        if self.volatile_root && rootfs == "/" {
            return Err(Fault::new("volatile_root", "", "is not possible for the host's own root"));
        }
        path::check_absolute("rootfs", &rootfs)?;
        // Compared as text, because `Path` ignores repeated slashes in comparisons.
        if path::clean(&self.rootfs).as_os_str() != self.rootfs.as_os_str() {
            return refuse("must be without `.`, `..` and needless slashes");
        }
        Ok(())
    }

    /// Checks mounts, devices and everything else that changes the file system.
    ///
    /// Without a new mount namespace the changes would be made in the host's, or in the namespace
    /// that is joined.
    fn check_file_system(&self) -> Check {
        if !self.has_new(NamespaceType::Mount) {
            for (field, given) in [
                ("mounts", !self.mounts.is_empty()),
                ("links", !self.links.is_empty()),
                ("devices", !self.devices.is_empty()),
                ("mask_paths", !self.mask_paths.is_empty()),
                ("readonly_paths", !self.readonly_paths.is_empty()),
                ("readonlyfs", self.readonlyfs),
                ("privatefs", self.privatefs),
                ("tmpfs_root", self.tmpfs_root),
                ("volatile_root", self.volatile_root),
                ("root_propagation", self.root_propagation != 0),
            ] {
                if given {
                    return Err(Fault::new(field, "", "needs a new mount namespace (NEWNS)"));
                }
            }
        }
        each("mounts", &self.mounts, |mount| {
            self.check_mount_ids(mount)?;
            mount.check()
        })?;
        check_propagation("root_propagation", self.root_propagation)?;
        each("links", &self.links, Link::check)?;
        each("devices", &self.devices, super::Device::check_node)?;
        each("mask_paths", &self.mask_paths, |path| check_protected(path))?;
        each("readonly_paths", &self.readonly_paths, |path| check_protected(path))?;
        path::check("pivot_dir", &self.pivot_dir)
    }

    fn check_process(&self) -> Check {
        if !(0..=SIGNAL_MAX).contains(&self.parent_death_signal) {
            let reason = "must be a signal from 1 to 64, or 0";
            return Err(Fault::new("parent_death_signal", self.parent_death_signal, reason));
        }
        for (field, name) in [("hostname", &self.hostname), ("domainname", &self.domainname)] {
            check_line(field, name)?;
            if name.len() > HOSTNAME_MAX {
                return Err(Fault::text(field, name, "longer than 64 bytes"));
            }
            if !name.is_empty() && self.namespace(NamespaceType::Uts).is_none() {
                return Err(Fault::text(field, name, "needs a UTS namespace (NEWUTS)"));
            }
        }
        check_line("apparmor_profile", &self.apparmor_profile)?;
        check_line("process_label", &self.process_label)?;
        check_line("mount_label", &self.mount_label)?;
        // The label is quoted in the options of a mount.
        if self.mount_label.contains('"') {
            return Err(Fault::text("mount_label", &self.mount_label, "has a quotation mark"));
        }
        capability::check(&self.capabilities)?;
        group::check(&self.additional_groups)?;
        Rlimit::check_all(&self.rlimits)?;
        match &self.seccomp {
            Some(seccomp) => seccomp.check().map_err(|fault| fault.under("seccomp")),
            None => Ok(()),
        }
    }

    /// Checks that the root is a directory whose path contains no symbolic link.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`], with the error number if the path cannot be resolved.
    pub fn check_rootfs(&self) -> Result<()> {
        if self.tmpfs_root {
            return Ok(());
        }
        let failed =
            |error| Error::path("open", &self.rootfs, error).with_code(Code::ConfigInvalid);
        let real = self.rootfs.canonicalize().map_err(failed)?;
        let refuse = |reason| Error::config("rootfs", self.rootfs.display(), reason);
        if real.as_os_str() != self.rootfs.as_os_str() {
            let hint = format!("it leads to {}", real.display());
            return Err(refuse("leads through a symbolic link").with_hint(hint));
        }
        if !real.is_dir() {
            return Err(refuse("not a directory"));
        }
        Ok(())
    }

    /// Checks what depends on the host: the root, whether the kernel has user namespaces, and that
    /// no sysctl is written into a joined namespace that is the caller's own.
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`], with the error number if a file of the host cannot be examined.
    pub fn check_host(&self) -> Result<()> {
        self.check_rootfs()?;
        let stat = |path: &str| {
            fs::metadata(path)
                .map_err(|error| Error::path("stat", path, error).with_code(Code::ConfigInvalid))
        };
        let own = |kind: NamespaceType| format!("/proc/self/ns/{}", kind.file());
        if self.namespace(NamespaceType::User).is_some() {
            stat(&own(NamespaceType::User)).map_err(|error| {
                error.with_hint("the kernel has no user namespaces, or proc is not mounted")
            })?;
        }
        for kind in self.sysctl_namespaces() {
            let Some(namespace) = self.namespace(kind).filter(|joined| !joined.path.is_empty())
            else {
                continue;
            };
            let (joined, own) = (stat(&namespace.path)?, stat(&own(kind))?);
            if (joined.dev(), joined.ino()) == (own.dev(), own.ino()) {
                let reason = format!("the {kind} namespace that is joined is the host's");
                return Err(Error::config("system_properties", "", reason));
            }
        }
        Ok(())
    }
}

/// Refuses a path to hide or to make read-only that is none. A relative one starts at the
/// container's root.
fn check_protected(path: &str) -> Check {
    if path.is_empty() {
        return Err(Fault::text("", path, "missing"));
    }
    path::check("", path)
}

/// Refuses text with control characters, such as a line break.
fn check_line(field: &str, text: &str) -> Check {
    if text.contains(char::is_control) {
        return Err(Fault::text(field, text, "has a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::super::{
        Cgroup, Device, IdMap, Mount, MountIdMap, Route, Seccomp, SeccompSyscall, TimeOffset,
    };
    use super::*;

    fn template() -> Config {
        Config::template("/srv/root".into())
    }

    fn with(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = template();
        change(&mut config);
        config
    }

    fn offset(nanosecs: u32) -> TimeOffset {
        TimeOffset { secs: 0, nanosecs }
    }

    fn mount_at(destination: &str, device: &str) -> Config {
        with(|config| {
            config.mounts = vec![Mount {
                source: "/x".into(),
                destination: destination.into(),
                device: device.into(),
                ..Mount::default()
            }];
        })
    }

    #[track_caller]
    fn refused(config: &Config, place: &str) {
        let error = config.validate().expect_err(place);
        assert_eq!(error.code(), Code::ConfigInvalid);
        let text = error.to_string();
        let named = [format!("`{place}`"), format!("`{place} = ")];
        assert!(named.iter().any(|name| text.contains(name)), "{place}: {text}");
    }

    #[test]
    fn rootfs_must_be_absolute_and_clean() {
        for rootfs in ["", "srv", "./srv", "/srv/", "/srv//x", "/srv/./x", "/srv/../x", "/srv\0"] {
            refused(&with(|config| config.rootfs = rootfs.into()), "rootfs");
        }
        refused(&with(|config| config.tmpfs_root = true), "rootfs");
        with(|config| {
            config.tmpfs_root = true;
            config.rootfs = "".into();
        })
        .validate()
        .unwrap();
    }

    #[test]
    fn fields_need_their_namespace() {
        for (kind, place) in [
            (NamespaceType::Network, "networks"),
            (NamespaceType::Uts, "hostname"),
            (NamespaceType::Mount, "mounts"),
        ] {
            refused(&with(|config| config.remove_namespace(kind)), place);
        }
        refused(&with(|c| c.set_namespace(NamespaceType::Mount, "/proc/1/ns/mnt")), "mounts");
        for (place, change) in [
            ("routes", (|c| c.routes = vec![Route::default()]) as fn(&mut Config)),
            ("net_devices", |c| c.net_devices = [("a".into(), "a".into())].into()),
            ("root_propagation", |c| c.root_propagation = libc::MS_SLAVE),
            ("links", |c| c.links = vec![Link { target: "a".into(), path: "/b".into() }]),
            ("devices", |c| c.devices = vec![Device::default()]),
            ("mask_paths", |c| c.mask_paths = vec!["/x".into()]),
            ("readonly_paths", |c| c.readonly_paths = vec!["/x".into()]),
            ("readonlyfs", |c| c.readonlyfs = true),
            ("privatefs", |c| c.privatefs = true),
            ("uid_mappings", |c| {
                c.uid_mappings = vec![IdMap { container_id: 0, host_id: 0, size: 1 }];
            }),
        ] {
            let mut config = Config { rootfs: "/srv".into(), ..Config::default() };
            config.validate().unwrap();
            change(&mut config);
            refused(&config, place);
        }
    }

    #[test]
    fn mounts_over_proc_and_sys_are_refused() {
        for (destination, device) in [
            ("proc", "proc"),
            ("/proc", "proc"),
            ("/proc/cpuinfo", "bind"),
            ("/proc/net/dev", "bind"),
            ("/sys", "sysfs"),
            ("/sys/fs/cgroup", "cgroup"),
            ("/sys/fs/cgroup/memory", "tmpfs"),
            ("/sys/kernel", "bind"),
            ("/sys/fs/bpf", "bpf"),
            ("/sys/fs/cgroup/../x", "bind"),
            ("/sys", "bind"),
            ("/../../x", "tmpfs"),
            ("tmp", "tmpfs"),
            ("/process", "tmpfs"),
        ] {
            mount_at(destination, device).validate().expect(destination);
        }
        for (destination, device) in [
            ("", "tmpfs"),
            ("/", "tmpfs"),
            ("/x/..", "bind"),
            ("/proc", "tmpfs"),
            ("/proc", "bind"),
            ("/proc/", "sysfs"),
            ("proc/self", "tmpfs"),
            ("/x/../proc/self/attr", "bind"),
            ("/proc/cpuinfo/x", "bind"),
            ("/x\0", "tmpfs"),
        ] {
            refused(&mount_at(destination, device), "mounts[0].destination");
        }
        with(|c| {
            c.mounts = vec![Mount {
                source: "/sys".into(),
                destination: "/sys".into(),
                device: "bind".into(),
                ..Mount::default()
            }];
        })
        .validate()
        .unwrap();
    }

    #[test]
    fn malformed_mounts_are_refused() {
        for (field, change) in [
            ("device", (|m| m.device = "ext/9".into()) as fn(&mut Mount)),
            ("device", |m| m.device.clear()),
            ("cleared", |m| m.cleared = 1 << 40),
            ("propagation", |m| m.propagation = libc::MS_REC),
            ("propagation", |m| m.propagation = libc::MS_RDONLY),
            ("propagation", |m| m.propagation = libc::MS_SHARED | libc::MS_PRIVATE),
            ("recursive_set", |m| m.recursive_set = 1 << 20),
            ("recursive_clear", |m| m.recursive_clear = 1 << 40),
            ("copy_up", |m| m.copy_up = true),
            ("id_map", |m| m.id_map = Some(MountIdMap::default())),
            ("id_map", |m| {
                let map = IdMap { container_id: 0, host_id: 1, size: 1 };
                m.id_map = Some(MountIdMap { uid_mappings: vec![map], ..MountIdMap::default() });
            }),
            ("id_map.gid_mappings[0].size", |m| {
                let map = |size| vec![IdMap { container_id: 0, host_id: 1, size }];
                let (uid_mappings, gid_mappings) = (map(1), map(0));
                m.id_map = Some(MountIdMap { uid_mappings, gid_mappings, recursive: false });
            }),
            ("source", |m| m.source = "relative".into()),
            ("flags", |m| m.flags = 1 << 40),
            ("data", |m| (m.flags, m.data) = (libc::MS_REMOUNT, "size=1m".into())),
            ("flags", |m| m.flags |= libc::MS_MOVE),
            ("flags", |m| m.flags |= libc::MS_SHARED | libc::MS_PRIVATE),
            ("data", |m| m.data = "a\0".into()),
            ("data", |m| m.data = "a".repeat(4096)),
            ("relabel", |m| m.relabel = "x".into()),
            ("premount_cmds[0].path", |m| m.premount_cmds = vec![super::super::Command::default()]),
            ("postmount_cmds[0].env[0]", |m| {
                m.postmount_cmds = vec![super::super::Command {
                    path: "x".into(),
                    env: Some(vec!["x".into()]),
                    ..super::super::Command::default()
                }];
            }),
        ] {
            let mut config = mount_at("/x", "bind");
            config.validate().unwrap();
            change(&mut config.mounts[0]);
            refused(&config, &format!("mounts[0].{field}"));
        }
        let bind = with(|c| c.mounts[0].flags |= libc::MS_BIND);
        refused(&bind, "mounts[0].flags");
    }

    #[test]
    fn malformed_fields_are_refused() {
        for (place, change) in [
            ("parent_death_signal", (|c| c.parent_death_signal = 65) as fn(&mut Config)),
            ("parent_death_signal", |c| c.parent_death_signal = -1),
            ("hostname", |c| c.hostname = "x".repeat(65)),
            ("hostname", |c| c.hostname = "a\nb".into()),
            ("domainname", |c| c.domainname = "x".repeat(65)),
            ("domainname", |c| {
                c.hostname.clear();
                c.domainname = "x".into();
                c.remove_namespace(NamespaceType::Uts);
            }),
            ("root_propagation", |c| c.root_propagation = libc::MS_REC),
            ("net_devices", |c| c.net_devices = [("a/b".into(), "b".into())].into()),
            ("net_devices.eth0", |c| c.net_devices = [("eth0".into(), String::new())].into()),
            ("net_devices.eth1", |c| {
                c.net_devices = [("eth0", "a"), ("eth1", "a")]
                    .map(|(name, inside)| (name.into(), inside.into()))
                    .into();
            }),
            ("time_offsets", |c| c.time_offsets = [("monotonic".into(), offset(1))].into()),
            ("time_offsets", |c| {
                c.set_namespace(NamespaceType::Time, "");
                c.time_offsets = [("realtime".into(), offset(1))].into();
            }),
            ("time_offsets.boottime.nanosecs", |c| {
                c.set_namespace(NamespaceType::Time, "");
                c.time_offsets = [("boottime".into(), offset(1_000_000_000))].into();
            }),
            ("apparmor_profile", |c| c.apparmor_profile = "a\0".into()),
            ("process_label", |c| c.process_label = "a\n".into()),
            ("mount_label", |c| c.mount_label = "a\",x".into()),
            ("capabilities[0]", |c| c.capabilities = vec!["CAP_NO".into()]),
            ("additional_groups[0]", |c| c.additional_groups = vec!["".into()]),
            ("rlimits[1].type", |c| c.rlimits.push(c.rlimits[0])),
            ("seccomp.syscalls[0].action", |c| {
                let rule = SeccompSyscall { action: -9, ..SeccompSyscall::default() };
                c.seccomp = Some(Seccomp { syscalls: vec![rule] });
            }),
            ("networks[0].type", |c| c.networks[0].kind = "macvlan".into()),
            ("routes[0]", |c| c.routes = vec![Route::default()]),
            ("links[0].path", |c| {
                c.links = vec![Link { target: "a".into(), path: "/proc/x".into() }];
            }),
            ("links[0].target", |c| c.links = vec![Link::default()]),
            ("devices[0].type", |c| c.devices[0].kind = 'u'),
            ("mask_paths[0]", |c| c.mask_paths = vec!["".into()]),
            ("readonly_paths[0]", |c| c.readonly_paths = vec!["/x\0".into()]),
            ("pivot_dir", |c| c.pivot_dir = "\0".into()),
            ("namespaces[5].type", |c| c.namespaces.push(c.namespaces[0].clone())),
            ("uid_mappings", |c| c.set_namespace(NamespaceType::User, "")),
            ("cgroups.name", |c| {
                c.cgroups = Some(Cgroup { name: "..".into(), ..Cgroup::default() });
            }),
            ("system_properties.kernel.core_pattern", |c| {
                c.system_properties.insert("kernel.core_pattern".into(), "|/x".into());
            }),
        ] {
            refused(&with(change), place);
        }
    }

    #[test]
    fn pivot_dir_may_be_any_path() {
        for pivot_dir in ["", "/", "/tmp", "pivot"] {
            with(|config| config.pivot_dir = pivot_dir.into()).validate().unwrap();
        }
    }

    #[test]
    fn rootfs_with_a_symbolic_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        fs::create_dir(real.join("root")).unwrap();
        fs::write(real.join("file"), "").unwrap();
        symlink("root", real.join("link")).unwrap();
        let check = |name: &str| with(|config| config.rootfs = real.join(name)).check_rootfs();
        check("root").unwrap();
        for (name, text) in [
            ("link", "leads through a symbolic link"),
            ("file", "not a directory"),
            ("absent", "No such file or directory"),
        ] {
            let error = check(name).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn sysctls_in_a_joined_namespace_of_the_caller_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = with(|config| {
            config.rootfs = directory.path().canonicalize().unwrap();
            config.system_properties.insert("net.ipv4.ip_forward".into(), "1".into());
        });
        config.check_host().unwrap();
        config.set_namespace(NamespaceType::Network, "/proc/self/ns/net");
        config.validate().unwrap();
        let error = config.check_host().unwrap_err();
        assert!(error.to_string().contains("NEWNET namespace that is joined"), "{error}");
        config.system_properties.clear();
        config.check_host().unwrap();
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text: String, number: u32) {
            let config = with(|config| {
                config.rootfs = text.clone().into();
                config.mounts[0].destination.clone_from(&text);
                config.mounts[1].data.clone_from(&text);
                config.hostname.clone_from(&text);
                config.networks[0].name.clone_from(&text);
                config.devices[0].path.clone_from(&text);
                config.rlimits[0].kind = number;
                config.system_properties.insert(text.clone(), text.clone());
            });
            let _ = config.validate();
        }
    }
}
