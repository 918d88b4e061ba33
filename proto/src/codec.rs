//! How messages become bytes: bincode, and behind a feature its successor postcard.
//!
//! Both write an enumeration as the number of its variant, fields in their order without names,
//! and byte strings behind their length; they differ in how they write an integer. What bincode
//! wrote is read by [`crate::read`].

use crate::read::{Read, Reader};

/// What can be sent.
#[cfg(not(feature = "postcard"))]
pub trait Encode: bincode::Encode {}
#[cfg(not(feature = "postcard"))]
impl<T: bincode::Encode> Encode for T {}

/// What can be sent.
#[cfg(feature = "postcard")]
pub trait Encode: bincode::Encode + serde::Serialize {}
#[cfg(feature = "postcard")]
impl<T: bincode::Encode + serde::Serialize> Encode for T {}

/// What can be received; strings are borrowed from the bytes.
#[cfg(not(feature = "postcard"))]
pub trait Decode<'a>: Read<'a> {}
#[cfg(not(feature = "postcard"))]
impl<'a, T: Read<'a>> Decode<'a> for T {}

/// What can be received; strings are borrowed from the bytes.
#[cfg(feature = "postcard")]
pub trait Decode<'a>: Read<'a> + serde::Deserialize<'a> {}
#[cfg(feature = "postcard")]
impl<'a, T: Read<'a> + serde::Deserialize<'a>> Decode<'a> for T {}

/// Bytes that are not a message, or a message that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes end inside the message, or are none.
    Malformed,
    /// The message is larger than the space for it.
    TooLarge,
}

/// A way to write messages as bytes.
pub trait Codec {
    /// The number of the codec in the header of a frame.
    const ID: u8;

    /// Writes a message into a buffer and tells its length.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] if the buffer is too small.
    fn encode<T: Encode>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError>;

    /// Appends a message to a vector.
    ///
    /// # Errors
    /// None in practice: a vector grows.
    #[cfg(feature = "alloc")]
    fn append<T: Encode>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError>;

    /// Reads one message from the front of `bytes` and tells how many bytes it took.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if the bytes are not one.
    fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError>;
}

/// bincode 2 in its standard configuration: little-endian, variable-length integers.
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

/// postcard 1.
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
