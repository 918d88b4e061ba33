//! Measures how long a container takes to start, from the call to its program's first instruction.
//!
//! On a noisy machine only ratios are meaningful, and only between starts that take turns in one
//! run. The reference is the [`floor`], which makes exactly the system calls that a start needs.
//! The program that is started is the [`payload`], which reports when it began.
//!
//! `cargo bench -p pidone-benches` measures single steps. The program `compare` interleaves the
//! library, the floor and other runtimes in any situation; `report` measures everything that has a
//! target. `README.md` describes the method and has the current figures.
//!
//! | modules | |
//! |---|---|
//! | [`place`], [`scenario`], [`payload`] | Where containers start, which ones, and the program in them |
//! | [`floor`], [`library`], [`warm`], [`served`], [`peer`] | The ways to start: bare system calls, the library, its pool, the pool's service, other programs |
//! | [`contestant`], [`experiment`] | What is compared, and running it in turns |
//! | [`profile`], [`waterfall`], [`part`] | Where the time of a start goes |
//! | [`memory`], [`used`] | Memory of a waiting container; processor time |
//! | [`compiled`], [`mod@reference`], [`syscalls`] | Plans and seccomp filters for single benches |
//! | [`host`], [`clock`], [`figures`] | The machine, the clock, arithmetic |

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

/// The error of all functions here: a message.
pub type Error = Box<dyn error::Error + Send + Sync>;

/// The result of all functions here.
pub type Result<T> = std::result::Result<T, Error>;

/// The times of one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the start began, by [`clock::now`].
    pub begin: u64,
    /// Nanoseconds from there to the payload's first instruction.
    pub first: u64,
    /// Nanoseconds from there until the process is reaped and the container removed.
    pub whole: u64,
}

impl Sample {
    /// Makes a sample from three clock readings.
    fn from_clock(begin: u64, first: u64, end: u64) -> Self {
        Self { begin, first: first.saturating_sub(begin), whole: end.saturating_sub(begin) }
    }
}

/// A prepared way to start the payload in a container repeatedly.
pub trait Starter: Send {
    /// Starts the payload, waits for its end, and removes the container.
    ///
    /// # Errors
    /// If the container did not start, or the payload did not report when it began.
    fn start(&mut self) -> Result<Sample>;
}
