//! The header of every message.

use crate::limits;

/// The first bytes of every message: `pid1`.
pub const MAGIC: [u8; 4] = *b"pid1";

/// The version of the wire. A frame of another version is refused.
pub const VERSION: u8 = 1;

/// The length of the header in bytes.
pub const HEADER_LENGTH: usize = 16;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameType {
    /// To the init: a part of a plan. The body is a [`Part`](crate::Part) and its operations.
    Part = 1,
    /// To the init: a part whose body is in a sealed memfd. The memfd is the first descriptor and
    /// takes no slot; the body of the message is empty.
    PartInMemfd = 2,
    /// To the init: continue after [`Op::Barrier`](crate::Op::Barrier) or
    /// [`Op::Fork`](crate::Op::Fork). The body is empty.
    Proceed = 3,
    /// To an init at [`Op::AwaitStart`](crate::Op::AwaitStart), as the first message of a new
    /// connection: continue. The body is empty.
    Start = 4,
    /// To an init at [`Op::Supervise`](crate::Op::Supervise). The body is a
    /// [`Request`](crate::Request).
    Request = 5,
    /// To an init at [`Op::Supervise`](crate::Op::Supervise): a request whose body is in a sealed
    /// memfd. The memfd is the first descriptor and takes no slot; the body of the message is
    /// empty.
    RequestInMemfd = 6,
    /// From the init. The body is a [`Report`](crate::Report).
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
/// | 7 | 1 | number of descriptors sent with the message |
/// | 8 | 4 | sequence number: counts the messages of the sender from 0 |
/// | 12 | 4 | length of the body in bytes |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The type of the message.
    pub frame_type: FrameType,
    /// The codec of the body: [`Codec::ID`](crate::Codec::ID).
    pub codec: u8,
    /// The number of descriptors sent with the message, at most [`limits::DESCRIPTORS`].
    pub descriptors: u8,
    /// The number of the message. Each sender counts from 0.
    pub sequence: u32,
    /// The length of the body in bytes.
    pub length: u32,
}

/// The reason why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The message is shorter than a header.
    Short,
    /// The message does not begin with [`MAGIC`].
    Magic,
    /// The version is not [`VERSION`] but this one.
    Version(u8),
    /// The codec is not the receiver's but this one.
    Codec(u8),
    /// The type is this unknown one.
    Type(u8),
    /// The length of the body is not the one in the header.
    Length,
    /// The number of descriptors is not the one in the header, or is above
    /// [`limits::DESCRIPTORS`].
    Descriptors,
    /// The sequence number is not the expected one but this one.
    Sequence(u32),
}

impl FrameError {
    /// Returns the code that [`Report::Failed`](crate::Report::Failed) has as its `detail`: 1 to 8.
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

    /// Returns a description for error messages.
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
    /// Encodes the header.
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

    /// Checks the header of a received message, and splits the message into header and body.
    ///
    /// `descriptors` is the number of descriptors that were received with the message, `codec` the
    /// receiver's codec, and `sequence` the expected sequence number. The caller has already
    /// refused a truncated message (`MSG_TRUNC` or `MSG_CTRUNC` of `recvmsg(2)`).
    ///
    /// # Errors
    /// The first check that fails, in the order of the table in `WIRE.md`: [`FrameError::Short`],
    /// `Magic`, `Version`, `Codec`, `Type`, `Descriptors`, `Sequence`, `Length`. The receiver must
    /// not use anything of the message then.
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
