//! Times in the format of RFC 3339, in UTC.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Returns a time in whole seconds: `2024-02-29T12:34:56Z`.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, seconds) = (since / 86400, since % 86400);
    // Count years from March, so that the leap day is the last day. 400 years have 146097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, wraps) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + wraps;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(20);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    text
}

/// Returns a time with its fraction of a second, without trailing zeros: Go's `RFC3339Nano`.
pub(super) fn precise(time: SystemTime) -> String {
    let mut text = timestamp(time);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let fraction = format!(".{:09}", since.subsec_nanos());
    text.pop();
    text.push_str(fraction.trim_end_matches('0').trim_end_matches('.'));
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leap_days_and_ends_of_years_are_printed_by_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_fraction_is_printed_without_trailing_zeros() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:01Z"),
            (1, "1970-01-01T00:00:01.000000001Z"),
            (120_000_000, "1970-01-01T00:00:01.12Z"),
        ] {
            assert_eq!(precise(SystemTime::UNIX_EPOCH + Duration::new(1, nanos)), text);
        }
    }
}
