//! What a test needs and the machine lacks.

use libtest_mimic::{Completion, Failed};

/// Whether nothing may be lacking: `PIDONE_REQUIRE_ALL=1`.
pub(crate) fn is_required() -> bool {
    std::env::var_os("PIDONE_REQUIRE_ALL").is_some_and(|all| all == "1")
}

/// What becomes of a test that cannot run: it is ignored and says why, or fails.
pub(crate) fn lacking(name: &str, missing: &str) -> Result<Completion, Failed> {
    if is_required() {
        return Err(format!("cannot run: {missing}").into());
    }
    eprintln!("{name}: ignored: {missing}");
    Ok(Completion::ignored_with(missing))
}
