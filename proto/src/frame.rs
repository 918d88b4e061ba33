//! The header in front of every message.

use crate::limits;

/// The first bytes of every message.
pub const MAGIC: [u8; 4] = *b"pid1";

/// The version of the wire. A frame with another one is refused.
pub const VERSION: u8 = 1;

/// The length of the header in bytes.
pub const HEADER_LENGTH: usize = 16;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// To the init: a part of a plan; the body is a [`crate::Part`] and its operations.
    Part = 1,
    /// To the init: a part whose body is in a sealed memfd, the first descriptor, which takes no
    /// slot; the message's own body is empty.
    PartInMemfd = 2,
    /// To the init: go on behind a [`crate::Op::Barrier`] or [`crate::Op::Fork`]; the body is
    /// empty.
    Proceed = 3,
    /// To the init at [`crate::Op::AwaitStart`], first on a new connection: go on; the body is
    /// empty.
    Start = 4,
    /// To the init at [`crate::Op::Supervise`]: the body is a [`crate::Request`].
    Request = 5,
    /// To the init at [`crate::Op::Supervise`]: a request whose body is in a sealed memfd, the first
    /// descriptor, which takes no slot; the message's own body is empty.
    RequestInMemfd = 6,
    /// From the init: the body is a [`crate::Report`].
    Report = 0x81,
}

impl FrameType {
    fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Part),
            2 => Some(Self::PartInMemfd),
            3 => Some(Self::Proceed),
            4 => Some(Self::Start),
            5 => Some(Self::Request),
            6 => Some(Self::RequestInMemfd),
            0x81 => Some(Self::Report),
            _ => None,
        }
    }
}

/// The header of a message, 16 bytes, integers little-endian.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 4 | magic `pid1` |
/// | 4 | 1 | version |
/// | 5 | 1 | codec: 1 bincode, 2 postcard |
/// | 6 | 1 | type |
/// | 7 | 1 | number of descriptors that come along |
/// | 8 | 4 | sequence: counts the messages of the sender from 0 |
/// | 12 | 4 | length of the body |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub frame_type: FrameType,
    /// The codec of the body.
    pub codec: u8,
    /// How many descriptors come along.
    pub descriptors: u8,
    /// The number of the message, from 0 up for each sender.
    pub sequence: u32,
    /// The length of the body in bytes.
    pub length: u32,
}

/// A message that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than a header.
    Short,
    /// Does not begin with [`MAGIC`].
    Magic,
    /// Another version of the wire.
    Version(u8),
    /// Another codec than the receiver's.
    Codec(u8),
    /// An unknown type.
    Type(u8),
    /// The body is not as long as the header says.
    Length,
    /// Not as many descriptors as the header says, or more than [`limits::DESCRIPTORS`].
    Descriptors,
    /// Not the number that follows the sender's last one.
    Sequence(u32),
}

impl FrameError {
    /// A number for reports, from 1 up.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Short => 1,
            Self::Magic => 2,
            Self::Version(_) => 3,
            Self::Codec(_) => 4,
            Self::Type(_) => 5,
            Self::Length => 6,
            Self::Descriptors => 7,
            Self::Sequence(_) => 8,
        }
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Short => "message shorter than its header",
            Self::Magic => "message with a wrong magic number",
            Self::Version(_) => "message of another protocol version",
            Self::Codec(_) => "message in another codec",
            Self::Type(_) => "message of an unknown type",
            Self::Length => "message with a wrong length",
            Self::Descriptors => "message with a wrong number of descriptors",
            Self::Sequence(_) => "message out of sequence",
        }
    }
}

impl Header {
    /// Writes the header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.codec;
        bytes[6] = self.frame_type as u8;
        bytes[7] = self.descriptors;
        bytes[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Splits a message that came whole, with `descriptors` descriptors, into header and body.
    ///
    /// `codec` is the receiver's, `sequence` the number that it expects.
    ///
    /// # Errors
    /// One of [`FrameError`]; nothing of the message may be used then.
    pub fn split(
        message: &[u8],
        descriptors: usize,
        codec: u8,
        sequence: u32,
    ) -> Result<(Self, &[u8]), FrameError> {
        let (header, body) =
            message.split_first_chunk::<HEADER_LENGTH>().ok_or(FrameError::Short)?;
        let [m0, m1, m2, m3, version, its_codec, frame_type, count, tail @ ..] = *header;
        let [s0, s1, s2, s3, l0, l1, l2, l3] = tail;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic);
        }
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if its_codec != codec {
            return Err(FrameError::Codec(its_codec));
        }
        let frame_type = FrameType::from_wire(frame_type).ok_or(FrameError::Type(frame_type))?;
        if usize::from(count) != descriptors || descriptors > limits::DESCRIPTORS {
            return Err(FrameError::Descriptors);
        }
        let its_sequence = u32::from_le_bytes([s0, s1, s2, s3]);
        if its_sequence != sequence {
            return Err(FrameError::Sequence(its_sequence));
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if u32::try_from(body.len()) != Ok(length) {
            return Err(FrameError::Length);
        }
        let header = Self {
            frame_type,
            codec: its_codec,
            descriptors: count,
            sequence: its_sequence,
            length,
        };
        Ok((header, body))
    }
}
