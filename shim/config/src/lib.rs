//! Configurations of Linux containers, as data: what is asked for, and whether it makes sense.
//!
//! - [`config`] has [`Config`], a container in libcontainer's terms: `container.json`.
//! - [`oci`] reads bundles of the OCI runtime specification and lowers them to a [`Config`].
//! - [`process`] has [`Process`], a program to run in a container.
//! - [`seccomp`] has profiles of system calls, which are compiled elsewhere.
//! - [`error`] has the [`Error`] of all crates of pidone.
//!
//! This crate holds no descriptor of the host and starts nothing. It reads configuration files, and
//! the paths that [`Config::check_host`] and [`Config::embedded`] look at.

pub mod config;
pub mod error;
pub mod oci;
pub mod process;
pub mod seccomp;
mod text;

pub use config::Config;
pub use error::{Code, Error, Result};
pub use process::{Ids, Process, Stdio, TerminalSize};
