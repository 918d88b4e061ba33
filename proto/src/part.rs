//! The parts of a plan, each sent in one message.

use bincode::Encode;

use crate::read::{Read, Reader};

/// The head of a part of a plan. The operations follow it in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
pub struct Part {
    /// The number of the first operation of this part. Operations are counted from 1 across all
    /// parts of the plan.
    pub first: u32,
    /// The number of operations in this part.
    pub operations: u32,
    /// Whether another part follows this one.
    pub more: bool,
    /// Whether the init measures when each operation is done, for
    /// [`Report::Times`](crate::Report::Times).
    pub timed: bool,
}

impl Read<'_> for Part {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            first: Read::read(reader),
            operations: Read::read(reader),
            more: Read::read(reader),
            timed: Read::read(reader),
        }
    }
}
