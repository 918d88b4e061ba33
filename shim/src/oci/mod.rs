//! The OCI runtime specification for Linux: bundles, the state of a container, and what this
//! runtime has of the specification.
//!
//! A bundle's `config.json` is read into the specification's own types and then made a
//! [`Config`](crate::Config) and a [`Process`](crate::Process), which everything else works on.
//!
//! Reference: <https://github.com/opencontainers/runtime-spec/tree/v1.3.0>.

/// The version of the specification that this follows.
pub const VERSION: &str = "1.3.0";
