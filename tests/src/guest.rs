//! The guest program.

/// The path of the program that reports from inside; see its own documentation for its commands.
pub const GUEST: &str = env!("PIDONE_GUEST");
