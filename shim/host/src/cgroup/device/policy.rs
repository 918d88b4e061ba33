//! The device rules of a configuration, in their order.

use std::fmt;

use pidone_config::{Error, Result, config};

/// Kinds of access, with the kernel's `BPF_DEVCG_ACC_*` values.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const EVERYTHING: u8 = MKNOD | READ | WRITE;

/// The most rules of a configuration. The kernel's verifier accepts more if the rules are about
/// single devices, but hardly if every second rule is an exception from the one before.
const MOST_RULES: usize = 1024;

/// The device or devices that a rule is about. `None` stands for every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    /// Whether it is a block device, otherwise a character device.
    pub(super) block: bool,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

impl Device {
    /// Whether this includes every device of the other.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let covers = |number: Option<u32>, other| number.is_none() || number == other;
        self.block == other.block
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// Whether this includes a device of the other.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let meets = |number: Option<u32>, other: Option<u32>| {
            number.zip(other).is_none_or(|(number, other)| number == other)
        };
        self.block == other.block
            && meets(self.major, other.major)
            && meets(self.minor, other.minor)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
        let kind = if self.block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

/// A device rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whether the rule allows, otherwise it denies.
    pub(super) allow: bool,
    pub(super) device: Device,
    /// The kinds of access that the rule is about: bits of [`EVERYTHING`].
    pub(super) access: u8,
}

/// The rules in their order. For each kind of access the last rule about it and the device decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cgroup) struct Policy {
    /// Whether access is allowed if no rule decides.
    pub(super) allow: bool,
    pub(super) rules: Vec<Rule>,
}

impl Policy {
    /// Whether everything is allowed.
    pub(in crate::cgroup) fn is_open(&self) -> bool {
        self.allow && self.rules.is_empty()
    }

    /// Reads the rules of a configuration: those of one of its two lists, then the ordered rules.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` with the field of an invalid rule, or of more rules than
    /// [`MOST_RULES`].
    pub(in crate::cgroup) fn from_config(config: &config::Cgroup) -> Result<Self> {
        let (field, devices) = if config.allow_all_devices {
            ("denied_devices", &config.denied_devices)
        } else {
            ("allowed_devices", &config.allowed_devices)
        };
        let mut policy = Self { allow: config.allow_all_devices, rules: Vec::new() };
        for (index, device) in devices.iter().enumerate() {
            let place = Place { field, index };
            // As in the kernel, `a` is every device, whatever the numbers.
            if device.kind == 'a' {
                if access(&device.permissions) != Some(EVERYTHING) {
                    let reason = "must be `rwm` for the type `a`";
                    return Err(place.refuse("permissions", &device.permissions, reason));
                }
                policy.reset(!config.allow_all_devices);
            } else {
                policy.add(place, !config.allow_all_devices, device)?;
            }
        }
        for (index, rule) in config.device_rules.iter().enumerate() {
            policy.add(Place { field: "device_rules", index }, rule.allow, &rule.device)?;
        }
        Ok(policy)
    }

    fn reset(&mut self, allow: bool) {
        *self = Self { allow, rules: Vec::new() };
    }

    fn add(&mut self, place: Place, allow: bool, device: &config::Device) -> Result<()> {
        let number = |what, value: i64| match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) if value == -1 => Ok(None),
            Err(_) => {
                let reason = "is not a device number; -1 stands for all";
                Err(place.refuse(what, value, reason))
            }
        };
        let access = access(&device.permissions)
            .ok_or_else(|| place.refuse("permissions", &device.permissions, "is not of `rwm`"))?;
        let (major, minor) = (number("major", device.major)?, number("minor", device.minor)?);
        let blocks: &[bool] = match device.kind {
            'a' => &[false, true],
            'b' => &[true],
            'c' => &[false],
            kind => return Err(place.refuse("type", kind, "is not `a`, `b` or `c`")),
        };
        if (device.kind, major, minor, access) == ('a', None, None, EVERYTHING) {
            self.reset(allow);
            return Ok(());
        }
        // A first rule that repeats the default is left out, so that a privileged container needs
        // no program.
        if self.rules.is_empty() && allow == self.allow {
            return Ok(());
        }
        if self.rules.len() + blocks.len() > MOST_RULES {
            let reason = format!("more than {MOST_RULES} rules");
            return Err(Error::config(format!("cgroups.{}", place.field), "", reason));
        }
        for &block in blocks {
            self.rules.push(Rule { allow, device: Device { block, major, minor }, access });
        }
        Ok(())
    }
}

