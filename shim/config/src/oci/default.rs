//! The default `config.json`, which `pidone spec` writes.

use super::linux::{IdMapping, Linux, Namespace};
use super::resources::{Device, Resources};
use super::{Capabilities, Mount, Process, Rlimit, Root, Spec, VERSION};
use crate::config::default;

/// The capabilities of the program: to write to the audit log, signal other processes and bind low
/// ports.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// The new namespaces.
const NAMESPACES: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];

/// The mounts: destination, type, source, options.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/// Returns a configuration that runs a shell in the directory `rootfs` of the bundle.
///
/// With the ids of an ordinary user, `rootless`, the container gets a user namespace in which that
/// user is root. It shares the host's network and has no cgroup limits.
#[must_use]
pub fn spec(rootless: Option<(u32, u32)>) -> Spec {
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let capabilities: Vec<String> = strings(&CAPABILITIES);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: strings(options),
        ..Mount::default()
    };
    let namespace = |kind: &str| Namespace { kind: kind.to_owned(), path: String::new() };
    let mut spec = Spec {
        oci_version: VERSION.to_owned(),
        process: Some(Process {
            terminal: true,
            args: strings(&["sh"]),
            env: strings(&[
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ]),
            cwd: "/".to_owned(),
            capabilities: Some(Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
                ..Capabilities::default()
            }),
            rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
            no_new_privileges: true,
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".to_owned(), readonly: true }),
        hostname: "pidone".to_owned(),
        mounts: MOUNTS
            .iter()
            .map(|(destination, kind, source, options)| mount(destination, kind, source, options))
            .collect(),
        ..Spec::default()
    };
    let mut linux = Linux {
        namespaces: NAMESPACES.map(namespace).into(),
        masked_paths: default::MASKED.map(str::to_owned).into(),
        readonly_paths: default::readonly_paths(),
        ..Linux::default()
    };
    match rootless {
        None => {
            let rule = Device { access: Some("rwm".to_owned()), ..Device::default() };
            linux.resources = Some(Resources { devices: vec![rule], ..Resources::default() });
        }
        Some((uid, gid)) => {
            linux.namespaces.retain(|given| given.kind != "network");
            linux.namespaces.push(namespace("user"));
            let one = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
            (linux.uid_mappings, linux.gid_mappings) = (one(uid), one(gid));
            for given in &mut spec.mounts {
                // The kernel allows mounting sysfs only to the owner of the network namespace.
                if given.kind == "sysfs" {
                    let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
                    *given = mount("/sys", "none", "/sys", &options);
                }
                // The group of terminals has no id in the container.
                given.options.retain(|option| !option.starts_with("gid="));
            }
        }
    }
    spec.linux = Some(linux);
    spec
}
