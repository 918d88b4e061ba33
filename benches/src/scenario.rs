//! The containers that are started: the same for the floor, the library and other runtimes.

use std::fmt;
use std::path::Path;

use pidone::Config;
use pidone::config::{
    Cgroup, Mount, NamespaceType, Network, Rlimit, Seccomp, SeccompArg, SeccompSyscall, capability,
    default,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::syscalls;

/// A container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// New mount, pid, uts and ipc namespaces; `/proc` and `/dev`, `pivot_root(2)` and
    /// capabilities.
    Minimal,
    /// The default of the OCI runtime specification and docker, in the host's network namespace:
    /// seven mounts, masked and read-only paths, a cgroup, a seccomp filter.
    Oci,
    /// The same with a network namespace whose loopback interface is up.
    OciNet,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Minimal => "minimal",
            Self::Oci => "oci",
            Self::OciNet => "oci-net",
        })
    }
}

/// The hostname of the containers.
pub const HOST_NAME: &str = "bench";

/// The soft and hard limit of open files.
pub const OPEN_FILES: u64 = 1024;

/// `(file system, destination, flags of mount(2), options)`, in order. The minimal container has
/// the first two.
pub const MOUNTS: [(&str, &str, u64, &str); 7] = [
    ("proc", "/proc", PLAIN, ""),
    ("tmpfs", "/dev", libc::MS_NOSUID | libc::MS_STRICTATIME, "mode=755,size=65536k"),
    (
        "devpts",
        "/dev/pts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    ),
    ("tmpfs", "/dev/shm", PLAIN, "mode=1777,size=65536k"),
    ("mqueue", "/dev/mqueue", PLAIN, ""),
    ("sysfs", "/sys", PLAIN | libc::MS_RDONLY, ""),
    ("cgroup", "/sys/fs/cgroup", PLAIN | libc::MS_RDONLY, ""),
];

const PLAIN: u64 = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 3] = [Self::Minimal, Self::Oci, Self::OciNet];

    /// Whether the scenario has more than the minimum.
    #[must_use]
    pub fn is_oci(self) -> bool {
        self != Self::Minimal
    }

    /// Returns the new namespaces.
    #[must_use]
    pub fn namespaces(self) -> Vec<NamespaceType> {
        let mut kinds =
            vec![NamespaceType::Mount, NamespaceType::Pid, NamespaceType::Uts, NamespaceType::Ipc];
        if self.is_oci() {
            kinds.push(NamespaceType::Cgroup);
        }
        if self == Self::OciNet {
            kinds.push(NamespaceType::Network);
        }
        kinds
    }

    /// Returns the mounts.
    #[must_use]
    pub fn mounts(self) -> &'static [(&'static str, &'static str, u64, &'static str)] {
        if self.is_oci() { &MOUNTS } else { &MOUNTS[..2] }
    }

    /// Returns the library's configuration. `cgroup` is the absolute parent and the name of the
    /// cgroup.
    ///
    /// All devices are allowed, since the floor does not load a device program either.
    #[must_use]
    pub fn config(self, rootfs: &Path, cgroup: (&str, &str)) -> Config {
        let mut config = Config {
            rootfs: rootfs.to_owned(),
            capabilities: capability::DEFAULT.map(str::to_owned).into(),
            devices: default::simple_devices(),
            mounts: self.mounts().iter().map(mount).collect(),
            ..Config::default()
        };
        for kind in self.namespaces() {
            config.set_namespace(kind, "");
        }
        if self.is_oci() {
            config.hostname = HOST_NAME.to_owned();
            config.rlimits =
                vec![Rlimit { kind: libc::RLIMIT_NOFILE, soft: OPEN_FILES, hard: OPEN_FILES }];
            config.mask_paths = default::mask_paths();
            config.readonly_paths = default::readonly_paths();
            config.seccomp = Some(seccomp());
            let (parent, name) = cgroup;
            config.cgroups = Some(Cgroup {
                parent: parent.to_owned(),
                name: name.to_owned(),
                allow_all_devices: true,
                memory_swappiness: -1,
                ..Cgroup::default()
            });
        }
        if self == Self::OciNet {
            config.networks = vec![Network::loopback()];
        }
        config
    }

    /// Returns the `config.json` of an OCI bundle.
    #[must_use]
    pub fn bundle(self, rootfs: &Path, cgroup: &str, program: &[&str]) -> Value {
        let capabilities: Vec<_> =
            capability::DEFAULT.iter().map(|name| format!("CAP_{name}")).collect();
        let namespaces: Vec<_> = self
            .namespaces()
            .into_iter()
            .map(|kind| match kind {
                NamespaceType::Mount => json!({"type": "mount"}),
                NamespaceType::Network => json!({"type": "network"}),
                other => json!({"type": other.file()}),
            })
            .collect();
        let mut bundle = json!({
            "ociVersion": "1.0.2",
            "root": {"path": rootfs, "readonly": false},
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": program,
                "env": ["PATH=/bin"],
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "mounts": self.mounts().iter().map(oci_mount).collect::<Vec<_>>(),
            "linux": {"namespaces": namespaces},
        });
        if self.is_oci() {
            bundle["hostname"] = HOST_NAME.into();
            bundle["process"]["rlimits"] =
                json!([{"type": "RLIMIT_NOFILE", "soft": OPEN_FILES, "hard": OPEN_FILES}]);
            let linux = &mut bundle["linux"];
            linux["cgroupsPath"] = cgroup.into();
            linux["maskedPaths"] = default::mask_paths().into();
            linux["readonlyPaths"] = default::readonly_paths().into();
            linux["seccomp"] = oci_seccomp();
        }
        bundle
    }
}

