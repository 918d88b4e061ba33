//! The reader of `container.json`.
//!
//! It reads libcontainer's files unchanged: numbers for flags and types, `null` for empty lists.
//! The types of the fields document what else is accepted, such as names in place of numbers.

mod null;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_path_to_error::{Path as FieldPath, Segment};

use super::fault::each;
use super::{Config, Mount, path};
use crate::error::{Code, Error, Result};
use crate::text::{excerpt, quoted};

/// The size limit of a configuration file, in bytes.
pub const MAX_SIZE: u64 = 16 << 20;

impl Config {
    /// Reads a configuration from the text of a `container.json`.
    ///
    /// It does not validate the result: see [`Config::validate`].
    ///
    /// ```
    /// use pidone_config::Config;
    /// use pidone_config::config::Rlimit;
    ///
    /// let config = Config::from_json(
    ///     br#"{
    ///         "rootfs": "/srv/busybox",
    ///         "mounts": [{"device": "proc", "source": "proc", "destination": "/proc",
    ///                     "flags": ["nosuid", "noexec", "nodev"]}],
    ///         "namespaces": [{"type": "NEWNS"}, {"type": "pid"}],
    ///         "rlimits": [{"type": "nofile", "soft": 1024, "hard": 1024}],
    ///         "cgroups": {"name": "busybox", "parent": "nsinit", "memory": "64m"}
    ///     }"#,
    /// )?;
    /// config.validate()?;
    /// assert_eq!(config.mounts[0].flags, 14);
    /// assert_eq!(config.rlimits[0].name().as_deref(), Some("RLIMIT_NOFILE"));
    /// # Ok::<(), pidone_config::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Code::ConfigInvalid`], with the line and column. If a value is wrong, also with the path
    /// of the field and the value.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::parse(json, "")
    }

    fn parse(json: &[u8], origin: &str) -> Result<Self> {
        let config: Self = parse(json, origin)?;
        each("mounts", &config.mounts, Mount::check_known)?;
        Ok(config)
    }

    /// Reads a configuration from a file of at most [`MAX_SIZE`].
    ///
    /// A relative `rootfs` is resolved against the directory of the file. If it is missing, it is
    /// that directory, unless the root is a tmpfs.
    ///
    /// ```no_run
    /// use pidone_config::Config;
    ///
    /// let config = Config::from_file("/srv/busybox/container.json")?;
    /// config.validate()?;
    /// config.check_host()?;
    /// # Ok::<(), pidone_config::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Config::from_json`]; [`Code::SystemError`] if the file cannot be read.
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

/// The initial capacity for reading a file, in bytes, which most files fit into. Without it,
/// reading starts with small pieces.
const USUAL_SIZE: usize = 32 * 1024;

/// Reads a whole file of at most [`MAX_SIZE`].
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

/// Reads a JSON document in which `null` is the same as an absent member, as for runc.
pub(crate) fn parse_with_nulls<T: DeserializeOwned>(json: &[u8], origin: &str) -> Result<T> {
    // Most documents have no `null`, or only where it is expected.
    if let Ok(Object(value)) = serde_json::from_slice(json) {
        return Ok(value);
    }
    parse(null::without_nulls(json).as_deref().unwrap_or(json), origin)
}

/// Reads a JSON document. `origin` is the name of the file, or empty.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8], origin: &str) -> Result<T> {
    if json.trim_ascii().is_empty() {
        return Err(Error::config(place(origin, 1, 0), "", "empty"));
    }
    // Tracking the path of the current field takes most of the time, and most documents have no
    // error. So the path is tracked only in a second pass.
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

/// Returns the message of an error without the value, which may be as long as the file, and without
/// the position.
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

/// Returns the value of a field as text, unless it is a list or an object.
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

/// A value that must be a JSON object. Derived readers would also accept a list of the fields in
/// order.
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
/// libcontainer refuses an empty list where none is allowed (id maps without a user namespace), so
/// empty lists are also written as `null`.
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

/// Maps of strings, `null` when empty like lists. A duplicate key is refused.
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

/// A number or a string, for fields that are numbers in libcontainer's files and may also be names
/// here.
enum Scalar {
    Number(i128),
    Text(String),
}

/// Reads a number, or a string that stands for one.
///
/// `expecting` completes the sentence "expected ...". `number` and `text` return `None` for a value
/// that is not accepted.
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
mod tests;
