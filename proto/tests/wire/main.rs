//! Tests of the wire in both codecs: the bytes of each message, what is refused, and that
//! `WIRE.md` and the vectors agree with the code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod frozen;
mod properties;
mod samples;
mod specification;
mod vector;
mod vectors;
