//! Device nodes, and rules of the device cgroup.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::fault::{Check, Fault};
use super::json::number_or_text;
use super::path;

/// The largest major and minor numbers, of 12 and 20 bits: `include/linux/kdev_t.h`.
const MAJOR_MAX: i64 = (1 << 12) - 1;
const MINOR_MAX: i64 = (1 << 20) - 1;

/// A device node, or a rule of the device cgroup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The type: `c`, `b`, `p`, or `a` in rules. Files may use the code of the letter, which is
    /// what libcontainer writes.
    #[serde(rename = "type", with = "letter")]
    pub kind: char,
    /// The path of the node in the container; empty in a rule.
    #[serde(default)]
    pub path: String,
    /// The major number; -1 for all.
    #[serde(default)]
    pub major: i64,
    /// The minor number; -1 for all.
    #[serde(default)]
    pub minor: i64,
    /// The permissions of the device cgroup: letters of `rwm`.
    #[serde(default)]
    pub permissions: String,
    /// The permission bits of the node, including the set-ID and sticky bits. Files may use octal
    /// text, or the form of Go's `os.FileMode`.
    #[serde(default, deserialize_with = "mode")]
    pub file_mode: u32,
    /// The owner.
    #[serde(default)]
    pub uid: u32,
    /// The group.
    #[serde(default)]
    pub gid: u32,
}

impl Device {
    /// Returns the device in the format of the device cgroup: `c 1:3 rwm`, `c 136:* rwm`.
    #[must_use]
    pub fn cgroup_string(&self) -> String {
        let number = |number| match number {
            -1 => "*".to_owned(),
            number => i64::to_string(&number),
        };
        let (major, minor) = (number(self.major), number(self.minor));
        format!("{} {major}:{minor} {}", self.kind, self.permissions)
    }

    /// Checks a node to make.
    pub(super) fn check_node(&self) -> Check {
        match self.kind {
            'c' | 'b' => {
                self.check_number("major", self.major, 0, MAJOR_MAX)?;
                self.check_number("minor", self.minor, 0, MINOR_MAX)?;
            }
            // mknod(2) takes no device number for a FIFO.
            'p' => {}
            kind => return Err(Fault::text("type", &kind.to_string(), "must be c, b or p")),
        }
        path::check_absolute("path", &self.path)?;
        let place = path::in_root(&self.path);
        if place == Path::new("/") || place.starts_with("/proc") || place.starts_with("/sys") {
            let reason = "must not be the root, or inside /proc or /sys";
            return Err(Fault::text("path", &self.path, reason));
        }
        if self.file_mode & !0o7777 != 0 {
            return Err(Fault::new("file_mode", self.file_mode, "has more than permission bits"));
        }
        for (field, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id == u32::MAX {
                return Err(Fault::new(field, id, "is no id: the kernel reads it as no change"));
            }
        }
        self.check_permissions()
    }

    /// Checks a rule of the device cgroup.
    pub(super) fn check_rule(&self) -> Check {
        if !matches!(self.kind, 'a' | 'b' | 'c') {
            return Err(Fault::text("type", &self.kind.to_string(), "must be a, b or c"));
        }
        self.check_number("major", self.major, -1, MAJOR_MAX)?;
        self.check_number("minor", self.minor, -1, MINOR_MAX)?;
        path::check("path", &self.path)?;
        if self.permissions.is_empty() {
            return Err(Fault::text("permissions", "", "missing"));
        }
        self.check_permissions()
    }

    fn check_permissions(&self) -> Check {
        let mut seen = String::new();
        for letter in self.permissions.chars() {
            if !"rwm".contains(letter) || seen.contains(letter) {
                let reason = "must be letters of rwm, each at most once";
                return Err(Fault::text("permissions", &self.permissions, reason));
            }
            seen.push(letter);
        }
        Ok(())
    }

    fn check_number(&self, field: &str, number: i64, least: i64, most: i64) -> Check {
        if (least..=most).contains(&number) {
            return Ok(());
        }
        Err(Fault::new(field, number, format!("must be from {least} to {most}")))
    }
}

/// The error for text that is not a rule of the device cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARule;

