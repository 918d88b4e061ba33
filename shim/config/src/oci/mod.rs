//! The OCI runtime specification for Linux: bundles, the state of a container, and what this
//! runtime has of the specification.
//!
//! A bundle's `config.json` is read into the specification's own types and then made a
//! [`Config`](crate::Config) and a [`Process`](crate::Process), which everything else works on.
//!
//! As the specification wants it, properties that it does not have are ignored. One that it has
//! and that cannot be honoured is an error with its place and value. The only exceptions are those
//! of [`Bundle::warnings`].
//!
//! Reference: <https://github.com/opencontainers/runtime-spec/tree/v1.3.0>.

mod bundle;
pub mod default;
pub mod features;
pub mod linux;
mod mount;
mod process;
pub mod resources;
pub mod schedule;
mod spec;
mod state;

pub use bundle::Bundle;
pub use features::{Features, features};
pub use linux::Linux;
pub use mount::Mount;
pub use process::{Capabilities, ConsoleSize, Process, Rlimit, User};
pub use resources::Resources;
pub use spec::{Root, Spec, VERSION};
pub use state::{State, Status};

use crate::error::{Error, Result};
use crate::text::quoted;

/// Looks a word of the specification up.
fn find<T: Copy>(table: &[(&str, T)], word: &str, place: &str, reason: &'static str) -> Result<T> {
    let known = table.iter().find(|(known, _)| *known == word);
    known.map(|(_, value)| *value).ok_or_else(|| Error::config(place, quoted(word), reason))
}

/// The words of a table.
fn words<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(word, _)| *word).collect()
}

#[cfg(test)]
mod tests;
