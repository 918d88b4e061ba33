//! Starts Linux containers: a library in the vocabulary of libcontainer.

pub mod cgroup;
pub mod config;
pub mod error;
pub mod net;
pub mod seccomp;

pub use error::{Code, Error, Result};
