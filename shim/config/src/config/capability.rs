//! Capabilities by name, and as masks: `capabilities(7)`.

use std::str::FromStr;

use caps::Capability;
use serde::{Deserialize, Deserializer};

use super::fault::{Check, Fault, each};
use crate::error::{Error, Result};
use crate::text::quoted;

/// The default capabilities of a container: those of nsinit's template, which are also docker's.
pub const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Returns the name of a capability without `CAP_`, given in any spelling; `None` for an unknown
/// name.
#[must_use]
pub fn name(text: &str) -> Option<String> {
    let capability = parse(text)?.to_string();
    Some(capability.strip_prefix("CAP_").unwrap_or(&capability).to_owned())
}

/// Returns the mask of named capabilities, as in
/// [`Config::capabilities`](super::Config::capabilities): bit N is capability N.
///
/// # Errors
///
/// [`Code::ConfigInvalid`](crate::Code::ConfigInvalid) for an unknown name.
pub fn mask(names: &[impl AsRef<str>]) -> Result<u64> {
    names.iter().enumerate().try_fold(0, |mask, (index, text)| {
        let text = text.as_ref();
        let unknown =
            || Error::config(format!("capabilities[{index}]"), quoted(text), "unknown capability");
        Ok(mask | parse(text).ok_or_else(unknown)?.bitmask())
    })
}

/// Returns the mask of all capabilities with a known name.
///
/// The running kernel may know fewer: see `/proc/sys/kernel/cap_last_cap`.
#[must_use]
pub fn all() -> u64 {
    caps::all().iter().fold(0, |mask, capability| mask | capability.bitmask())
}

fn parse(text: &str) -> Option<Capability> {
    Capability::from_str(&caps::to_canonical(text)).ok()
}

pub(super) fn check(names: &[String]) -> Check {
    each("capabilities", names, |text| match parse(text) {
        Some(_) => Ok(()),
        None => Err(Fault::text("", text, "unknown capability")),
    })
}

/// An element of a list, in libcontainer's spelling.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        name(&String::deserialize(reader)?)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("unknown capability"))
    }
}

/// Reads a list of names, or `null`.
pub(super) fn names<'de, D: Deserializer<'de>>(
    reader: D,
) -> std::result::Result<Vec<String>, D::Error> {
    let names: Option<Vec<Name>> = Option::deserialize(reader)?;
    Ok(names.unwrap_or_default().into_iter().map(|Name(name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_that_of_docker() {
        assert_eq!(mask(&DEFAULT).unwrap(), 0x0000_0000_a804_25fb);
    }

    #[test]
    fn all_has_the_capabilities_of_the_kernel_header() {
        // The last one, since Linux 5.9, is CAP_CHECKPOINT_RESTORE, 40.
        assert_eq!(all(), (1 << 41) - 1);
    }

    #[test]
    fn spellings_mean_the_same_and_unknown_names_are_refused() {
        for text in ["SYS_ADMIN", "CAP_SYS_ADMIN", "sys_admin", "Cap_Sys_Admin"] {
            assert_eq!(name(text).as_deref(), Some("SYS_ADMIN"), "{text}");
            assert_eq!(mask(&[text]).unwrap(), 1 << 21);
        }
        for text in ["", "CAP_", "ADMIN", "SYS-ADMIN", "CAP_CAP_SYS_ADMIN"] {
            assert_eq!(name(text), None, "{text}");
        }
        assert_eq!(
            mask(&["KILL", "NO_SUCH"]).unwrap_err().to_string(),
            "configuration `capabilities[1] = \"NO_SUCH\"`: unknown capability"
        );
    }
}
