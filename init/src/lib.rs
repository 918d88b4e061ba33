//! The init of a container as a static program in bytes: [`STANDALONE`] and [`SUPERVISOR`].
//!
//! A runtime writes the bytes to a sealed memory file or to disk, executes them in new namespaces
//! with the argument `--control=FD`, and sends a plan over the socket at that descriptor: a list of
//! operations of `pidone_proto`, which also documents the wire. The crate `pidone` does all this.
//! Run with any other arguments, [`STANDALONE`] is an init for one program, as `tini` is.
//!
//! The build script builds both images from the sources of this crate with a nested cargo. It needs
//! a C compiler to link with and no network. The environment variables `PIDONE_INIT` and
//! `PIDONE_SUPERVISOR` name prebuilt files to use instead, for a packager who builds them once.
//!
//! # The sources
//! The init is an interpreter of operations that needs neither libc nor an allocator. It is
//! compiled only with `--cfg init_image`, and for unit tests. Each module uses only those before
//! it:
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

/// The image that runs a plan, or one program from its command line: an ELF file, static, for the
/// target of the build.
#[cfg(not(init_image))]
pub const STANDALONE: &[u8] = include_bytes!(env!("PIDONE_INIT_IMAGE"));

/// The image that runs a plan, and can stay as process 1 and start further processes: the
/// operations `Supervise`, `Stdio` and `Descriptor`. It has no other command line.
#[cfg(not(init_image))]
pub const SUPERVISOR: &[u8] = include_bytes!(env!("PIDONE_SUPERVISOR_IMAGE"));

/// As [`SUPERVISOR`], with postcard in place of bincode on the wire.
#[cfg(all(feature = "postcard", not(init_image)))]
pub const POSTCARD_SUPERVISOR: &[u8] = include_bytes!(env!("PIDONE_POSTCARD_SUPERVISOR_IMAGE"));

#[cfg(any(init_image, test))]
mod channel;
#[cfg(any(init_image, test))]
mod decimal;
#[cfg(any(init_image, test))]
mod failure;
#[cfg(any(init_image, test))]
mod interpret;
#[cfg(any(init_image, test))]
mod kernel;
#[cfg(any(init_image, test))]
mod ops;
#[cfg(test)]
mod peer;
#[cfg(any(init_image, test))]
mod root;
#[cfg(any(init_image, test))]
mod slots;
#[cfg(all(any(init_image, test), feature = "standalone"))]
mod standalone;
#[cfg(any(init_image, test))]
mod state;
#[cfg(all(any(init_image, test), feature = "supervise"))]
mod supervise;
#[cfg(any(init_image, test))]
mod times;

#[cfg(any(init_image, test))]
pub mod program;
#[cfg(any(init_image, test))]
pub mod strings;