fn mount(&(fstype, destination, flags, data): &(&str, &str, u64, &str)) -> Mount {
    Mount {
        source: fstype.to_owned(),
        destination: destination.to_owned(),
        device: fstype.to_owned(),
        flags,
        data: data.to_owned(),
        ..Mount::default()
    }
}

fn oci_mount(&(fstype, destination, flags, data): &(&str, &str, u64, &str)) -> Value {
    let names = [
        (libc::MS_NOSUID, "nosuid"),
        (libc::MS_NOEXEC, "noexec"),
        (libc::MS_NODEV, "nodev"),
        (libc::MS_RDONLY, "ro"),
        (libc::MS_STRICTATIME, "strictatime"),
    ];
    let named = names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name);
    let options: Vec<_> =
        named.chain(data.split(',').filter(|option| !option.is_empty())).collect();
    json!({"destination": destination, "type": fstype, "source": fstype, "options": options})
}

/// The operator "all bits are set" of libcontainer's rules.
const ALL_BITS: u32 = 4;

/// Returns libcontainer's rules that refuse system calls.
fn seccomp() -> Seccomp {
    let number = |number: libc::c_long| u32::try_from(number).unwrap_or(u32::MAX);
    let rule = |value, action| SeccompSyscall { value: number(value), action, args: Vec::new() };
    let mut rules: Vec<_> =
        syscalls::REFUSED.iter().map(|&(_, number)| rule(number, libc::EPERM)).collect();
    rules.extend(syscalls::CLONE_NAMESPACES.map(|flag| SeccompSyscall {
        args: vec![SeccompArg { index: 0, value: flag, op: ALL_BITS }],
        ..rule(libc::SYS_clone, libc::EPERM)
    }));
    rules.push(rule(libc::SYS_clone3, libc::ENOSYS));
    Seccomp { syscalls: rules }
}

/// Returns the same rules in the format of the OCI runtime specification.
fn oci_seccomp() -> Value {
    let names: Vec<_> = syscalls::REFUSED.iter().map(|(name, _)| *name).collect();
    let mut rules =
        vec![json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM})];
    rules.extend(syscalls::CLONE_NAMESPACES.map(|flag| {
        json!({
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": libc::EPERM,
            "args": [
                {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
            ],
        })
    }));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}