/// Parses a rule in the format of [`Device::cgroup_string`].
impl FromStr for Device {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let number = |text: &str| match text {
            "*" => Ok(-1),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotARule)
            }
            _ => Err(NotARule),
        };
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(numbers), Some(permissions), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(NotARule);
        };
        let (major, minor) = numbers.split_once(':').ok_or(NotARule)?;
        Ok(Self {
            kind: letter::from_text(kind).ok_or(NotARule)?,
            major: number(major)?,
            minor: number(minor)?,
            permissions: permissions.to_owned(),
            ..Self::default()
        })
    }
}

/// An allow or deny rule of an ordered list, as in the OCI runtime specification.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceRule {
    /// Whether the rule allows; otherwise it denies.
    pub allow: bool,
    /// The devices that the rule applies to; -1 and the type `a` stand for all.
    pub device: Device,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allow { "allow" } else { "deny" };
        write!(f, "{verb} {}", self.device.cgroup_string())
    }
}

/// Parses a rule in the format in which it is displayed: `deny a *:* rwm`.
impl FromStr for DeviceRule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        let (verb, device) = text.split_once(' ').ok_or(NotARule)?;
        let allow = match verb {
            "allow" => true,
            "deny" => false,
            _ => return Err(NotARule),
        };
        Ok(Self { allow, device: device.parse()? })
    }
}

impl Serialize for DeviceRule {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceRule {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = String::deserialize(reader)?;
        text.parse().map_err(|_| de::Error::custom("expected a rule like \"allow c 1:3 rwm\""))
    }
}

/// The type of a device: a letter, which is written as its code.
mod letter {
    use super::{Deserializer, Serializer, number_or_text};

    pub(super) fn from_text(text: &str) -> Option<char> {
        let mut letters = text.chars();
        letters.next().filter(|_| letters.next().is_none())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<char, D::Error> {
        let number = |number| u32::try_from(number).ok().and_then(char::from_u32);
        number_or_text(reader, "a letter, or its number", number, from_text)
    }

    pub(super) fn serialize<S: Serializer>(kind: &char, writer: S) -> Result<S::Ok, S::Error> {
        writer.serialize_u32(u32::from(*kind))
    }
}

/// Reads permission bits: a number, which may be a Go `os.FileMode`, or octal text.
fn mode<'de, D: Deserializer<'de>>(reader: D) -> Result<u32, D::Error> {
    number_or_text(
        reader,
        "permission bits, or octal text like \"0666\"",
        |number| u32::try_from(number).ok().and_then(permission_bits),
        |text| {
            let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            u32::from_str_radix(text, 8).ok().filter(|mode| octal && mode & !0o7777 == 0)
        },
    )
}

/// Returns the permission bits of a mode, which may be a mode of stat(2) or a Go `os.FileMode`.
///
/// Go keeps the file type and the set-ID and sticky bits in the high bits. The type of a device or
/// FIFO is dropped, because [`Device::kind`] has it.
fn permission_bits(mode: u32) -> Option<u32> {
    const DEVICE: u32 = 1 << 26;
    const NAMED_PIPE: u32 = 1 << 25;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let mut bits = mode & !(DEVICE | NAMED_PIPE | CHAR_DEVICE);
    for (go, unix) in [(SETUID, libc::S_ISUID), (SETGID, libc::S_ISGID), (STICKY, libc::S_ISVTX)] {
        if bits & go != 0 {
            bits = bits & !go | unix;
        }
    }
    if matches!(bits & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK | libc::S_IFIFO) {
        bits &= !libc::S_IFMT;
    }
    (bits & !0o7777 == 0).then_some(bits)
}

/// An element of a list of rules: an object, or text in the format of [`Device::cgroup_string`].
struct Rule(Device);

/// Reads a list of rules, or `null`.
pub(super) fn rules<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Device>, D::Error> {
    let rules: Option<Vec<Rule>> = Option::deserialize(reader)?;
    Ok(rules.unwrap_or_default().into_iter().map(|Rule(device)| device).collect())
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(RuleVisitor)
    }
}

struct RuleVisitor;

impl<'de> Visitor<'de> for RuleVisitor {
    type Value = Rule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or a rule like \"c 1:3 rwm\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rule, E> {
        text.parse().map(Rule).map_err(|_| E::custom("expected a rule like \"c 1:3 rwm\""))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
        Device::deserialize(MapAccessDeserializer::new(map)).map(Rule)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(kind: char, major: i64, minor: i64) -> Device {
        let permissions = "rwm".to_owned();
        Device { kind, path: "/dev/x".into(), major, minor, permissions, ..Device::default() }
    }

