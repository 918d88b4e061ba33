//! Commands by their names.

use core::ffi::CStr;

use crate::{attempt, foreign, invade, load, report, signal, sys, terminal, writable};

/// The arguments and the environment of the program.
pub(crate) struct Surroundings<A, E> {
    /// The arguments, the program's name first.
    pub(crate) arguments: A,
    /// The environment.
    pub(crate) environment: E,
}

/// A command and its arguments.
pub(crate) struct Words<'a> {
    words: [&'a CStr; 16],
    count: usize,
}

impl<'a> Words<'a> {
    /// No words.
    pub(crate) fn new() -> Self {
        Self { words: [c""; 16], count: 0 }
    }

    /// Appends a word; one for which there is no place is dropped.
    pub(crate) fn push(&mut self, word: &'a CStr) {
        if let Some(place) = self.words.get_mut(self.count) {
            *place = word;
            self.count += 1;
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The word at an index.
    pub(crate) fn text(&self, index: usize) -> Option<&'a CStr> {
        self.words.get(..self.count)?.get(index).copied()
    }

    /// The number at an index: decimal, octal with `0`, or hexadecimal with `0x`.
    pub(crate) fn number(&self, index: usize) -> Option<i64> {
        number(self.text(index)?.to_bytes())
    }

    /// All words but the first `skip`.
    pub(crate) fn rest(&self, skip: usize) -> &[&'a CStr] {
        self.words.get(skip..self.count).unwrap_or_default()
    }
}

/// Reads a number in the manner of C.
pub(crate) fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let (digits, radix) = match digits {
        [b'0', b'x', digits @ ..] => (digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => (digits, 8),
        digits => (digits, 10),
    };
    let digits = core::str::from_utf8(digits).ok()?;
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// Runs a command; `None` if there is none of that name, or its arguments are wrong.
pub(crate) fn run<'a>(
    words: &Words<'a>,
    surroundings: &Surroundings<
        impl Iterator<Item = &'a CStr> + Clone,
        impl Iterator<Item = &'a CStr> + Clone,
    >,
) -> Option<()> {
    match words.text(0)?.to_bytes() {
        // What is seen.
        b"report" => report::print(surroundings),
        b"writable" => writable::print(),
        b"time" => load::time(),
        // Life and death.
        b"exit" => sys::exit(u8::try_from(words.number(1)?).ok()?),
        b"sleep" => load::sleep(words.number(1)),
        b"say" => load::say(words.text(1)?),
        b"echo" => load::echo(),
        b"ignore" => signal::ignore(words.number(1)?),
        b"kill" => signal::send(words.number(1)?, words.number(2)),
        b"orphan" => load::orphan(),
        // Use of resources.
        b"memory" => load::memory(words.number(1)?),
        b"exhaust" => load::exhaust(),
        b"spin" => load::spin(words.number(1)?),
        b"fork" => load::fork(words.number(1)?, words.number(2)),
        // What should or should not work.
        b"open" => attempt::open(words.text(1)?, words.number(2)?),
        b"read" => attempt::read(words.text(1)?),
        b"write" => attempt::write(words.text(1)?, words.text(2)?),
        b"syscall" => attempt::syscall(words.number(1)?, words.rest(2))?,
        b"value" => attempt::value(words.number(1)?, words.rest(2))?,
        b"handle" => attempt::handle(words.text(1)?),
        b"type" => terminal::simulate_input(words.text(1)?),
        b"invade" => invade::print(words.number(1)),
        b"reach" => invade::reach(words.text(1)?),
        b"peek" => attempt::peek(words.text(1)?),
        word if foreign::is_asked(word) => foreign::answer(words.text(0)?)?,
        _ => return None,
    }
    Some(())
}
