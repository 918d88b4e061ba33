//! How messages become bytes: bincode, and behind a feature its successor postcard.
//!
//! Both write an enumeration as the number of its variant, fields in their order without names,
//! and byte strings behind their length; they differ in how they write an integer.

use bincode::de::read::{BorrowReader, Reader};
use bincode::de::{Decoder, DecoderImpl};
use bincode::error::DecodeError;

/// What can be sent.
#[cfg(not(feature = "postcard"))]
pub trait Outgoing: bincode::Encode {}
#[cfg(not(feature = "postcard"))]
impl<T: bincode::Encode> Outgoing for T {}

/// What can be sent.
#[cfg(feature = "postcard")]
pub trait Outgoing: bincode::Encode + serde::Serialize {}
#[cfg(feature = "postcard")]
impl<T: bincode::Encode + serde::Serialize> Outgoing for T {}

/// What can be received; strings are borrowed from the bytes.
#[cfg(not(feature = "postcard"))]
pub trait Incoming<'a>: bincode::BorrowDecode<'a, ()> {}
#[cfg(not(feature = "postcard"))]
impl<'a, T: bincode::BorrowDecode<'a, ()>> Incoming<'a> for T {}

/// What can be received; strings are borrowed from the bytes.
#[cfg(feature = "postcard")]
pub trait Incoming<'a>: bincode::BorrowDecode<'a, ()> + serde::Deserialize<'a> {}
#[cfg(feature = "postcard")]
impl<'a, T: bincode::BorrowDecode<'a, ()> + serde::Deserialize<'a>> Incoming<'a> for T {}

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
    fn encode<T: Outgoing>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError>;

    /// Appends a message to a vector.
    ///
    /// # Errors
    /// None in practice: a vector grows.
    #[cfg(feature = "alloc")]
    fn append<T: Outgoing>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError>;

    /// Reads one message from the front of `bytes` and tells how many bytes it took.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if the bytes are not one.
    fn decode<'a, T: Incoming<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError>;
}

/// bincode 2 in its standard configuration: little-endian, variable-length integers.
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

impl Codec for Bincode {
    const ID: u8 = 1;

    fn encode<T: Outgoing>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError> {
        bincode::encode_into_slice(message, buffer, bincode::config::standard())
            .map_err(|_| CodecError::TooLarge)
    }

    #[cfg(feature = "alloc")]
    fn append<T: Outgoing>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError> {
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

    fn decode<'a, T: Incoming<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
        // The types ask for integers of their width, and the reader makes them of shorter ones.
        let width = bincode::config::standard().with_fixed_int_encoding();
        let reader = Varints { rest: bytes, malformed: false };
        let mut decoder = DecoderImpl::new(reader, width, ());
        let message = T::borrow_decode(&mut decoder);
        let Varints { rest, malformed } = *decoder.reader();
        match message {
            Ok(message) if !malformed => Ok((message, bytes.len() - rest.len())),
            _ => Err(CodecError::Malformed),
        }
    }
}

/// Reads bincode's integers of variable length, and the bytes behind them.
///
/// It does the same as bincode's own reading in a third of the code: what is missing or wrong is
/// read as zero and remembered, so that nothing branches behind each of some hundred fields.
#[derive(Clone, Copy)]
struct Varints<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Varints<'a> {
    /// The next `length` bytes.
    #[inline(never)]
    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
            self.malformed = true;
            return &[];
        };
        self.rest = rest;
        bytes
    }

    /// The next integer, of at most `width` bytes.
    #[inline(never)]
    fn integer(&mut self, width: usize) -> u64 {
        let Some((&mark, rest)) = self.rest.split_first() else {
            self.malformed = true;
            return 0;
        };
        self.rest = rest;
        if mark <= 250 {
            return mark.into();
        }
        // 251 is followed by two bytes, 252 by four, 253 by eight.
        let length = 2_usize << (mark - 251);
        if length > width {
            self.malformed = true;
            return 0;
        }
        self.bytes(length).iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
}

impl Reader for Varints<'_> {
    #[inline(always)]
    fn read(&mut self, integer: &mut [u8]) -> Result<(), DecodeError> {
        let width = integer.len();
        let value = match width {
            1 => self.bytes(1).first().copied().unwrap_or(0).into(),
            _ => self.integer(width),
        };
        integer.copy_from_slice(value.to_le_bytes().get(..width).unwrap_or_default());
        Ok(())
    }
}

impl<'a> BorrowReader<'a> for Varints<'a> {
    #[inline(always)]
    fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        Ok(self.bytes(length))
    }
}

/// postcard 1.
#[cfg(feature = "postcard")]
#[derive(Debug, Clone, Copy)]
pub struct Postcard;

#[cfg(feature = "postcard")]
impl Codec for Postcard {
    const ID: u8 = 2;

    fn encode<T: Outgoing>(message: &T, buffer: &mut [u8]) -> Result<usize, CodecError> {
        postcard::to_slice(message, buffer)
            .map(|written| written.len())
            .map_err(|_| CodecError::TooLarge)
    }

    #[cfg(feature = "alloc")]
    fn append<T: Outgoing>(message: &T, bytes: &mut alloc::vec::Vec<u8>) -> Result<(), CodecError> {
        let taken = core::mem::take(bytes);
        *bytes = postcard::to_extend(message, taken).map_err(|_| CodecError::TooLarge)?;
        Ok(())
    }

    fn decode<'a, T: Incoming<'a>>(bytes: &'a [u8]) -> Result<(T, usize), CodecError> {
        let (message, rest) =
            postcard::take_from_bytes(bytes).map_err(|_| CodecError::Malformed)?;
        Ok((message, bytes.len() - rest.len()))
    }
}
