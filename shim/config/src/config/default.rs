//! Defaults: libcontainer's lists of devices, the masked paths, and nsinit's template.

use std::path::{Path, PathBuf};

use super::mount::flags::{NODEV, NOEXEC, NOSUID, RDONLY, STRICTATIME};
use super::{Cgroup, Config, Device, Mount, NamespaceType, Network, Rlimit, capability};

/// Files and directories of proc and sysfs that reveal information about the host, or give access
/// to it. The list is docker's; libcontainer's had `/proc/kcore` alone (CVE-2015-3630,
/// CVE-2017-16539).
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// The paths of proc that may be read but not written.
const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The flags of a file system without programs and devices.
const PLAIN: u64 = NOEXEC | NOSUID | NODEV;

/// The host's directory of CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// Returns the paths to hide from a container.
///
/// Like docker, it adds the `thermal_throttle` directories of the host's CPUs, whose counters let
/// containers learn about each other.
#[must_use]
pub fn mask_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.map(str::to_owned).into();
    paths.extend(thermal_throttles(Path::new(CPUS)));
    paths
}

/// Returns the `thermal_throttle` directories below a directory of CPUs, in the order of their
/// numbers.
fn thermal_throttles(cpus: &Path) -> Vec<String> {
    // Either all CPUs have the counters or none. Most virtual machines have none, and one lookup
    // suffices.
    if !cpus.join("cpu0/thermal_throttle").exists() {
        return Vec::new();
    }
    let Ok(entries) = cpus.read_dir() else {
        return Vec::new();
    };
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| {
            entry.ok()?.file_name().to_str()?.strip_prefix("cpu")?.parse::<u32>().ok()
        })
        .collect();
    numbers.sort_unstable();
    let path = |number| format!("{}/cpu{number}/thermal_throttle", cpus.display());
    numbers.into_iter().map(path).collect()
}

/// Returns the paths that a container may read but not write.
#[must_use]
pub fn readonly_paths() -> Vec<String> {
    READONLY.map(str::to_owned).into()
}

fn character(path: &str, major: i64, minor: i64, file_mode: u32) -> Device {
    Device {
        kind: 'c',
        path: path.to_owned(),
        major,
        minor,
        permissions: "rwm".to_owned(),
        file_mode,
        uid: 0,
        gid: 0,
    }
}

/// Returns the devices that every container has: libcontainer's `DefaultSimpleDevices`.
#[must_use]
pub fn simple_devices() -> Vec<Device> {
    [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/tty", 5, 0),
        ("/dev/urandom", 1, 9),
        ("/dev/random", 1, 8),
    ]
    .map(|(path, major, minor)| character(path, major, minor, 0o666))
    .into()
}

/// Returns the rules of the device cgroup: libcontainer's `DefaultAllowedDevices`.
///
/// Any node may be made. Consoles, ptys, `/dev/net/tun` and the simple devices may be opened.
#[must_use]
pub fn allowed_devices() -> Vec<Device> {
    let make = |kind| Device { kind, permissions: "m".to_owned(), ..character("", -1, -1, 0) };
    let mut devices = vec![make('c'), make('b')];
    devices.extend(
        [
            ("/dev/console", 5, 1),
            ("/dev/tty0", 4, 0),
            ("/dev/tty1", 4, 1),
            ("", 136, -1),
            ("", 5, 2),
            ("", 10, 200),
        ]
        .map(|(path, major, minor)| character(path, major, minor, 0)),
    );
    devices.extend(simple_devices());
    devices
}

/// Returns the device nodes to make: libcontainer's `DefaultAutoCreatedDevices`.
///
/// `/dev/fuse` has no permission bits, and no rule allows opening it.
#[must_use]
pub fn auto_created_devices() -> Vec<Device> {
    let mut devices = vec![character("/dev/fuse", 10, 229, 0)];
    devices.extend(simple_devices());
    devices
}

/// Returns the cgroup of a container: `nsinit/ID` below the caller's cgroup, where ID is the
/// container's id.
pub(super) fn cgroup() -> Cgroup {
    Cgroup { parent: "nsinit".to_owned(), allowed_devices: allowed_devices(), ..Cgroup::default() }
}

pub(super) fn mount(
    device: &str,
    source: &str,
    destination: &str,
    flags: u64,
    data: &str,
) -> Mount {
    Mount {
        source: source.to_owned(),
        destination: destination.to_owned(),
        device: device.to_owned(),
        flags,
        data: data.to_owned(),
        ..Mount::default()
    }
}

