//! Durations in the format of Go, as callers of runc pass them: `1h2m3.5s`, `500ms`.

use std::time::Duration;

/// Parses a duration. Zero is refused.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "must be a time above 0, as in 500ms, 5s or 1m30s";
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, tail) = tail.split_at(letters.unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(WRONG),
        };
        let number: f64 = number.parse().map_err(|_| WRONG)?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| WRONG)?;
        total = total.checked_add(part).ok_or(WRONG)?;
        rest = tail;
    }
    if total.is_zero() { Err(WRONG) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_in_go() {
        for (text, millis) in
            [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000), ("0.25s", 250)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "0s", "s", "-1s", "1d", "1.2.3s", "99999999999999999999h", "5sx", "1é"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
