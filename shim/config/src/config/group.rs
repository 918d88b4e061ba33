//! Supplementary groups, by number or by a name in the container's `/etc/group`.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serializer};

use super::fault::{Check, Fault, each};
use super::json::number_or_text;

/// Refuses text that cannot be a group.
pub(super) fn check(groups: &[String]) -> Check {
    each("additional_groups", groups, |group| {
        let reason = match group.as_str() {
            "" => "missing",
            _ if is_number(group) => match group.parse::<u32>() {
                // It is the -1 of setgroups(2).
                Ok(u32::MAX) | Err(_) => "must be from 0 to 4294967294",
                Ok(_) => return Ok(()),
            },
            _ if group.contains([':', ',', '\0', '\n']) => "is no name of a group",
            _ => return Ok(()),
        };
        Err(Fault::text("", group, reason))
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An element of the list: a name, or a number, which is kept as digits.
struct Group(String);

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        number_or_text(
            reader,
            "the number or name of a group",
            |number| u32::try_from(number).ok().map(|number| Self(number.to_string())),
            |text| Some(Self(text.to_owned())),
        )
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<String>, D::Error> {
    let groups: Option<Vec<Group>> = Option::deserialize(reader)?;
    Ok(groups.unwrap_or_default().into_iter().map(|Group(group)| group).collect())
}

/// Writes numbers as numbers, because libcontainer reads nothing else.
pub(super) fn serialize<S: Serializer>(groups: &[String], writer: S) -> Result<S::Ok, S::Error> {
    if groups.is_empty() {
        return writer.serialize_none();
    }
    let mut list = writer.serialize_seq(Some(groups.len()))?;
    for group in groups {
        match group.parse::<u32>() {
            Ok(number) if is_number(group) => list.serialize_element(&number)?,
            _ => list.serialize_element(group)?,
        }
    }
    list.end()
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn numbers_are_written_as_numbers() {
        let config = Config::from_json(br#"{"additional_groups": [5, "audio", "6"]}"#).unwrap();
        assert_eq!(config.additional_groups, ["5", "audio", "6"]);
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["additional_groups"], serde_json::json!([5, "audio", 6]));
        assert!(Config::from_json(br#"{"additional_groups": [-1]}"#).is_err());
        assert!(Config::from_json(br#"{"additional_groups": [4294967296]}"#).is_err());
    }

    #[test]
    fn malformed_groups_are_refused() {
        let check = |group: &str| check(&[group.to_owned()]);
        for group in ["0", "4294967294", "audio", "domain users"] {
            assert!(check(group).is_ok(), "{group}");
        }
        for group in ["", "4294967295", "4294967296", "a:b", "a,b", "a\n"] {
            assert!(check(group).is_err(), "{group}");
        }
    }
}
