//! Starts Linux containers: a library in the vocabulary of libcontainer.

pub mod cgroup;
pub mod config;
mod container;
pub mod error;
mod factory;
mod journal;
mod label;
pub mod launch;
mod lock;
mod mount_command;
pub mod net;
mod pid;
pub mod plan;
mod privilege;
mod process;
pub mod seccomp;
mod start;
mod state;
mod stdio;
pub mod user;
mod wait;

pub use config::Config;
pub use container::{Container, Stats, Status};
pub use error::{Code, Error, Result};
pub use factory::{Factory, Options, Strategy};
pub use process::{Process, Running, Stdio, TerminalSize, Timing};
pub use state::State;
pub use wait::{Exit, Usage};
