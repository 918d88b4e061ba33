//! Where `pidone` differs from the distribution's runc on purpose.

/// Situations, and why the columns differ.
pub(crate) const DIFFERENCES: &[(&str, &str)] = &[];
