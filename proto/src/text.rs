//! Strings, NUL-terminated on the wire as the kernel takes them, and borrowed from the message.
//!
//! The init has no allocator. It passes a path from the receive buffer to a system call without a
//! copy.

use core::ffi::CStr;
use core::fmt;

use bincode::enc::{Encode, Encoder};
use bincode::error::EncodeError;

use crate::read::{Read, Reader};

/// One string: any bytes but NUL, then one NUL. It has no encoding: a path is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Text<'a>(pub &'a CStr);

/// A list of strings, concatenated, each with its NUL.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Strings<'a>(&'a [u8]);

/// A list of 32-bit integers, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Returns the string with its NUL.
    #[must_use]
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }

    fn to_wire(self) -> &'a [u8] {
        self.0.to_bytes_with_nul()
    }

    fn from_wire(bytes: &'a [u8]) -> Option<Self> {
        // `from_bytes_until_nul` rather than `from_bytes_with_nul`: the init already contains it.
        let string = CStr::from_bytes_until_nul(bytes).ok()?;
        (string.count_bytes() + 1 == bytes.len()).then_some(Self(string))
    }
}

impl<'a> Strings<'a> {
    /// Wraps bytes that are empty or end in NUL. Returns `None` for other bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        matches!(bytes.last(), None | Some(0)).then_some(Self(bytes))
    }

    /// Returns the bytes of all strings, each with its NUL.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the number of strings.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.iter().filter(|&&b| b == 0).count()
    }

    /// Returns the strings in order.
    pub fn iter(self) -> impl Iterator<Item = &'a CStr> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let string = CStr::from_bytes_until_nul(rest).ok()?;
            rest = rest.get(string.count_bytes() + 1..)?;
            Some(string)
        })
    }
}

impl<'a> Words<'a> {
    /// Wraps bytes whose number is a multiple of four. Returns `None` for other bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(4).then_some(Self(bytes))
    }

    /// Returns the bytes of all integers, 4 each, little-endian.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Returns the number of integers.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.len() / 4
    }

    /// Returns the integers in order.
    pub fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.0.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

impl fmt::Debug for Strings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Implements encoding and decoding as a byte string. The three types differ in which bytes are
/// valid.
macro_rules! byte_string {
    ($name:ident, $bytes:expr, $from:expr, $expected:literal) => {
        impl Encode for $name<'_> {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                $bytes(*self).encode(encoder)
            }
        }

        impl<'a> Read<'a> for $name<'a> {
            #[inline(never)]
            fn read(reader: &mut Reader<'a>) -> Self {
                $from(reader.string()).unwrap_or_else(|| {
                    reader.refuse();
                    Self::default()
                })
            }
        }

        #[cfg(feature = "postcard")]
        impl serde::Serialize for $name<'_> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes($bytes(*self))
            }
        }

        #[cfg(feature = "postcard")]
        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let bytes = <&[u8]>::deserialize(d)?;
                $from(bytes).ok_or_else(|| serde::de::Error::custom($expected))
            }
        }
    };
}

byte_string!(Text, Text::to_wire, Text::from_wire, "one NUL, at the end");
byte_string!(Strings, Strings::as_bytes, Strings::new, "NUL at the end");
byte_string!(Words, Words::as_bytes, Words::new, "a multiple of four bytes");
