//! Sizes in bytes, as a number or as text with a unit.

use serde::Deserializer;

use super::json::number_or_text;

const EXPECTING: &str = "a number of bytes, or one with k, m, g or t as in \"64m\"";

/// Parses a size such as `65536`, `64m`, `64MB`, `64MiB` or `2g` and returns it in bytes.
///
/// The units are powers of 1024, as in docker's options. `-1`, `unlimited` and `max` are -1, which
/// means no limit. Returns `None` for any other text.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    if matches!(text, "-1" | "max" | "unlimited") {
        return Some(-1);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(1 << shift)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(reader: D) -> Result<i64, D::Error> {
    number_or_text(reader, EXPECTING, |number| i64::try_from(number).ok(), parse)
}

/// Reads a size that cannot be "no limit".
pub(super) fn deserialize_unsigned<'de, D: Deserializer<'de>>(reader: D) -> Result<u64, D::Error> {
    let text = |text: &str| parse(text).and_then(|size| u64::try_from(size).ok());
    number_or_text(reader, EXPECTING, |number| u64::try_from(number).ok(), text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("64k", Some(65536)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1t", Some(1 << 40)),
            ("-1", Some(-1)),
            ("unlimited", Some(-1)),
            ("", None),
            ("m", None),
            ("-2", None),
            ("+1", None),
            ("1.5g", None),
            ("64 m", None),
            ("1x", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("9223372036854775807k", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
