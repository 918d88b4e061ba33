//! The init of a container: an interpreter of operations that comes without libc and allocator.
//!
//! The host's library sends it a plan; see `pidone_proto` for the wire. The library part exists
//! so that tests reach it under `std`; the real thing is the freestanding image of `main.rs`.
#![no_std]
#![cfg_attr(
    not(all(feature = "standalone", feature = "supervise")),
    allow(dead_code, reason = "each image has a part of it")
)]

#[cfg(test)]
extern crate std;

mod channel;
mod child;
mod failure;
mod interpret;
mod ops;
#[cfg(test)]
mod peer;
mod root;
mod signal;
mod slots;
#[cfg(feature = "standalone")]
mod standalone;
#[cfg(feature = "supervise")]
mod supervise;
mod sys;
mod syscall;
mod times;

pub mod program;
pub mod strings;
