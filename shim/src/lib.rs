//! Starts Linux containers: a library in the vocabulary of libcontainer.
//!
//! A [`Factory`] makes a [`Container`] from a [`Config`]; the container starts a [`Process`], which
//! is then [`Running`]. Behind it, [`plan`] compiles the configuration into operations and
//! [`launch`] has the init interpret them in new namespaces.

mod caller;
pub mod cgroup;
mod child;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod compile;
pub mod config;
mod container;
pub mod error;
mod factory;
mod hook;
mod hooks;
mod journal;
mod label;
pub mod launch;
mod lock;
mod mount_command;
pub mod net;
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the programs pass readiness on"))]
mod notify;
pub mod oci;
mod pid;
pub mod plan;
mod privilege;
mod process;
mod program;
mod resolve;
pub mod seccomp;
mod start;
mod state;
mod stdio;
mod unix_socket;
pub mod user;
mod user_namespace;
mod wait;
mod waiting;

pub use config::Config;
pub use container::{Container, Stats, Status};
pub use error::{Code, Error, Result};
pub use factory::{Factory, Options, Strategy};
pub use process::{Ids, Process, Running, Stdio, TerminalSize, Timing};
pub use state::State;
pub use wait::{Exit, Usage};

/// The README's example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
