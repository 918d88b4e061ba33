//! What a container gets when nothing is said: the seed's lists of devices, the paths that hide the
//! host, and nsinit's template.

use std::path::{Path, PathBuf};

use super::mount::flags::{NODEV, NOEXEC, NOSUID, RDONLY, STRICTATIME};
use super::{Cgroup, Config, Device, Mount, NamespaceType, Network, Rlimit, capability};

/// Files and directories of proc and sysfs that tell about the host, or reach into it. Docker's
/// list; that of the seed had `/proc/kcore` alone (CVE-2015-3630, CVE-2017-16539).
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

/// What of proc may be read but not written.
const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The flags of a file system that holds neither programs nor devices.
const PLAIN: u64 = NOEXEC | NOSUID | NODEV;

/// The host's directory of processors.
const CPUS: &str = "/sys/devices/system/cpu";

/// The paths that a container does not see.
///
/// Of the host it looks up which processors report that they are too hot, as docker does: the
/// counters tell containers about each other.
#[must_use]
pub fn mask_paths() -> Vec<String> {
    let mut paths: Vec<String> = MASKED.map(str::to_owned).into();
    paths.extend(thermal_throttles(Path::new(CPUS)));
    paths
}

/// The `thermal_throttle` directories below a directory of processors, in the order of the numbers.
fn thermal_throttles(cpus: &Path) -> Vec<String> {
    // Either every processor has the counters or none; most virtual machines have none, and then
    // a single look is enough.
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

/// The paths that a container sees but cannot write to.
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

/// The devices that every container has: libcontainer's `DefaultSimpleDevices`.
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

/// The rules of what may be opened: libcontainer's `DefaultAllowedDevices`.
///
/// Any node may be made, few may be opened: consoles, ptys, `/dev/net/tun` and the simple devices.
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

/// The nodes that are made: libcontainer's `DefaultAutoCreatedDevices`.
///
/// `/dev/fuse` is there with no permission bits, and no rule allows it.
#[must_use]
pub fn auto_created_devices() -> Vec<Device> {
    let mut devices = vec![character("/dev/fuse", 10, 229, 0)];
    devices.extend(simple_devices());
    devices
}

/// The control group of a container in a directory: `nsinit` and the directory's name, below the
/// caller's.
pub(super) fn cgroup(rootfs: &Path) -> Cgroup {
    let name = rootfs.file_name().map(|name| name.to_string_lossy().into_owned());
    Cgroup {
        name: name.unwrap_or_else(|| "nsinit".to_owned()),
        parent: "nsinit".to_owned(),
        allowed_devices: allowed_devices(),
        ..Cgroup::default()
    }
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
    /// The configuration that nsinit starts a root file system with when there is no file.
    ///
    /// All namespaces but that of users are new, the root is writable, and the paths of
    /// [`mask_paths`] and [`readonly_paths`] take the place of the seed's shorter lists.
    #[must_use]
    pub fn template(rootfs: PathBuf) -> Self {
        let mut config = Self {
            parent_death_signal: libc::SIGKILL,
            capabilities: capability::DEFAULT.map(str::to_owned).into(),
            cgroups: Some(cgroup(&rootfs)),
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
    fn the_lists_of_devices_are_the_seeds() {
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
    fn the_template_is_valid_and_of_the_seeds_form() {
        let config = Config::template("/srv/busybox".into());
        config.validate().unwrap();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["cgroups"]["name"], "busybox");
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
    fn the_root_directory_has_a_name_too() {
        Config::template("/".into()).validate().unwrap();
    }

    #[test]
    fn processors_are_masked_where_they_count() {
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
