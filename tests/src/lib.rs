//! TBD
/// Guest.
pub const GUEST: &str = env!("PIDONE_GUEST");
