//! The options: those of tini, and those of catatonit, which are the same where both have them.

use core::ffi::CStr;

use super::exec::variable;
use super::message::{self, Level};
use crate::strings::Strings;
use crate::{program, signal};

const HELP: &[u8] = b"\
Usage: pidone-init [OPTIONS] [--] PROGRAM [ARGS]
  -e N    exit with 0 if the program exits with N; may be repeated
  -g      send signals to its process group
  -p SIG  get this signal when the parent ends
  -P      run no program, wait for SIGTERM or SIGINT
  -s      be a subreaper, as always
  -v      tell more, up to -vvv
  -w      warn of zombies that are reaped
  -h, -l, -V: help, license, version
Environment: TINI_KILL_PROCESS_GROUP, TINI_SUBREAPER, TINI_VERBOSITY
";

/// The length of its first line.
const USAGE: usize = 49;

const LICENSE: &[u8] = b"Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n";

/// In tini's words, which dockerd looks for.
const VERSION: &[u8] =
    concat!("tini version ", env!("CARGO_PKG_VERSION"), "_pidone-init\n").as_bytes();

/// What the program is run with.
pub(super) struct Options {
    /// Signals are for the process group.
    pub(super) group: bool,
    /// Zombies that are reaped are warned of.
    pub(super) warn: bool,
    /// There is no program.
    pub(super) pause: bool,
    /// The signal for the death of the parent, or 0.
    pub(super) parent_death: u8,
    /// The program with its arguments, with one string before that may be overwritten.
    pub(super) before_program: Strings,
    /// The levels up to this are told.
    verbosity: i32,
    /// The statuses that are turned into 0, a bit for each.
    expected: [u32; 8],
}

/// Why nothing is run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// This text was asked for.
    Print(&'static [u8]),
    /// What is wrong, and with what.
    Refuse(&'static [u8], &'static [u8]),
}

/// What is told with everything that is refused.
pub(super) fn usage() -> &'static [u8] {
    HELP.get(..USAGE).unwrap_or_default()
}

impl Options {
    /// The defaults, for arguments that begin with the name of this program.
    pub(super) fn new(arguments: Strings) -> Self {
        Self {
            group: false,
            warn: false,
            pause: false,
            parent_death: 0,
            before_program: arguments,
            verbosity: 1,
            expected: [0; 8],
        }
    }

    /// Reads the arguments. Options end at the first argument that is none, and at `--`.
    pub(super) fn parse(&mut self) -> Result<(), Stop> {
        loop {
            let before = self.before_program;
            let Some(argument) = self.advance() else { break };
            match argument.to_bytes() {
                _ if argument == c"--" => break,
                _ if argument == c"--version" => return Err(Stop::Print(VERSION)),
                _ if argument == c"--help" => return Err(Stop::Print(HELP)),
                [b'-', letters @ ..] if !letters.is_empty() => self.letters(letters)?,
                _ => {
                    self.find_program(before);
                    return Ok(());
                }
            }
        }
        // After `--`, or behind all.
        let mut rest = self.before_program;
        rest.next();
        if self.pause || rest.first().is_some() {
            return Ok(());
        }
        Err(Stop::Refuse(b"missing program name", b""))
    }

    /// Goes on to the next argument: [`Self::before_program`] then begins with it.
    fn advance(&mut self) -> Option<&'static CStr> {
        self.before_program.next();
        self.before_program.first()
    }

    /// Reads the letters of one argument. A value is what follows its letter, or the next argument.
    fn letters(&mut self, mut letters: &'static [u8]) -> Result<(), Stop> {
        while let Some((letter, rest)) = letters.split_first() {
            match letter {
                b'g' => self.group = true,
                b'w' => self.warn = true,
                b'P' => self.pause = true,
                b'v' => self.verbosity = self.verbosity.saturating_add(1),
                b's' => {}
                b'e' | b'p' => {
                    let next = if rest.is_empty() {
                        self.advance().map(CStr::to_bytes)
                    } else {
                        Some(rest)
                    };
                    let Some(value) = next else {
                        return Err(Stop::Refuse(b"option requires an argument: -", &letters[..1]));
                    };
                    return self.value(*letter, value);
                }
                b'h' => return Err(Stop::Print(HELP)),
                b'l' | b'L' => return Err(Stop::Print(LICENSE)),
                b'V' => return Err(Stop::Print(VERSION)),
                _ => return Err(Stop::Refuse(b"invalid option: -", letters)),
            }
            letters = rest;
        }
        Ok(())
    }

    /// Takes the value of an option.
    fn value(&mut self, letter: u8, value: &'static [u8]) -> Result<(), Stop> {
        if letter == b'p' {
            self.parent_death =
                signal::parse(value).ok_or(Stop::Refuse(b"Not a valid option for -p: ", value))?;
            return Ok(());
        }
        let status = (!value.is_empty()).then(|| program::number(value)).flatten();
        let status = status.and_then(|status| u8::try_from(status).ok());
        let status = status.ok_or(Stop::Refuse(b"Not a valid option for -e: ", value))?;
        if let Some(word) = self.expected.get_mut(usize::from(status / 32)) {
            *word |= 1 << (status % 32);
        }
        Ok(())
    }

    /// The arguments have come to the program. A `--` right behind it is left out, which is how
    /// tini's own usage has it.
    fn find_program(&mut self, before: Strings) {
        let mut behind = self.before_program;
        let name = behind.next().unwrap_or_default();
        if behind.first().is_some_and(|argument| argument == c"--") {
            behind.replace(name);
        } else {
            self.before_program = before;
        }
    }

    /// Reads the variables of tini, which stay for the program.
    pub(super) fn read(&mut self, environment: Strings) {
        if variable(environment, b"TINI_KILL_PROCESS_GROUP=").is_some() {
            self.group = true;
        }
        if let Some(verbosity) = variable(environment, b"TINI_VERBOSITY=") {
            self.verbosity = program::number(verbosity).unwrap_or(0);
        }
    }

    /// Whether a status counts as success.
    pub(super) fn is_expected(&self, status: u8) -> bool {
        let word = self.expected.get(usize::from(status / 32));
        word.is_some_and(|word| word >> (status % 32) & 1 == 1)
    }

    /// Writes a message, if so much is to be told.
    pub(super) fn note(&self, level: Level, text: &[u8], number: i32) {
        if self.verbosity >= level as i32 {
            message::note(level, text, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_the_first_line_of_help() {
        assert_eq!(usage().iter().position(|&byte| byte == b'\n'), Some(usage().len() - 1));
    }
}
