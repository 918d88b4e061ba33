//! Resource limits: `getrlimit(2)`.

use serde::{Deserialize, Deserializer, Serialize};

use super::fault::{Check, Fault, each};
use super::json::number_or_text;

/// The names, indexed by number: `include/uapi/asm-generic/resource.h`, which x86_64 and aarch64
/// share.
const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// The `RLIMIT_*` number. Files may use the name, with or without `RLIMIT_`.
    #[serde(rename = "type", deserialize_with = "kind")]
    pub kind: u32,
    /// The ceiling of the soft limit. Files may use `unlimited` or -1.
    #[serde(deserialize_with = "limit")]
    pub hard: u64,
    /// The limit that the kernel enforces. Files may use `unlimited` or -1.
    #[serde(deserialize_with = "limit")]
    pub soft: u64,
}

impl Rlimit {
    /// The size of the stack. A constant here, because C libraries disagree about the type of these
    /// numbers.
    pub const STACK: u32 = 3;
    /// The number of open files.
    pub(crate) const NOFILE: u32 = 7;

    /// No limit: `RLIM_INFINITY`.
    pub const UNLIMITED: u64 = u64::MAX;

    /// Returns the number of a limit by its name, such as `RLIMIT_NOFILE` or `nofile`.
    #[must_use]
    pub fn number(name: &str) -> Option<u32> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("RLIMIT_").unwrap_or(&name);
        NAMES.iter().position(|known| *known == name).and_then(|index| u32::try_from(index).ok())
    }

    /// Returns the name of the limit, such as `RLIMIT_NOFILE`; `None` for an unknown number.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let name = NAMES.get(usize::try_from(self.kind).ok()?)?;
        Some(format!("RLIMIT_{name}"))
    }

    /// Checks a list of limits, none of which may occur twice.
    pub(super) fn check_all(limits: &[Self]) -> Check {
        each("rlimits", limits, |limit| {
            let Some(name) = limit.name() else {
                return Err(Fault::new("type", limit.kind, "unknown resource limit"));
            };
            if limit.soft > limit.hard {
                let reason =
                    format!("{name}: the soft limit is above the hard limit {}", limit.hard);
                return Err(Fault::new("soft", limit.soft, reason));
            }
            let first = limits.iter().find(|other| other.kind == limit.kind);
            if !first.is_some_and(|first| std::ptr::eq(first, limit)) {
                return Err(Fault::new("type", limit.kind, "stands more than once"));
            }
            Ok(())
        })
    }
}

fn kind<'de, D: Deserializer<'de>>(reader: D) -> Result<u32, D::Error> {
    let number = |number| u32::try_from(number).ok();
    number_or_text(reader, "the number or name of a resource limit", number, Rlimit::number)
}

fn limit<'de, D: Deserializer<'de>>(reader: D) -> Result<u64, D::Error> {
    number_or_text(
        reader,
        "a number or \"unlimited\"",
        |number| if number == -1 { Some(Rlimit::UNLIMITED) } else { u64::try_from(number).ok() },
        |text| match text {
            "unlimited" | "infinity" | "-1" => Some(Rlimit::UNLIMITED),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Rlimit, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn numbers_and_names_mean_the_same() {
        let limit = read(r#"{"type": 7, "hard": 1024, "soft": 1024}"#).unwrap();
        assert_eq!(limit, read(r#"{"type": "nofile", "hard": 1024, "soft": "1024"}"#).unwrap());
        assert_eq!(limit.name().as_deref(), Some("RLIMIT_NOFILE"));
        assert_eq!(Rlimit::number("RLIMIT_RTTIME"), Some(libc::RLIMIT_RTTIME));
        assert_eq!(Rlimit::number("rlimit_core"), Some(libc::RLIMIT_CORE));
        assert_eq!(Rlimit::number("files"), None);
        let limit = read(r#"{"type": "core", "hard": -1, "soft": "unlimited"}"#).unwrap();
        assert_eq!((limit.hard, limit.soft), (Rlimit::UNLIMITED, Rlimit::UNLIMITED));
        assert!(read(r#"{"type": "files", "hard": 1, "soft": 1}"#).is_err());
        assert!(read(r#"{"type": 7, "hard": -2, "soft": 1}"#).is_err());
        assert!(read(r#"{"type": 7, "hard": "+1", "soft": 1}"#).is_err());
        assert!(read(r#"{"type": 7, "hard": 1}"#).is_err());
    }

    #[test]
    fn soft_above_hard_and_duplicates_are_refused() {
        let limit = |kind, soft, hard| Rlimit { kind, hard, soft };
        Rlimit::check_all(&[limit(7, 1, 1), limit(4, 0, Rlimit::UNLIMITED)]).unwrap();
        for (limits, text) in [
            (vec![limit(16, 1, 1)], "`rlimits[0].type = 16`: unknown resource limit"),
            (vec![limit(7, 2, 1)], "RLIMIT_NOFILE: the soft limit is above the hard limit 1"),
            (vec![limit(7, 1, 1); 2], "`rlimits[1].type = 7`: stands more than once"),
        ] {
            let error = crate::Error::from(Rlimit::check_all(&limits).unwrap_err()).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
