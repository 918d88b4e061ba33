//! The configuration of Linux containers, as data.
//!
//! - [`config`] has [`Config`], the configuration of a container in libcontainer's terms:
//!   `container.json`.
//! - [`oci`] reads bundles of the OCI runtime specification and lowers them to a [`Config`].
//! - [`process`] has [`Process`], a program to run in a container.
//! - [`seccomp`] has the types of seccomp profiles. The crate `pidone-host` compiles them.
//! - [`error`] has the [`Error`] of all crates of pidone.
//!
//! This crate holds no descriptors of the host, apart from those that a caller puts into a
//! [`Process`], and starts nothing. It reads configuration files and the paths that
//! [`Config::check_host`] and [`Config::embedded`] inspect.

pub mod config;
pub mod error;
pub mod oci;
pub mod process;
pub mod seccomp;
mod text;

pub use config::Config;
pub use error::{Code, Error, Result};
pub use process::{Ids, Process, Stdio, TerminalSize};
