//! Messages on standard error, one call for each line.

use rustix::io::Errno;

use crate::kernel::descriptor::stdio;
use crate::kernel::signal;

/// The level of a message: the lowest verbosity at which it is written.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Fatal = 0,
    Warn = 1,
    Info = 2,
    Debug = 3,
}

/// The names of the levels, padded to the same length.
const NAMES: &[u8] = b"FATALWARN INFO DEBUG";

/// The longest line. A longer one is cut off.
const LENGTH: usize = 512;

/// Writes `[LEVEL pidone-init (PID)]`, the text and the value.
#[inline(never)]
pub(super) fn say(level: Level, text: &[u8], value: &[u8]) {
    let start = level as usize * 5;
    let mut line = Line { bytes: [0; LENGTH], length: 0 };
    let mut decimal = [0; DIGITS];
    let pid = rustix::process::getpid().as_raw_pid();
    for part in [
        b"[",
        NAMES.get(start..start + 5).unwrap_or_default(),
        b" pidone-init (",
        digits(pid, &mut decimal),
        b")] ",
        text,
        value,
    ] {
        line.push(part);
    }
    print(2, line.end());
}

/// Writes a message that ends with a number, which is not negative.
#[inline(never)]
pub(super) fn note(level: Level, text: &[u8], number: i32) {
    say(level, text, digits(number, &mut [0; DIGITS]));
}

/// Writes to a descriptor of stdio.
#[inline(never)]
pub(super) fn print(descriptor: u8, text: &[u8]) {
    if let Some(output) = stdio(descriptor) {
        // If it is closed, nothing can be reported.
        if rustix::io::write(output, text) == Err(Errno::PIPE) {
            signal::discard_pipe();
        }
    }
}

struct Line {
    bytes: [u8; LENGTH],
    length: usize,
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        for &byte in text {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length = self.length.wrapping_add(1);
            }
        }
    }

    /// Ends the line and returns it.
    fn end(&mut self) -> &[u8] {
        let last = self.length.min(LENGTH - 1);
        if let Some(place) = self.bytes.get_mut(last) {
            *place = b'\n';
        }
        self.bytes.get(..=last).unwrap_or_default()
    }
}

/// The number of digits of the greatest number.
const DIGITS: usize = 10;

/// Writes a number that is not negative in decimal, at the end of the bytes.
#[inline(never)]
fn digits(number: i32, bytes: &mut [u8; DIGITS]) -> &[u8] {
    let mut left = number.unsigned_abs();
    let mut start = DIGITS;
    for place in bytes.iter_mut().rev() {
        let [digit, ..] = (left % 10).to_le_bytes();
        *place = b'0' + digit;
        start -= 1;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    bytes.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for (number, expected) in
            [(0, "0"), (7, "7"), (10, "10"), (4_194_304, "4194304"), (i32::MAX, "2147483647")]
        {
            assert_eq!(digits(number, &mut [0; DIGITS]), expected.as_bytes());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_off() {
        let mut line = Line { bytes: [0; LENGTH], length: 0 };
        line.push(b"short");
        assert_eq!(line.end(), b"short\n");
        for _ in 0..LENGTH {
            line.push(b"xy");
        }
        assert_eq!((line.end().len(), &line.end()[LENGTH - 2..]), (LENGTH, &b"y\n"[..]));
    }
}
