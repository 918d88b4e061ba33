//! Which devices the container may make, read and write.
//!
//! On cgroup v1 the controller `devices` takes the rules as text, on cgroup v2 they become a
//! program. Reference: the kernel's `admin-guide/cgroup-v1/devices`.

use std::collections::BTreeMap;
use std::fmt;

use rustix::io::Errno;

use super::directory::Directory;
use super::{Cgroups, bpf, device_program};
use crate::config;
use crate::{Code, Error, Result};

/// Kinds of access, with the kernel's `BPF_DEVCG_ACC_*` values.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const EVERYTHING: u8 = MKNOD | READ | WRITE;

/// More than any sensible configuration; the kernel's verifier would take about ten times this.
const MOST_RULES: usize = 4096;

/// The device or devices that a rule is about; none stands for every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    /// Otherwise a character device.
    pub(super) block: bool,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        let kind = if self.block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

/// The rules, at most one for each [`Device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// What holds for devices without a rule; the rules say the opposite.
    pub(super) allow: bool,
    pub(super) rules: BTreeMap<Device, u8>,
}

impl Policy {
    /// Everything is allowed.
    pub(super) fn is_open(&self) -> bool {
        self.allow && self.rules.is_empty()
    }

    /// Reads the rules of a configuration.
    pub(super) fn of(config: &config::Cgroup) -> Result<Self> {
        let (field, devices) = if config.allow_all_devices {
            ("denied_devices", &config.denied_devices)
        } else {
            ("allowed_devices", &config.allowed_devices)
        };
        if devices.len() > MOST_RULES {
            let reason = format!("more than {MOST_RULES} rules");
            return Err(Error::config(format!("cgroups.{field}"), devices.len(), reason));
        }
        let mut policy = Self { allow: config.allow_all_devices, rules: BTreeMap::new() };
        for (index, device) in devices.iter().enumerate() {
            let refuse = |what: &str, value: &dyn fmt::Display, reason: &'static str| {
                Error::config(format!("cgroups.{field}[{index}].{what}"), value, reason)
            };
            let number = |what, value: i64| match u32::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) if value == -1 => Ok(None),
                Err(_) => Err(refuse(what, &value, "is not a device number; -1 stands for all")),
            };
            let access = access(&device.permissions)
                .ok_or_else(|| refuse("permissions", &device.permissions, "is not of `rwm`"))?;
            let block = match device.kind {
                'b' => true,
                'c' => false,
                // As the kernel reads it: every device, whatever the numbers.
                'a' if access == EVERYTHING => {
                    return Ok(Self { allow: !policy.allow, rules: BTreeMap::new() });
                }
                'a' => {
                    let reason = "must be `rwm` for the type `a`";
                    return Err(refuse("permissions", &device.permissions, reason));
                }
                kind => return Err(refuse("type", &kind, "is not `a`, `b` or `c`")),
            };
            let (major, minor) = (number("major", device.major)?, number("minor", device.minor)?);
            *policy.rules.entry(Device { block, major, minor }).or_default() |= access;
        }
        Ok(policy)
    }
}

/// Parses letters of `rwm`.
fn access(letters: &str) -> Option<u8> {
    let known = |letter| match letter {
        'r' => Some(READ),
        'w' => Some(WRITE),
        'm' => Some(MKNOD),
        _ => None,
    };
    let bits = letters.chars().try_fold(0, |bits, letter| Some(bits | known(letter)?))?;
    (bits != 0).then_some(bits)
}

fn letters(access: u8) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    all.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

/// Puts the rules in force.
///
/// # Errors
/// The write or system call that failed; no hierarchy that could restrict devices. The kernel
/// does not let an ordinary user restrict devices (`EPERM`): that is no error, because such a user
/// cannot make device nodes either and opens them with no more rights than before.
pub(super) fn apply(cgroups: &Cgroups, policy: &Policy) -> Result<()> {
    let applied = if let Some(path) = cgroups.paths.get("devices") {
        apply_v1(&Directory::existing(path)?, policy)
    } else if let Some(path) = cgroups.v2() {
        apply_v2(&Directory::existing(path)?, policy)
    } else if policy.is_open() || is_ordinary_user() {
        Ok(())
    } else {
        let reason = "no cgroup hierarchy is mounted that restricts devices";
        Err(Error::reason(Code::SystemError, "restrict devices", "", reason))
    };
    match applied {
        Err(error) if error.errno() == Some(Errno::PERM) && is_ordinary_user() => Ok(()),
        other => other,
    }
}

/// Whether the caller has no rights outside of its own user namespace.
fn is_ordinary_user() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    // The initial user namespace maps every id to itself.
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Writes the difference between the rules in force and the wanted ones, so that a running
/// container never loses a device that it keeps.
fn apply_v1(directory: &Directory, policy: &Policy) -> Result<()> {
    for (file, line) in v1_lines(&directory.read_existing("devices.list")?, policy) {
        directory.write(file, &line)?;
    }
    Ok(())
}

/// The lines to write, given the text of `devices.list`.
fn v1_lines(list: &str, policy: &Policy) -> Vec<(&'static str, String)> {
    const ALLOW: &str = "devices.allow";
    const DENY: &str = "devices.deny";
    let mut lines = Vec::new();
    let mut write = |file, device: &Device, access| {
        if access != 0 {
            lines.push((file, format!("{device} {}", letters(access))));
        }
    };
    // "a *:* rwm" says that everything is allowed but for exceptions, which it does not show: the
    // only way to change those is to begin anew, with everything allowed for a moment.
    let open = list.starts_with('a');
    if policy.allow {
        for (device, &access) in &policy.rules {
            write(DENY, device, access);
        }
        if !open || !policy.rules.is_empty() {
            lines.insert(0, (ALLOW, "a".to_owned()));
        }
        return lines;
    }
    let current: BTreeMap<Device, u8> = list.lines().filter_map(parse_v1).collect();
    for (device, &access) in &policy.rules {
        write(ALLOW, device, access & !current.get(device).unwrap_or(&0));
    }
    for (device, &access) in &current {
        write(DENY, device, access & !policy.rules.get(device).unwrap_or(&0));
    }
    if open {
        lines.insert(0, (DENY, "a".to_owned()));
    }
    lines
}