impl Config {
    /// Returns the configuration that nsinit uses for a root file system without a
    /// `container.json`.
    ///
    /// All namespaces except the user namespace are new, and the root is writable. The paths of
    /// [`mask_paths`] and [`readonly_paths`] replace libcontainer's shorter lists.
    ///
    /// ```
    /// use pidone_config::Config;
    /// use pidone_config::config::NamespaceType;
    ///
    /// let mut config = Config::template("/srv/busybox".into());
    /// assert_eq!(config.hostname, "nsinit");
    /// assert!(config.has_new(NamespaceType::Pid));
    /// if let Some(cgroup) = &mut config.cgroups {
    ///     // The container's id takes its place.
    ///     assert_eq!(cgroup.name, "");
    ///     cgroup.memory = 64 << 20;
    /// }
    /// config.validate()?;
    /// # Ok::<(), pidone_config::Error>(())
    /// ```
    #[must_use]
    pub fn template(rootfs: PathBuf) -> Self {
        let mut config = Self {
            parent_death_signal: libc::SIGKILL,
            capabilities: capability::DEFAULT.map(str::to_owned).into(),
            cgroups: Some(cgroup()),
            rootfs,
            devices: auto_created_devices(),
            hostname: "nsinit".to_owned(),
            networks: vec![Network::loopback()],
            mask_paths: mask_paths(),
            readonly_paths: readonly_paths(),
            mounts: vec![
                mount("proc", "proc", "/proc", PLAIN, ""),
                mount("tmpfs", "tmpfs", "/dev", NOSUID | STRICTATIME, "mode=755"),
                mount(
                    "devpts",
                    "devpts",
                    "/dev/pts",
                    NOSUID | NOEXEC,
                    "newinstance,ptmxmode=0666,mode=0620,gid=5",
                ),
                mount("tmpfs", "shm", "/dev/shm", PLAIN, "mode=1777,size=65536k"),
                mount("mqueue", "mqueue", "/dev/mqueue", PLAIN, ""),
                mount("sysfs", "sysfs", "/sys", PLAIN | RDONLY, ""),
            ],
            rlimits: vec![Rlimit { kind: Rlimit::NOFILE, hard: 1024, soft: 1024 }],
            ..Self::default()
        };
        for kind in [
            NamespaceType::Ipc,
            NamespaceType::Network,
            NamespaceType::Mount,
            NamespaceType::Pid,
            NamespaceType::Uts,
        ] {
            config.set_namespace(kind, "");
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn device_lists_are_those_of_libcontainer() {
        let rules: Vec<_> = allowed_devices().iter().map(Device::cgroup_string).collect();
        assert_eq!(
            rules,
            [
                "c *:* m",
                "b *:* m",
                "c 5:1 rwm",
                "c 4:0 rwm",
                "c 4:1 rwm",
                "c 136:* rwm",
                "c 5:2 rwm",
                "c 10:200 rwm",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 5:0 rwm",
                "c 1:9 rwm",
                "c 1:8 rwm",
            ]
        );
        let nodes: Vec<_> = auto_created_devices().into_iter().map(|node| node.path).collect();
        assert_eq!(
            nodes,
            [
                "/dev/fuse",
                "/dev/null",
                "/dev/zero",
                "/dev/full",
                "/dev/tty",
                "/dev/urandom",
                "/dev/random"
            ]
        );
        assert!(simple_devices().iter().all(|node| node.file_mode == 0o666));
    }

    #[test]
    fn template_is_valid_and_has_the_form_of_libcontainer() {
        let config = Config::template("/srv/busybox".into());
        config.validate().unwrap();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["cgroups"]["name"], "");
        assert_eq!(json["cgroups"]["parent"], "nsinit");
        assert_eq!(json["mounts"][0]["flags"], 14);
        assert_eq!(json["mounts"][5]["flags"], 15);
        assert_eq!(json["devices"][0]["type"], 99);
        assert_eq!(json["devices"][1]["file_mode"], 438);
        assert_eq!(json["rlimits"][0], serde_json::json!({"type": 7, "hard": 1024, "soft": 1024}));
        assert!(json["routes"].is_null() && json["seccomp"].is_null());
        assert!(json.get("tmpfs_root").is_none() && json.get("links").is_none());
        let text = serde_json::to_vec(&config).unwrap();
        assert_eq!(Config::from_json(&text).unwrap(), config);
    }

    #[test]
    fn template_of_the_root_directory_is_valid() {
        Config::template("/".into()).validate().unwrap();
    }

    #[test]
    fn thermal_throttle_directories_are_listed_by_cpu_number() {
        let cpus = tempfile::tempdir().unwrap();
        assert!(thermal_throttles(cpus.path()).is_empty());
        for directory in ["cpu0", "cpu10", "cpu2", "cpufreq"] {
            fs::create_dir_all(cpus.path().join(directory).join("thermal_throttle")).unwrap();
        }
        let base = cpus.path().display();
        let expected =
            ["cpu0", "cpu2", "cpu10"].map(|cpu| format!("{base}/{cpu}/thermal_throttle"));
        assert_eq!(thermal_throttles(cpus.path()), expected);
    }
}
