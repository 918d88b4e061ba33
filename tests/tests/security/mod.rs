//! What a hostile image or payload must not reach.
//!
//! The oracle is the host: a tree of files with known inodes, contents and times, mounts, and what
//! a process really has. Each bait is proven by a control: a runtime that goes by paths, or a
//! process without the protection, must fall for it, else it would prove nothing here.

mod descriptor;
mod image;
mod kernel;
mod link;
mod naive;
mod no_pivot;
mod race;
mod supervise;

use std::process::ExitCode;

use pidone_tests::Case;

/// The cases of all files.
pub(crate) const CASES: &[&[Case]] = &[
    descriptor::CASES,
    image::CASES,
    kernel::CASES,
    link::CASES,
    no_pivot::CASES,
    race::CASES,
    supervise::CASES,
];

/// Plays the role of a naive runtime, if this process was started for it.
pub(crate) fn play() -> Option<ExitCode> {
    naive::play()
}