/// Parses a line of `devices.list`: `c 1:3 rwm`.
fn parse_v1(line: &str) -> Option<(Device, u8)> {
    let mut words = line.split_ascii_whitespace();
    let block = match words.next()? {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        text => text.parse().ok().map(Some),
    };
    let device = Device { block, major: number(major)?, minor: number(minor)? };
    Some((device, access(words.next()?)?))
}

/// Attaches the program for the rules, then detaches those of earlier calls. In between both
/// hold, so that at no time more is allowed than either allows.
fn apply_v2(directory: &Directory, policy: &Policy) -> Result<()> {
    let error = |call: &'static str| move |errno: Errno| Error::path(call, directory.path(), errno);
    let earlier = bpf::attached(directory).map_err(error("bpf prog_query"))?;
    if !policy.is_open() {
        let program = bpf::load(&device_program::compile(policy))
            .map_err(|errno| Error::system("bpf prog_load", "", errno))?;
        bpf::attach(directory, &program).map_err(error("bpf prog_attach"))?;
    }
    for program in earlier {
        bpf::detach(directory, &program).map_err(error("bpf prog_detach"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: char, major: i64, minor: i64, permissions: &str) -> config::Device {
        config::Device {
            kind,
            major,
            minor,
            permissions: permissions.into(),
            ..config::Device::default()
        }
    }

    fn allowing(devices: Vec<config::Device>) -> config::Cgroup {
        config::Cgroup { allowed_devices: devices, ..config::Cgroup::default() }
    }

    fn policy(devices: Vec<config::Device>) -> Policy {
        Policy::of(&allowing(devices)).unwrap()
    }

    #[test]
    fn joins_rules_about_the_same_device() {
        let policy = policy(vec![device('c', 1, 3, "r"), device('c', 1, 3, "wm")]);
        let null = Device { block: false, major: Some(1), minor: Some(3) };
        assert_eq!(policy.rules, BTreeMap::from([(null, EVERYTHING)]));
        assert!(!policy.allow);
    }

    #[test]
    fn takes_a_for_all_devices() {
        assert!(policy(vec![device('a', 0, 0, "rwm"), device('c', 1, 3, "r")]).is_open());
        let denying = config::Cgroup {
            allow_all_devices: true,
            denied_devices: vec![device('a', -1, -1, "rwm")],
            ..config::Cgroup::default()
        };
        let closed = Policy { allow: false, rules: BTreeMap::new() };
        assert_eq!(Policy::of(&denying).unwrap(), closed);
    }

    #[test]
    fn refuses_what_is_no_rule() {
        for (bad, field) in [
            (device('p', 1, 1, "r"), "type = p"),
            (device('c', -2, 1, "r"), "major = -2"),
            (device('c', 1, 1 << 32, "r"), "minor = 4294967296"),
            (device('c', 1, 1, ""), "permissions`"),
            (device('c', 1, 1, "rx"), "permissions = rx"),
            (device('a', -1, -1, "r"), "permissions = r"),
        ] {
            let config = allowing(vec![device('c', 1, 3, "r"), bad]);
            let error = Policy::of(&config).unwrap_err().to_string();
            assert!(error.contains(&format!("cgroups.allowed_devices[1].{field}")), "{error}");
        }
        let many = allowing(vec![device('c', 1, 3, "r"); MOST_RULES + 1]);
        assert!(Policy::of(&many).is_err());
    }

    #[test]
    fn closes_a_new_cgroup_and_opens_what_is_allowed() {
        let policy = policy(vec![device('c', 1, 3, "mrw"), device('b', -1, -1, "m")]);
        assert_eq!(
            v1_lines("a *:* rwm\n", &policy),
            [
                ("devices.deny", "a".to_owned()),
                ("devices.allow", "c 1:3 rwm".to_owned()),
                ("devices.allow", "b *:* m".to_owned()),
            ]
        );
    }

    #[test]
    fn changes_only_the_difference() {
        let policy = policy(vec![device('c', 1, 3, "rwm"), device('c', 1, 5, "r")]);
        let list = "c 1:3 rwm\nc 1:5 rw\nb *:* m\n";
        assert_eq!(
            v1_lines(list, &policy),
            [("devices.deny", "c 1:5 w".to_owned()), ("devices.deny", "b *:* m".to_owned())]
        );
        assert!(v1_lines("c 1:3 rwm\nc 1:5 r\n", &policy).is_empty());
    }

    #[test]
    fn opens_everything_but_exceptions() {
        let mut config = config::Cgroup { allow_all_devices: true, ..config::Cgroup::default() };
        let open = Policy::of(&config).unwrap();
        assert!(v1_lines("a *:* rwm\n", &open).is_empty());
        assert_eq!(v1_lines("c 1:3 rwm\n", &open), [("devices.allow", "a".to_owned())]);
        config.denied_devices = vec![device('c', 1, 9, "w")];
        assert_eq!(
            v1_lines("a *:* rwm\n", &Policy::of(&config).unwrap()),
            [("devices.allow", "a".to_owned()), ("devices.deny", "c 1:9 w".to_owned())]
        );
    }
}
