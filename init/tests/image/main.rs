//! The image of the init as it is embedded: what kind of file it is, and what it reports over its
//! socket to hosts that do and do not keep to `proto/WIRE.md`.
//!
//! No test needs privileges: the plans hold nothing but what any process may do to itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod elf;
mod exec;
mod host;
mod refuse;
