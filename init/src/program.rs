//! The command line of the image.

use core::ffi::CStr;

#[cfg(feature = "standalone")]
use crate::standalone;
use crate::strings::Strings;
use crate::{interpret, sys};

/// What goes before the number of the control socket's descriptor.
const CONTROL: &[u8] = b"--control=";

/// The argument behind it of a host that wants to know when this program began.
const TIMED: &[u8] = b"--timed";

/// Runs the image with its arguments, the program's name first.
///
/// `--control=FD` alone, or with `--timed` behind it, runs the plan that comes through the socket
/// at that descriptor. All else is the command line of the init that stands alone, if it can.
#[cfg_attr(
    not(feature = "standalone"),
    allow(unused_variables, reason = "only a program that is run gets it")
)]
pub fn main(arguments: Strings, environment: Strings) -> ! {
    let first = { arguments }.nth(1).map(CStr::to_bytes);
    let control = first.and_then(|argument| argument.strip_prefix(CONTROL));
    #[cfg(feature = "standalone")]
    if control.is_none() {
        standalone::run(arguments, environment)
    }
    let timed = { arguments }.nth(2).is_some_and(|argument| argument.to_bytes() == TIMED);
    let begun = if timed { sys::now() } else { 0 };
    match control.and_then(number).filter(|&fd| fd > 2) {
        Some(fd) => interpret::run(sys::adopt(fd), begun),
        None => sys::exit(interpret::FAILED),
    }
}

/// A decimal number of digits alone.
#[inline(never)]
pub(crate) fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0_i32, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add_unsigned(digit)
    })
}

/// Ends the image for a broken invariant.
pub fn abort() -> ! {
    sys::exit(interpret::FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_alone() {
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
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
        // Not above stdio, and so refused.
        assert_eq!(number(b""), Some(0));
    }
}
