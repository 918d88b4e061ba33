//! The wire between the host and a container's init.
//!
//! The host compiles a container's configuration into a **plan**: a flat list of small
//! operations ([`Op`]), each about one action of the kernel. The init is their interpreter. It
//! answers with [`Report`]s. This crate knows both and nobody: no system call, no allocation, no
//! policy. `WIRE.md` beside it specifies every byte; it is also the page [`specification`].
//!
//! The crate is all that a host needs to use the init: a static program of less than 32 KiB that
//! takes any container runtime's decisions, and makes none. The crate `pidone` brings that program
//! (`pidone::launch::image::EMBEDDED`) and a host for it, which need not be used.
//!
//! # The channel
//! One `AF_UNIX` `SOCK_SEQPACKET` socket pair; the kernel keeps the borders of messages. The init
//! is executed with one end at a descriptor above 2 and the argument `--control=N`. Every message
//! is a [`Header`] and a body. A zero-length message is illegal, so that nothing can be taken for
//! end-of-file.
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
//!
//! # An example
//! A plan as one message, ready for `sendmsg(2)`. With the feature `alloc` there is
//! [`Codec::append`] for vectors.
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
//! // The init reads it like this.
//! let (header, body) = Header::split(&message[..end], 0, Bincode::ID, 0).expect("it is whole");
//! assert_eq!(header.frame_type, FrameType::Part);
//! let (head, length) = Bincode::decode::<Part>(body)?;
//! let (op, _) = Bincode::decode::<Op<'_>>(&body[length..])?;
//! assert_eq!((head.operations, op), (2, plan[0]));
//! # Ok::<(), pidone_proto::CodecError>(())
//! ```
//!
//! A whole host in a hundred lines is `shim/tests/outside/wire.rs` of this crate's repository.
//!
//! # Features
//! - `alloc`: encoding into a vector, for hosts. The init has no allocator.
//! - `postcard`: a second codec, of the same messages, for images that speak it.
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
