//! A part of a plan: what fits into one message.

use bincode::Encode;

use crate::read::{Read, Reader};

/// The head of a part of a plan; its operations follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
#[cfg_attr(feature = "postcard", derive(serde::Serialize, serde::Deserialize))]
pub struct Part {
    /// The number of the first operation of this part, counted from 1 over the plan.
    pub first: u32,
    /// How many operations follow.
    pub operations: u32,
    /// Whether another part comes behind this one.
    pub more: bool,
    /// Whether the init stamps each operation and reports the stamps: [`crate::Report::Times`].
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
