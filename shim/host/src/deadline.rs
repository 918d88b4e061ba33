//! Points in time at which waiting ends.

use std::time::{Duration, Instant};

/// Longer than anything waits, and short enough that a clock can represent it.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Returns the time after a duration. One that the clock cannot represent counts as 100 years:
/// adding it would be a panic.
#[must_use]
pub fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_duration_is_a_time_in_the_future() {
        let now = Instant::now();
        assert!(after(Duration::MAX) > now + Duration::from_secs(3600));
        assert!(after(Duration::ZERO) >= now);
    }
}
