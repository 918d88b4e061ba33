//! Mount options as words.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::flags;

/// Options of file systems that are single words, for the file systems that containers commonly
/// mount: devpts, tmpfs, overlay and cgroup2, from the kernel's documentation. All other options of
/// file systems are `name=value`.
const WORDS: [&str; 14] = [
    "favordynmods",
    "grpquota",
    "inode32",
    "inode64",
    "memory_localevents",
    "memory_recursiveprot",
    "newinstance",
    "noswap",
    "nsdelegate",
    "quota",
    "userxattr",
    "usrquota",
    "volatile",
    "xattr",
];

/// Mount options, separated into flags and options of the file system.
///
/// In a file they are a number of `MS_*` bits, a list of words, or a comma-separated string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The `MS_*` flags that are set, including propagation and `MS_REC`.
    pub set: u64,
    /// The `MS_*` flags that were cleared by a word such as `rw` or `suid` and not set again. A
    /// bind must not inherit them from its source.
    pub cleared: u64,
    /// The options of the file system, in order.
    pub data: Vec<String>,
}

impl MountOptions {
    /// Adds an option. A word that is not a flag is passed to the file system, which may still
    /// refuse it.
    ///
    /// A later option overrides an earlier one, as in mount(8).
    pub fn add(&mut self, word: &str) {
        match flags::find(word) {
            Some((bits, true)) => {
                self.set |= bits;
                self.cleared &= !bits;
            }
            Some((bits, false)) => {
                self.set &= !bits;
                self.cleared |= bits;
            }
            None => self.data.push(word.to_owned()),
        }
    }

    /// Adds comma-separated options. Returns whether each of them is a known flag, a known word of
    /// a file system, or of the form `name=value`.
    fn add_known(&mut self, text: &str) -> bool {
        text.split(',').filter(|word| !word.is_empty()).all(|word| {
            self.add(word);
            flags::find(word).is_some() || word.contains('=') || WORDS.contains(&word)
        })
    }
}

/// The error for an unknown word in a file.
fn unknown<E: de::Error>() -> E {
    E::custom("unknown mount option")
}

impl<'de> Deserialize<'de> for MountOptions {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = MountOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a list of mount options or a string of them")
    }

    fn visit_u64<E: de::Error>(self, set: u64) -> Result<MountOptions, E> {
        Ok(MountOptions { set, ..MountOptions::default() })
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MountOptions, E> {
        let mut options = MountOptions::default();
        if options.add_known(text) { Ok(options) } else { Err(unknown()) }
    }

    fn visit_unit<E: de::Error>(self) -> Result<MountOptions, E> {
        Ok(MountOptions::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<MountOptions, A::Error> {
        let mut options = MountOptions::default();
        while words.next_element_seed(Word(&mut options))?.is_some() {}
        Ok(options)
    }
}

/// An element of a list. It is read together with the options that it is added to, so that an error
/// has its index.
struct Word<'a>(&'a mut MountOptions);

impl<'de> de::DeserializeSeed<'de> for Word<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let word = String::deserialize(reader)?;
        if self.0.add_known(&word) { Ok(()) } else { Err(unknown()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<MountOptions, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn number_list_and_string_mean_the_same() {
        let number = read("15").unwrap();
        let list = read(r#"["nosuid", "noexec", "nodev", "ro"]"#).unwrap();
        assert_eq!(number, list);
        assert_eq!(list, read(r#""nosuid,noexec,nodev,ro""#).unwrap());
        assert_eq!(read("null").unwrap(), MountOptions::default());
        assert_eq!(read("\"\"").unwrap(), MountOptions::default());
    }

    #[test]
    fn options_of_the_file_system_become_data() {
        let options = read(r#"["nosuid", "mode=755", "newinstance"]"#).unwrap();
        assert_eq!(options.set, flags::NOSUID);
        assert_eq!(options.data, ["mode=755", "newinstance"]);
    }

    #[test]
    fn later_options_override_earlier_ones() {
        let options = read(r#""ro,nosuid,rw,suid,nosuid""#).unwrap();
        assert_eq!((options.set, options.cleared), (flags::NOSUID, flags::RDONLY));
    }

    #[test]
    fn unknown_word_is_refused_when_read_and_data_when_added() {
        assert!(read(r#"["nosuidd"]"#).is_err());
        assert!(read(r#""ro,nosuidd""#).is_err());
        assert!(read("[[\"ro\"]]").is_err());
        assert!(read("-1").is_err());
        let mut options = MountOptions::default();
        options.add("nosuidd");
        assert_eq!(options.data, ["nosuidd"]);
    }
}
