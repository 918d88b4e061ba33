//! The messages between a container runtime (the host) and the init of a container.
//!
//! The host compiles the configuration of a container into a **plan**: a flat list of small
//! operations ([`Op`]), each about one action of the kernel. The init runs them and sends
//! [`Report`]s. This crate defines the messages and their encoding. It makes no system call, does
//! not allocate (unless the feature `alloc` is on) and contains no policy. `WIRE.md` specifies
//! every byte; it is also the page [`specification`].
//!
//! A host needs only this crate to use the init: a static program of less than 32 KiB that carries
//! out the decisions of any container runtime and makes none. The crate `pidone` contains that
//! program (`pidone::launch::image::EMBEDDED`) and a host for it, which is optional.
//!
//! # The channel
//! One `AF_UNIX` `SOCK_SEQPACKET` socket pair: the kernel keeps the boundaries of messages. The
//! init is executed with one end at a descriptor above 2 and the argument `--control=N`. Every
//! message is a [`Header`] and a body. A message of no bytes is invalid, since a receiver could not
//! distinguish it from the end of the stream.
//!
//! # A start
//! 1. The host sends the plan in one or more [`Part`]s, each with the descriptors that its
//!    operations refer to by [`Slot`].
//! 2. The init runs the operations in order. At an [`Op::Barrier`] it sends [`Report::Barrier`] and
//!    waits for [`FrameType::Proceed`].
//! 3. The last report before `execve(2)` is [`Report::Executing`]. If the end of the stream
//!    follows, the start has succeeded: exec closed the socket. A [`Report::Failed`] at any time
//!    means that the start has failed. The end of the stream without [`Report::Executing`] means
//!    that the init died; its pidfd reports how.
//!
//! # An example
//! A plan as one message, ready for `sendmsg(2)`. With the feature `alloc`, `Codec::append` encodes
//! into a vector instead.
//!
//! ```
//! use pidone_proto::frame::HEADER_LENGTH;
//! use pidone_proto::{Bincode, Codec, FrameType, Header, Op, Part, Strings, Text};
//!
//! let plan = [
//!     Op::HostName { name: Text(c"box") },
//!     Op::Exec {
//!         candidates: Strings::new(b"/usr/bin/sh\0/bin/sh\0").expect("ends in NUL"),
//!         arguments: Strings::new(b"sh\0-c\0hostname\0").expect("ends in NUL"),
//!         environment: Strings::default(),
//!         preserved: 0,
//!         filter_flags: 0,
//!         filter: &[],
//!     },
//! ];
//! let mut message = [0; 512];
//! let head = Part { first: 1, operations: 2, more: false, timed: false };
//! let mut end = HEADER_LENGTH + Bincode::encode(&head, &mut message[HEADER_LENGTH..])?;
//! for op in &plan {
//!     end += Bincode::encode(op, &mut message[end..])?;
//! }
//! let header = Header {
//!     frame_type: FrameType::Part,
//!     codec: Bincode::ID,
//!     descriptors: 0,
//!     sequence: 0,
//!     length: (end - HEADER_LENGTH) as u32,
//! };
//! message[..HEADER_LENGTH].copy_from_slice(&header.to_bytes());
//!
//! // The init decodes it.
//! let (header, body) = Header::split(&message[..end], 0, Bincode::ID, 0).expect("is valid");
//! assert_eq!(header.frame_type, FrameType::Part);
//! let (head, length) = Bincode::decode::<Part>(body)?;
//! let (op, _) = Bincode::decode::<Op<'_>>(&body[length..])?;
//! assert_eq!((head.operations, op), (2, plan[0]));
//! # Ok::<(), pidone_proto::CodecError>(())
//! ```
//!
//! `shim/tests/outside/wire.rs` in this crate's repository is a complete host in a hundred lines.
//!
//! # Features
//! - `alloc`: encoding into a vector, for hosts. The init has no allocator.
//! - `postcard`: a second codec for the same messages, for images of the init that use it.
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

#[doc = include_str!("../WIRE.md")]
#[cfg(all(doc, not(doctest)))]
pub mod specification {}

#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Bincode, Codec, CodecError};
pub use frame::{FrameError, FrameType, Header};
pub use op::{Create, Op, Slot};
pub use part::Part;
pub use report::{Call, Report};
pub use request::Request;
pub use text::{Strings, Text, Words};
