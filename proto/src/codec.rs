//! The encoding of messages: bincode, and with the feature `postcard` also postcard.
//!
//! Both write an enumeration as the number of its variant, fields in order and without names, and
//! byte strings with their length first. They differ in how they write an integer. `WIRE.md`
//! specifies both. [`crate::read`] decodes bincode.

use crate::read::{Read, Reader};

/// A message that can be encoded by every [`Codec`].
#[cfg(not(feature = "postcard"))]
pub trait Encode: bincode::Encode {}
#[cfg(not(feature = "postcard"))]
impl<T: bincode::Encode> Encode for T {}

/// A message that can be encoded by every [`Codec`].
#[cfg(feature = "postcard")]
pub trait Encode: bincode::Encode + serde::Serialize {}
#[cfg(feature = "postcard")]
impl<T: bincode::Encode + serde::Serialize> Encode for T {}

/// A message that can be decoded by every [`Codec`]. Strings are borrowed from the bytes.
#[cfg(not(feature = "postcard"))]
pub trait Decode<'a>: Read<'a> {}
#[cfg(not(feature = "postcard"))]
impl<'a, T: Read<'a>> Decode<'a> for T {}

/// A message that can be decoded by every [`Codec`]. Strings are borrowed from the bytes.
#[cfg(feature = "postcard")]
pub trait Decode<'a>: Read<'a> + serde::Deserialize<'a> {}
#[cfg(feature = "postcard")]
impl<'a, T: Read<'a> + serde::Deserialize<'a>> Decode<'a> for T {}

/// An error of encoding or decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    /// Decoding: the bytes do not begin with a message of the expected type. They end too early, a
    /// number is unknown or too large, or a string breaks the rule of its type.
    Malformed,
    /// Encoding: the message is longer than the buffer.
    TooLarge,
}

/// An encoding of messages.
pub trait Codec {
    /// The number of the codec in the header of a frame: [`Header::codec`](crate::Header::codec).
    const ID: u8;

    /// Encodes a message into the front of a buffer. Returns its length in bytes.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] if the buffer is too small.
    fn encode<T: Encode>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError>;

    /// Appends the encoding of a message to a vector.
    ///
    /// # Errors
    /// None for the messages of this crate. [`CodecError::TooLarge`] stands for any error of the
    /// encoder.
    #[cfg(feature = "alloc")]
    fn append<T: Encode>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError>;

    /// Decodes one message from the front of `bytes`. Returns it and its length in bytes.
    ///
    /// Bytes after the message are ignored. Where none are allowed, the caller has to check.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if `bytes` does not begin with a message of this type.
    fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError>;
}

/// bincode 2 in its standard configuration: little-endian, variable-length integers. Codec 1.
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

impl Codec for Bincode {
    const ID: u8 = 1;

    fn encode<T: Encode>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError> {
        bincode::encode_into_slice(message, buffer, bincode::config::standard())
            .map_err(|_| CodecError::TooLarge)
    }

    #[cfg(feature = "alloc")]
    fn append<T: Encode>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError> {
        struct Tail<'a>(&'a mut alloc::vec::Vec<u8>);

        impl bincode::enc::write::Writer for Tail<'_> {
            fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
                self.0.extend_from_slice(bytes);
                Ok(())
            }
        }

        bincode::encode_into_writer(message, Tail(bytes), bincode::config::standard())
            .map_err(|_| CodecError::TooLarge)
    }

    fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
        let mut reader = Reader::new(bytes);
        let message = T::read(&mut reader);
        match reader.left() {
            Some(left) => Ok((message, bytes.len() - left)),
            None => Err(CodecError::Malformed),
        }
    }
}

/// postcard 1: integers as LEB128. Codec 2.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl Codec for Postcard {
    const ID: u8 = 2;

    fn encode<T: Encode>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError> {
        postcard::to_slice(message, buffer)
            .map(|written| written.len())
            .map_err(|_| CodecError::TooLarge)
    }

    #[cfg(feature = "alloc")]
    fn append<T: Encode>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError> {
        let taken = core::mem::take(bytes);
        *bytes = postcard::to_extend(message, taken).map_err(|_| CodecError::TooLarge)?;
        Ok(())
    }

    fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
        let (message, rest) =
            postcard::take_from_bytes(bytes).map_err(|_| CodecError::Malformed)?;
        Ok((message, bytes.len() - rest.len()))
    }
}