    #[test]
    fn type_is_a_letter_or_its_code() {
        for json in [r#"{"type": 99}"#, r#"{"type": "c"}"#] {
            assert_eq!(serde_json::from_str::<Device>(json).unwrap().kind, 'c');
        }
        for json in [r#"{"type": "cc"}"#, r#"{"type": ""}"#, r#"{"type": 4294967296}"#, "{}"] {
            assert!(serde_json::from_str::<Device>(json).is_err(), "{json}");
        }
        assert!(serde_json::to_string(&node('b', 8, 0)).unwrap().contains("\"type\":98"));
    }

    #[test]
    fn go_file_modes_become_permission_bits() {
        assert_eq!(permission_bits(438), Some(0o666));
        assert_eq!(permission_bits(1 << 26 | 1 << 21 | 0o620), Some(0o620));
        assert_eq!(permission_bits(libc::S_IFCHR | 0o666), Some(0o666));
        assert_eq!(permission_bits(1 << 23 | 0o755), Some(0o4755));
        assert_eq!(permission_bits(1 << 31 | 0o755), None);
        let read = |json| serde_json::from_str::<Device>(json).map(|device| device.file_mode);
        assert_eq!(read(r#"{"type": "c", "file_mode": "0666"}"#).unwrap(), 0o666);
        assert!(read(r#"{"type": "c", "file_mode": "0999"}"#).is_err());
        assert!(read(r#"{"type": "c", "file_mode": "+666"}"#).is_err());
        assert!(read(r#"{"type": "c", "file_mode": -1}"#).is_err());
    }

    #[test]
    fn rules_are_parsed_from_text() {
        let rule: Device = "c 136:* rwm".parse().unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor), ('c', 136, -1));
        assert_eq!(rule.cgroup_string(), "c 136:* rwm");
        for text in ["", "c", "c 1:3", "c 1 rwm", "c 1:3 rwm x", "cc 1:3 r", "c +1:3 r", "c -1:3 r"]
        {
            assert_eq!(text.parse::<Device>(), Err(NotARule), "{text}");
        }
    }

    #[test]
    fn ordered_rules_are_read_and_written_as_text() {
        for text in ["allow c 136:* rwm", "deny a *:* rwm"] {
            let rule: DeviceRule = text.parse().unwrap();
            assert_eq!(rule.allow, text.starts_with("allow"));
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<DeviceRule>(&json).unwrap(), rule);
        }
        for text in ["", "allow", "allow ", "c 1:3 rwm", "permit c 1:3 rwm", "deny c 1:3"] {
            assert_eq!(text.parse::<DeviceRule>(), Err(NotARule), "{text}");
        }
    }

    #[test]
    fn malformed_nodes_are_refused() {
        node('c', 1, 3).check_node().unwrap();
        node('p', -1, -1).check_node().unwrap();
        for (device, field) in [
            (node('a', 1, 3), "type"),
            (node('\0', 1, 3), "type"),
            (node('c', -1, 3), "major"),
            (node('c', 4096, 3), "major"),
            (node('b', 8, 1 << 20), "minor"),
            (Device { path: "dev/x".into(), ..node('c', 1, 3) }, "path"),
            (Device { path: "/proc/../proc/x".into(), ..node('c', 1, 3) }, "path"),
            (Device { file_mode: 0o20666, ..node('c', 1, 3) }, "file_mode"),
            (Device { gid: u32::MAX, ..node('c', 1, 3) }, "gid"),
            (Device { permissions: "rr".into(), ..node('c', 1, 3) }, "permissions"),
        ] {
            let text = crate::Error::from(device.check_node().unwrap_err()).to_string();
            assert!(text.contains(field), "{text}");
        }
    }

    #[test]
    fn rules_accept_wildcards_and_refuse_other_types() {
        node('a', -1, -1).check_rule().unwrap();
        for device in [
            node('p', 1, 1),
            node('c', -2, 0),
            Device { permissions: String::new(), ..node('c', 1, 3) },
            Device { permissions: "x".into(), ..node('c', 1, 3) },
        ] {
            assert!(device.check_rule().is_err(), "{device:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_rules_do_not_panic(text: String) {
            let _ = text.parse::<Device>();
        }

        #[test]
        fn rules_roundtrip_as_text(major in -1i64..4096, minor in -1i64..1048576) {
            let rule = node('c', major, minor);
            let read: Device = rule.cgroup_string().parse().unwrap();
            prop_assert_eq!(read.cgroup_string(), rule.cgroup_string());
        }
    }
}
