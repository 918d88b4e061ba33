//! The init of a container: an interpreter of operations that comes without libc and allocator.
//!
//! The host's library sends it a plan; see `pidone_proto` for the wire. The library part exists
//! so that tests reach it under `std`; the real thing is the freestanding image of `main.rs`.
#![no_std]

#[cfg(test)]
extern crate std;

mod channel;
mod child;
#[cfg(feature = "supervise")]
mod children;
mod failure;
mod interpret;
mod ops;
#[cfg(test)]
mod peer;
mod root;
mod signal;
mod slots;
mod standalone;
#[cfg(feature = "supervise")]
mod supervise;
mod sys;
mod syscall;
mod times;

pub mod program;
pub mod strings;
