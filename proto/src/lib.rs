//! The wire between the host and a container's init.
//!
//! The host compiles a container's configuration into a **plan**: a flat list of small
//! operations ([`Op`]), each about one action of the kernel. The init is their interpreter. It
//! answers with [`Report`]s. This crate knows both and nobody: no system call, no allocation, no
//! policy. `WIRE.md` beside it specifies every byte.
//!
//! # The channel
//! One `AF_UNIX` `SOCK_SEQPACKET` socket pair; the kernel keeps the borders of messages. Every
//! message is a [`Header`] and a body. A zero-length message is illegal, so that nothing can be
//! taken for end-of-file.
//!
//! # A start
//! 1. The host sends the plan in one or more [`Part`]s, each with the descriptors that its
//!    operations name by [`Slot`].
//! 2. The init runs the operations in their order. At a [`Op::Barrier`] it sends
//!    [`Report::Barrier`] and waits for [`FrameType::Proceed`].
//! 3. The last thing that it sends before `execve(2)` is [`Report::Executing`]. End-of-file
//!    behind it is success: the socket was closed by exec. A [`Report::Failed`] behind it, or
//!    anywhere, is failure. End-of-file without it means that the init died, and its pidfd says
//!    how.
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod codec;
pub mod frame;
pub mod limits;
mod op;
mod part;
pub mod read;
mod report;
mod request;
mod text;

#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Bincode, Codec, CodecError};
pub use frame::{FrameError, FrameType, Header};
pub use op::{Create, Op, Slot};
pub use part::Part;
pub use report::{Call, Report};
pub use request::Request;
pub use text::{Strings, Text, Words};
