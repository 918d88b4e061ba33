//! The init of a container: an interpreter of operations that needs neither libc nor an allocator.
//!
//! The host's library sends it a plan; see `pidone_proto` for the wire. The real program is the
//! freestanding image of `main.rs`. This is a library so that tests reach it under `std`.
//!
//! The modules, each of which uses only those before it:
//! - `kernel`: system calls that rustix does not offer as needed here;
//! - `slots`, `channel`, `root`, `times` and `state`: what an interpreter has;
//! - `ops`: what each operation does;
//! - `interpret`: receives a plan and runs its operations;
//! - `supervise`: process 1 that stays and starts processes for its clients;
//! - `standalone`: the init that runs one program, without a plan;
//! - `program`: the command line, which selects one of them.
#![no_std]
#![cfg_attr(
    not(all(feature = "standalone", feature = "supervise")),
    allow(dead_code, reason = "each image has only a part of it")
)]

#[cfg(test)]
extern crate std;

mod channel;
mod decimal;
mod failure;
mod interpret;
mod kernel;
mod ops;
#[cfg(test)]
mod peer;
mod root;
mod slots;
#[cfg(feature = "standalone")]
mod standalone;
mod state;
#[cfg(feature = "supervise")]
mod supervise;
mod times;

pub mod program;
pub mod strings;
