//! Decimal numbers of the command line.

/// Parses a number that consists of digits only; `None` if it does not fit.
#[inline(never)]
pub(crate) fn parse(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0_i32, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add_unsigned(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_a_number() {
        for (text, expected) in [
            ("3", Some(3)),
            ("0042", Some(42)),
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("99999999999999999999", None),
            ("-3", None),
            ("+3", None),
            ("3 ", None),
            ("0x3", None),
            ("3\n", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        // A descriptor below 3, and so refused by the caller.
        assert_eq!(parse(b""), Some(0));
    }
}