/// The position of a rule in the configuration, for messages.
#[derive(Clone, Copy)]
struct Place {
    field: &'static str,
    index: usize,
}

impl Place {
    fn refuse(self, what: &str, value: impl fmt::Display, reason: &'static str) -> Error {
        Error::config(format!("cgroups.{}[{}].{what}", self.field, self.index), value, reason)
    }
}

/// Parses the letters of an access, some of `rwm`.
pub(super) fn access(letters: &str) -> Option<u8> {
    let known = |letter| match letter {
        'r' => Some(READ),
        'w' => Some(WRITE),
        'm' => Some(MKNOD),
        _ => None,
    };
    let bits = letters.chars().try_fold(0, |bits, letter| Some(bits | known(letter)?))?;
    (bits != 0).then_some(bits)
}

/// Formats an access as letters of `rwm`.
pub(super) fn letters(access: u8) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    all.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
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
        Policy::from_config(&allowing(devices)).unwrap()
    }

    #[test]
    fn type_a_is_every_device() {
        assert!(policy(vec![device('a', 0, 0, "rwm"), device('c', 1, 3, "r")]).is_open());
        let denying = config::Cgroup {
            allow_all_devices: true,
            denied_devices: vec![device('a', -1, -1, "rwm")],
            ..config::Cgroup::default()
        };
        let closed = Policy { allow: false, rules: Vec::new() };
        assert_eq!(Policy::from_config(&denying).unwrap(), closed);
    }

    fn ordered(rules: &[&str]) -> Policy {
        let device_rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Policy::from_config(&config::Cgroup { device_rules, ..config::Cgroup::default() }).unwrap()
    }

    #[test]
    fn a_rule_about_everything_replaces_those_before() {
        assert!(ordered(&["allow c 1:3 r", "allow a *:* rwm", "allow c 1:3 rwm"]).is_open());
        let closed = ordered(&["allow a *:* rwm", "deny a *:* rwm", "deny c 1:3 r"]);
        assert_eq!(closed, Policy { allow: false, rules: Vec::new() });
        assert!(!ordered(&["allow a *:* rw"]).is_open());
        assert!(!ordered(&["allow a 7:* rwm"]).is_open());
    }

    #[test]
    fn rules_keep_their_order_and_type_a_becomes_two() {
        let policy = ordered(&["deny c 9:9 r", "allow a 7:* rw", "deny b 7:1 w"]);
        let device = |block, minor| Device { block, major: Some(7), minor };
        assert_eq!(
            policy.rules,
            [
                Rule { allow: true, device: device(false, None), access: READ | WRITE },
                Rule { allow: true, device: device(true, None), access: READ | WRITE },
                Rule { allow: false, device: device(true, Some(1)), access: WRITE },
            ]
        );
        assert!(!policy.allow);
    }

    #[test]
    fn lists_come_before_ordered_rules() {
        let config = config::Cgroup {
            allow_all_devices: true,
            denied_devices: vec![device('c', 1, 3, "rwm")],
            device_rules: vec!["allow c 1:3 r".parse().unwrap()],
            ..config::Cgroup::default()
        };
        let rules = Policy::from_config(&config).unwrap().rules;
        assert_eq!(rules.iter().map(|rule| rule.allow).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn invalid_rules_are_refused_with_their_field() {
        for (bad, field) in [
            (device('p', 1, 1, "r"), "type = p"),
            (device('c', -2, 1, "r"), "major = -2"),
            (device('c', 1, 1 << 32, "r"), "minor = 4294967296"),
            (device('c', 1, 1, ""), "permissions`"),
            (device('c', 1, 1, "rx"), "permissions = rx"),
            (device('a', -1, -1, "r"), "permissions = r"),
        ] {
            let config = allowing(vec![device('c', 1, 3, "r"), bad]);
            let error = Policy::from_config(&config).unwrap_err().to_string();
            assert!(error.contains(&format!("cgroups.allowed_devices[1].{field}")), "{error}");
        }
        let rule = config::DeviceRule { allow: true, device: device('c', -2, 1, "r") };
        let config = config::Cgroup { device_rules: vec![rule], ..config::Cgroup::default() };
        let error = Policy::from_config(&config).unwrap_err().to_string();
        assert!(error.contains("cgroups.device_rules[0].major = -2"), "{error}");
        let many = allowing(vec![device('c', 1, 3, "r"); MOST_RULES + 1]);
        assert!(Policy::from_config(&many).is_err());
    }
}
