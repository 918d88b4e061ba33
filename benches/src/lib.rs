//! How long a container takes to start, from the call to its program's first instruction.
//!
//! The machines that this runs on are noisy, so that ratios count, taken side by side in one run:
//! over the [`floor`], which makes exactly the system calls that a start needs. The program that
//! is started is the [`payload`], which writes down when it began.
//!
//! `cargo bench -p pidone-benches` measures single things; the program `compare` interleaves the
//! library, the floor and other runtimes, and prints what they took.

use std::error;

pub mod clock;
pub mod compiled;
pub mod contestant;
pub mod experiment;
pub mod figures;
pub mod floor;
pub mod host;
pub mod library;
pub mod memory;
pub mod part;
pub mod payload;
pub mod peer;
pub mod place;
pub mod profile;
pub mod reference;
pub mod scenario;
pub mod served;
pub mod syscalls;
pub mod used;
pub mod warm;
pub mod waterfall;

/// What failed, in words.
pub type Error = Box<dyn error::Error + Send + Sync>;

/// The result of what a bench does.
pub type Result<T> = std::result::Result<T, Error>;

/// How long one start took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it began: [`clock::now`].
    pub begin: u64,
    /// Nanoseconds to the payload's first instruction.
    pub first: u64,
    /// Nanoseconds until the process is reaped and the container removed.
    pub whole: u64,
}

impl Sample {
    /// A start from its beginning to the first instruction and to its end.
    fn of(begin: u64, first: u64, end: u64) -> Self {
        Self { begin, first: first.saturating_sub(begin), whole: end.saturating_sub(begin) }
    }
}

/// Something that starts the payload in a container again and again.
pub trait Starter: Send {
    /// Starts the payload, waits for its end and removes the container.
    ///
    /// # Errors
    /// The container did not start, or the payload did not tell when it began.
    fn start(&mut self) -> Result<Sample>;
}
