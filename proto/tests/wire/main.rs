//! The wire, in both codecs: what it looks like, what is refused, and what is written about it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod frozen;
mod properties;
mod samples;
mod specification;
mod vector;
mod vectors;
