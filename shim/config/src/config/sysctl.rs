//! Sysctls: the file that a key names, and whether a container may set it.

use super::fault::{Check, Fault};
use super::{Config, NamespaceType};
use crate::text::excerpt;

/// The sysctls of System V IPC, below `/proc/sys/kernel`.
const IPC: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// The size limit of a value: a page without the NUL.
const VALUE_MAX: usize = 4095;

/// Returns the path below `/proc/sys` that a key names; `None` for a malformed key.
///
/// As in `sysctl(8)`, the first separator decides. In `net.ipv4.conf.eth0/1.forwarding` a slash
/// stands for a dot in the name; in `net/ipv4/conf/eth0.1/forwarding` a dot is a dot. Components
/// consist of letters, digits, `_`, `-` and such dots, so a key cannot name another file (in
/// CVE-2022-0811 a `+` put a second key into a value).
#[must_use]
pub fn path(key: &str) -> Option<String> {
    let dotted = key.find(['.', '/']).is_some_and(|first| key[first..].starts_with('.'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path = if dotted { key.chars().map(swap).collect() } else { key.to_owned() };
    let valid = |component: &str| {
        !matches!(component, "" | "." | "..")
            && component.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    path.split('/').all(valid).then_some(path)
}

/// Returns the namespace that a file of `/proc/sys` belongs to; `None` if it is global to the host.
fn namespace(path: &str) -> Option<NamespaceType> {
    match path.split_once('/')? {
        ("net", _) => Some(NamespaceType::Network),
        ("user", _) => Some(NamespaceType::User),
        ("fs", rest) if rest.starts_with("mqueue/") => Some(NamespaceType::Ipc),
        ("kernel", "domainname") => Some(NamespaceType::Uts),
        ("kernel", name) if IPC.contains(&name) => Some(NamespaceType::Ipc),
        _ => None,
    }
}

impl Config {
    /// Refuses sysctls that do not belong to a namespace of the container.
    pub(super) fn check_sysctls(&self) -> Check {
        for (key, value) in &self.system_properties {
            let place = || format!("system_properties.{}", excerpt(key));
            let refuse = |reason: String| Err(Fault::text("", value, reason).under(&place()));
            let Some(path) = path(key) else {
                return refuse("is no name of a sysctl".to_owned());
            };
            // A value is one line.
            if value.contains(|c: char| c.is_control() && c != '\t') || value.len() > VALUE_MAX {
                return refuse("has a control character, or more than 4095 bytes".to_owned());
            }
            if path == "kernel/hostname" {
                return refuse("is set by the field hostname".to_owned());
            }
            match namespace(&path) {
                Some(kind) if self.namespace(kind).is_some() => {}
                Some(kind) => return refuse(format!("needs a namespace of the container: {kind}")),
                None => {
                    return refuse("is not in a namespace, it would change the host".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Returns the namespaces whose sysctls are set.
    pub(super) fn sysctl_namespaces(&self) -> impl Iterator<Item = NamespaceType> {
        self.system_properties.keys().filter_map(|key| namespace(&path(key)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn path_of_a_key() {
        for (key, file) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eth0/1.forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("net/ipv4/conf/eth0.1/forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("kernel", Some("kernel")),
            ("", None),
            (".", None),
            ("/", None),
            ("net..ipv4", None),
            ("net.ipv4.", None),
            ("/net/ipv4", None),
            ("net/../kernel/core_pattern", None),
            ("net.//.kernel.core_pattern", None),
            ("net.ipv4.a+kernel.core_pattern", None),
            ("net.ipv4.a b", None),
            ("net.ipv4.a\0", None),
        ] {
            assert_eq!(path(key).as_deref(), file, "{key}");
        }
    }

    #[test]
    fn sysctl_needs_its_namespace() {
        let mut config = Config::default();
        for kind in
            [NamespaceType::Ipc, NamespaceType::Network, NamespaceType::User, NamespaceType::Uts]
        {
            config.set_namespace(kind, "");
        }
        for (key, without) in [
            ("user.max_net_namespaces", Some(NamespaceType::User)),
            ("user", None),
            ("net.ipv4.ip_forward", Some(NamespaceType::Network)),
            ("net/core/somaxconn", Some(NamespaceType::Network)),
            ("kernel.msgmax", Some(NamespaceType::Ipc)),
            ("kernel.shm_rmid_forced", Some(NamespaceType::Ipc)),
            ("fs.mqueue.msg_max", Some(NamespaceType::Ipc)),
            ("kernel.domainname", Some(NamespaceType::Uts)),
            ("kernel.hostname", None),
            ("kernel.core_pattern", None),
            ("kernel.msgmax.x", None),
            ("vm.overcommit_memory", None),
            ("fs.mqueue", None),
            ("net", None),
        ] {
            config.system_properties = [(key.to_owned(), "1".to_owned())].into();
            assert_eq!(config.check_sysctls().is_ok(), without.is_some(), "{key}");
            if let Some(kind) = without {
                let mut shared = config.clone();
                shared.remove_namespace(kind);
                assert!(shared.check_sysctls().is_err(), "{key}");
                assert_eq!(config.sysctl_namespaces().collect::<Vec<_>>(), [kind]);
            }
        }
    }

    #[test]
    fn value_with_a_line_break_is_refused() {
        let mut config = Config::default();
        config.set_namespace(NamespaceType::Ipc, "");
        for (value, fine) in [
            ("250\t32000 32 128", true),
            ("1\n2", false),
            ("1\0", false),
            (&"9".repeat(4096), false),
        ] {
            config.system_properties = [("kernel.sem".to_owned(), value.to_owned())].into();
            assert_eq!(config.check_sysctls().is_ok(), fine, "{value}");
        }
        let error = crate::Error::from(config.check_sysctls().unwrap_err()).to_string();
        assert!(
            error.starts_with("configuration `system_properties.kernel.sem = \"999"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn path_never_leads_out_of_proc_sys(key: String) {
            if let Some(path) = path(&key) {
                prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
