//! Reading `container.json`.
//!
//! The files of the seed are read as they are: numbers for flags and types, `null` for empty lists.
//! What is read beyond that, names in place of the numbers, is described at each type.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_path_to_error::{Path as FieldPath, Segment};

use super::fault::{each, excerpt, quoted};
use super::{Config, Mount, path};
use crate::error::{Code, Error, Result};

/// The size of the largest file that is read, in bytes.
pub const MAX_SIZE: u64 = 16 << 20;

impl Config {
    /// Reads a configuration from the text of a `container.json`.
    ///
    /// The result is not validated yet: see [`Config::validate`].
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`], with the line and column, and for a wrong value also the path of
    /// the field and the value.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::parse(json, "")
    }

    fn parse(json: &[u8], origin: &str) -> Result<Self> {
        let config: Self = parse(json, origin)?;
        each("mounts", &config.mounts, Mount::check_known)?;
        Ok(config)
    }

    /// Reads a configuration from a file.
    ///
    /// A relative `rootfs` starts at the file's directory, and a missing one is that directory,
    /// unless the root is a tmpfs.
    ///
    /// # Errors
    ///
    /// As [`Config::from_json`]; [`Code::SystemError`] when the file cannot be read.
    pub fn from_file(file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let mut config = Self::parse(&read(file)?, &file.to_string_lossy())?;
        let missing = config.rootfs.as_os_str().is_empty();
        if config.rootfs.is_relative() && !(missing && config.tmpfs_root) {
            let directory = match file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let directory =
                directory.canonicalize().map_err(|error| Error::path("open", directory, error))?;
            config.rootfs = path::clean(&directory.join(&config.rootfs));
        }
        Ok(config)
    }
}

/// What is room enough for most configurations, in bytes: reads begin with little without it.
const USUAL_SIZE: usize = 32 * 1024;

/// Reads a whole file of bounded size.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    let open = File::open(file).map_err(|error| Error::path("open", file, error))?;
    let mut text = Vec::with_capacity(USUAL_SIZE);
    open.take(MAX_SIZE + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::path("read", file, error))?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_SIZE) {
        return Ok(text);
    }
    let name = file.to_string_lossy();
    Err(Error::reason(Code::ConfigInvalid, "configuration", name, "larger than 16 MiB"))
}

/// Reads a JSON document; `origin` is the name of the file, or empty.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8], origin: &str) -> Result<T> {
    if json.trim_ascii().is_empty() {
        return Err(Error::config(place(origin, 1, 0), "", "empty"));
    }
    // Where a mistake is takes most of the time to follow, and most documents have none.
    if let Ok(Object(value)) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().clone();
        explain(json, origin, &field, &error.into_inner())
    })?;
    reader.end().map_err(|error| syntax(origin, &error))?;
    Ok(value)
}

fn explain(json: &[u8], origin: &str, field: &FieldPath, error: &serde_json::Error) -> Error {
    if error.classify() != serde_json::error::Category::Data || field.iter().next().is_none() {
        return syntax(origin, error);
    }
    let value = value_at(json, field).unwrap_or_default();
    Error::config(excerpt(&field.to_string()), value, reason(error)).with_hint(place(
        origin,
        error.line(),
        error.column(),
    ))
}

fn syntax(origin: &str, error: &serde_json::Error) -> Error {
    Error::config(place(origin, error.line(), error.column()), "", reason(error))
}

fn place(origin: &str, line: usize, column: usize) -> String {
    let space = if origin.is_empty() { "" } else { " " };
    format!("{origin}{space}line {line} column {column}")
}

/// The sentence of an error, without the value (which may be as long as the file) and the place.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if text.starts_with("unknown field ") {
        return "unknown field".to_owned();
    }
    let expected = match text.rsplit_once(", expected ") {
        Some((before, expected)) if before.starts_with("invalid ") => expected,
        _ => return text.to_owned(),
    };
    match expected {
        "u32" => format!("expected a whole number from 0 to {}", u32::MAX),
        "u64" => format!("expected a whole number from 0 to {}", u64::MAX),
        "i32" => format!("expected a whole number from {} to {}", i32::MIN, i32::MAX),
        "i64" => format!("expected a whole number from {} to {}", i64::MIN, i64::MAX),
        other => format!("expected {other}"),
    }
}

/// The value of a field, if it is one that fits on a line.
fn value_at(json: &[u8], field: &FieldPath) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(json).ok()?;
    let mut value = &document;
    for segment in field {
        value = match segment {
            Segment::Seq { index } => value.get(index)?,
            Segment::Map { key } => value.get(key)?,
            _ => return None,
        };
    }
    match value {
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
        serde_json::Value::String(text) => Some(quoted(text)),
        other => Some(other.to_string()),
    }
}

/// A value that must be an object: derived readers would take a list of the fields in order too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        reader.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Reads an object, or `null`.
pub(crate) fn object<'de, D, T>(reader: D) -> std::result::Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(reader)?.map(|Object(value)| value))
}

/// Lists as Go's encoder writes them: `null` when empty.
///
/// The seed refuses an empty list where it allows none (id maps without a user namespace), so an
/// empty list is written as `null` too.
pub(crate) mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn deserialize<'de, D, T>(reader: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        Ok(Option::deserialize(reader)?.unwrap_or_default())
    }

    pub(crate) fn serialize<S, T>(list: &[T], writer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: Serialize,
    {
        if list.is_empty() { writer.serialize_none() } else { list.serialize(writer) }
    }
}

/// Lists of objects, `null` when empty.
pub(crate) mod objects {
    use serde::{Deserialize, Deserializer};

    use super::Object;
    pub(crate) use super::list::serialize;

    pub(crate) fn deserialize<'de, D, T>(reader: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        let objects: Vec<Object<T>> = super::list::deserialize(reader)?;
        Ok(objects.into_iter().map(|Object(value)| value).collect())
    }
}

/// Maps of strings, `null` when empty like lists. A key that stands twice is refused.
pub(crate) mod map {
    use std::collections::BTreeMap;
    use std::fmt;

    use serde::de::{Deserializer, Error, MapAccess, Visitor};
    use serde::{Serialize, Serializer};

    type Strings = BTreeMap<String, String>;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<Strings, D::Error> {
        reader.deserialize_option(Map)
    }

    pub(crate) fn serialize<S: Serializer>(map: &Strings, writer: S) -> Result<S::Ok, S::Error> {
        if map.is_empty() { writer.serialize_none() } else { map.serialize(writer) }
    }

    struct Map;

    impl<'de> Visitor<'de> for Map {
        type Value = Strings;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_none<E: Error>(self) -> Result<Strings, E> {
            Ok(Strings::new())
        }

        fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Strings, D::Error> {
            reader.deserialize_map(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Strings, A::Error> {
            let mut map = Strings::new();
            while let Some((key, value)) = access.next_entry()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("duplicate key"));
                }
            }
            Ok(map)
        }
    }
}

/// A number or a string, where the seed has a number and we also read a name.
enum Scalar {
    Number(i128),
    Text(String),
}

/// Reads a number, or text that stands for one.
///
/// `expecting` completes the sentence "expected ..."; `number` and `text` answer `None` for what is
/// not one of theirs.
pub(super) fn number_or_text<'de, D, T>(
    reader: D,
    expecting: &str,
    number: impl Fn(i128) -> Option<T>,
    text: impl Fn(&str) -> Option<T>,
) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    match Scalar::deserialize(reader)? {
        Scalar::Number(value) => number(value),
        Scalar::Text(value) => text(&value),
    }
    .ok_or_else(|| de::Error::custom(format_args!("expected {expecting}")))
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        reader.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number or a string")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<Scalar, E> {
        Ok(Scalar::Number(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> std::result::Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn error(json: &str) -> String {
        let error = Config::from_json(json.as_bytes()).expect_err(json);
        assert_eq!(error.code(), Code::ConfigInvalid);
        error.to_string()
    }

    fn sample(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        for (json, text) in [
            (
                r#"{"mounts": [{}, {"flags": "nosuidd"}]}"#,
                "configuration `mounts[1].flags = \"nosuidd\"`: unknown mount option \
                 (line 1 column 35)",
            ),
            (
                "{\n \"mounts\": [{\"flags\": [\"ro\", \"nosuidd\"]}]}",
                "configuration `mounts[0].flags[1] = \"nosuidd\"`: unknown mount option \
                 (line 2 column 39)",
            ),
            (
                r#"{"devices": [{"type": "char"}]}"#,
                "configuration `devices[0].type = \"char\"`: expected a letter, or its number \
                 (line 1 column 29)",
            ),
            (
                r#"{"devices": [{}]}"#,
                "configuration `devices[0]`: missing field `type` (line 1 column 15)",
            ),
            (
                r#"{"uid_mappings": [{"container_id": -1}]}"#,
                "configuration `uid_mappings[0].container_id = -1`: expected a whole number from 0 \
                 to 4294967295 (line 1 column 37)",
            ),
            (
                r#"{"hostnam": "x"}"#,
                "configuration `hostnam = \"x\"`: unknown field (line 1 column 10)",
            ),
            (
                r#"{"cgroups": {"memory": "64x"}}"#,
                "configuration `cgroups.memory = \"64x\"`: expected a number of bytes, or one with \
                 k, m, g or t as in \"64m\" (line 1 column 29)",
            ),
            (
                r#"{"cgroups": {"allowed_devices": ["c 1:3"]}}"#,
                "configuration `cgroups.allowed_devices[0] = \"c 1:3\"`: expected a rule like \
                 \"c 1:3 rwm\" (line 1 column 40)",
            ),
            (
                r#"{"cgroups": {"allowed_devices": [{"type": 99, "mayor": 1}]}}"#,
                "configuration `cgroups.allowed_devices[0].mayor = 1`: unknown field \
                 (line 1 column 53)",
            ),
            (
                r#"{"namespaces": [{"type": "NEWBOOT"}]}"#,
                "configuration `namespaces[0].type = \"NEWBOOT\"`: unknown namespace \
                 (line 1 column 35)",
            ),
            (
                r#"{"capabilities": ["KILL", "CAP_NO"]}"#,
                "configuration `capabilities[1] = \"CAP_NO\"`: unknown capability \
                 (line 1 column 35)",
            ),
            (
                r#"{"rlimits": [{"type": "files"}]}"#,
                "configuration `rlimits[0].type = \"files\"`: expected the number or name of a \
                 resource limit (line 1 column 30)",
            ),
            (
                r#"{"seccomp": {"syscalls": [{"value": 1.5}]}}"#,
                "configuration `seccomp.syscalls[0].value = 1.5`: expected a whole number from 0 to \
                 4294967295 (line 1 column 39)",
            ),
            (
                r#"{"system_properties": {"net.x": 1}}"#,
                "configuration `system_properties.net.x = 1`: expected a string (line 1 column 33)",
            ),
            (r#"{"mounts": {}}"#, "configuration `mounts`: expected a sequence (line 1 column 11)"),
        ] {
            assert_eq!(error(json), text);
        }
    }

    #[test]
    fn what_is_no_json_is_named_with_its_place() {
        for (json, text) in [
            ("", "configuration `line 1 column 0`: empty"),
            (" \n", "configuration `line 1 column 0`: empty"),
            ("[]", "configuration `line 1 column 0`: expected an object"),
            ("[{}]", "configuration `line 1 column 0`: expected an object"),
            ("null", "configuration `line 1 column 4`: expected an object"),
            ("{", "configuration `line 1 column 1`: EOF while parsing an object"),
            ("{}x", "configuration `line 1 column 3`: trailing characters"),
            ("{\"hostname\" 1}", "configuration `line 1 column 13`: expected `:`"),
            ("\u{feff}{}", "configuration `line 1 column 1`: expected value"),
        ] {
            assert_eq!(error(json), text);
        }
        let text = Config::from_json(b"{\"hostname\": \"\xff\"}").unwrap_err().to_string();
        assert_eq!(text, "configuration `line 1 column 15`: invalid unicode code point");
    }

    #[test]
    fn fields_in_order_are_no_object() {
        for json in [
            r#"{"cgroups": ["x"]}"#,
            r#"{"rlimits": [[7, 1, 1]]}"#,
            r#"{"mounts": [["proc", "/proc"]]}"#,
            r#"{"seccomp": {"syscalls": [[1, 1]]}}"#,
        ] {
            assert!(error(json).contains("expected an object"), "{json}");
        }
    }

    #[test]
    fn a_key_stands_once() {
        for json in [
            r#"{"hostname": "a", "hostname": "b"}"#,
            r#"{"sysctl": {}, "system_properties": {}}"#,
            r#"{"sysctl": {"a": "1", "a": "2"}}"#,
            r#"{"cgroups": {"memory": 1, "memory": 2}}"#,
        ] {
            assert!(error(json).contains("duplicate"), "{json}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        for (open, close) in [("[", "]"), ("{\"mounts\":", "}")] {
            let deep = open.repeat(200_000) + &close.repeat(200_000);
            assert!(error(&deep).len() < 300);
            assert!(error(&format!("{{\"mounts\": {deep}}}")).len() < 300);
        }
        let long = "x".repeat(1 << 20);
        assert!(error(&format!("{{\"{long}\": 1}}")).len() < 300);
        assert!(error(&format!("{{\"rlimits\": [{{\"type\": \"{long}\"}}]}}")).len() < 300);
        assert!(error(&format!("{{\"mounts\": \"{long}\"}}")).len() < 300);

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("container.json");
        File::create(&file).unwrap().set_len(MAX_SIZE + 1).unwrap();
        let text = Config::from_file(&file).unwrap_err().to_string();
        assert!(text.ends_with("container.json`: larger than 16 MiB"), "{text}");
    }

    #[test]
    fn null_stands_for_empty() {
        let json = r#"{"mounts": null, "links": null, "devices": null, "namespaces": null,
            "capabilities": null, "networks": null, "routes": null, "cgroups": null,
            "rlimits": null, "additional_groups": null, "uid_mappings": null, "gid_mappings": null,
            "mask_paths": null, "readonly_paths": null, "system_properties": null,
            "seccomp": null}"#;
        assert_eq!(Config::from_json(json.as_bytes()).unwrap(), Config::default());
        let json = r#"{"mounts": [{"premount_cmds": null, "postmount_cmds": [{"path": "x",
            "args": null, "env": null}]}], "cgroups": {"allowed_devices": null,
            "denied_devices": null, "hugetlb_limit": null, "net_prio_ifpriomap": null},
            "seccomp": {"syscalls": null}}"#;
        Config::from_json(json.as_bytes()).unwrap();
    }

    #[test]
    fn the_root_is_the_files_directory_if_nothing_else_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        let file = real.join("container.json");
        for (rootfs, expected) in [
            ("", real.clone()),
            (".", real.clone()),
            ("rootfs", real.join("rootfs")),
            ("./a/../b/", real.join("b")),
            ("/srv/", PathBuf::from("/srv/")),
        ] {
            fs::write(&file, format!("{{\"rootfs\": \"{rootfs}\"}}")).unwrap();
            let config = Config::from_file(&file).unwrap();
            assert_eq!(config.rootfs.as_os_str(), expected.as_os_str(), "{rootfs}");
        }
        fs::write(&file, "{\"tmpfs_root\": true}").unwrap();
        assert_eq!(Config::from_file(&file).unwrap().rootfs, PathBuf::new());
        let error = Config::from_file(real.join("absent")).unwrap_err();
        assert_eq!(error.code(), Code::SystemError);
        fs::write(&file, "{\n").unwrap();
        let text = Config::from_file(&file).unwrap_err().to_string();
        assert!(text.contains("container.json line 2 column 0`"), "{text}");
    }

    #[test]
    fn the_samples_are_valid_and_come_back_as_they_were() {
        let mut seen = 0;
        for entry in fs::read_dir(sample("")).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                continue;
            }
            let config = Config::from_file(&file).unwrap();
            config.validate().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let json = serde_json::to_vec(&config).unwrap();
            assert_eq!(Config::from_json(&json).unwrap(), config);
            seen += 1;
        }
        assert_eq!(seen, 8);
    }

    #[test]
    fn friendly_spellings_mean_the_numbers() {
        let config = Config::from_file(sample("friendly.json")).unwrap();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["mounts"][0]["flags"], 14);
        assert_eq!(json["mounts"][1]["data"], "mode=755,size=64k");
        assert_eq!(json["devices"][0]["type"], 99);
        assert_eq!(json["rlimits"][0]["type"], 7);
        assert_eq!(json["namespaces"][1]["type"], "NEWPID");
        assert_eq!(json["capabilities"][0], "CHOWN");
        assert_eq!(json["cgroups"]["memory"], 64 << 20);
        assert_eq!(json["cgroups"]["allowed_devices"][0]["type"], 99);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Config::from_json(&bytes);
        }

        #[test]
        fn no_value_of_a_field_panics(field in 0usize..12, value in json_value()) {
            let field = ["mounts", "devices", "namespaces", "capabilities", "rlimits", "cgroups",
                "additional_groups", "system_properties", "seccomp", "rootfs", "networks",
                "uid_mappings"][field];
            let list = serde_json::json!({ field: [value.clone()] }).to_string();
            for json in [serde_json::json!({ field: value }).to_string(), list] {
                if let Ok(config) = Config::from_json(json.as_bytes()) {
                    let _ = config.validate();
                }
            }
        }
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let scalar = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        let key = prop_oneof![
            Just("type"),
            Just("flags"),
            Just("memory"),
            Just("syscalls"),
            Just("file_mode"),
            Just("allowed_devices"),
            Just("args"),
            Just("hard"),
            Just("soft"),
            Just("data"),
        ];
        scalar.prop_recursive(3, 32, 4, move |inner| {
            let entry = (key.clone().prop_map(str::to_owned), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Into::into),
                prop::collection::vec(entry, 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }
}
