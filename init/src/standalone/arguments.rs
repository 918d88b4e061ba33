//! The options: those of tini and those of catatonit, which do not contradict each other.

use core::ffi::CStr;

use super::exec::variable;
use super::message::{self, Level};
use super::signal_name;
use crate::decimal;
use crate::strings::Strings;

const HELP: &[u8] = b"\
Usage: pidone-init [OPTIONS] [--] PROGRAM [ARGS]
  -e N    exit with 0 if the program exits with N; may be repeated
  -g      send signals to its process group
  -p SIG  get this signal when the parent ends
  -P      run no program, wait for SIGTERM or SIGINT
  -s      be a subreaper, as always
  -v      log more, up to -vvv
  -w      warn about reaped zombies
  -h, -l, -V: help, license, version
Environment: TINI_KILL_PROCESS_GROUP, TINI_SUBREAPER, TINI_VERBOSITY
";

/// The length of its first line.
const USAGE: usize = 49;

const LICENSE: &[u8] = b"Apache-2.0: https://www.apache.org/licenses/LICENSE-2.0\n";

/// Worded as by tini, since dockerd parses it.
const VERSION: &[u8] =
    concat!("tini version ", env!("CARGO_PKG_VERSION"), "_pidone-init\n").as_bytes();

/// The options and the program.
pub(super) struct Options {
    /// Whether signals are sent to the process group.
    pub(super) group: bool,
    /// Whether reaping a zombie is a warning.
    pub(super) warn: bool,
    /// Whether there is no program to run.
    pub(super) pause: bool,
    /// The signal to get when the parent ends, or 0.
    pub(super) parent_death: u8,
    /// The program with its arguments, after one string that may be overwritten.
    pub(super) before_program: Strings,
    /// Messages up to this level are written.
    verbosity: i32,
    /// The statuses that become 0, one bit each.
    expected: [u32; 8],
}

/// Why no program is run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// This text was requested.
    Print(&'static [u8]),
    /// What is wrong, and with which argument.
    Refuse(&'static [u8], &'static [u8]),
}

/// Returns the text that is printed when the command line is refused.
pub(super) fn usage() -> &'static [u8] {
    HELP.get(..USAGE).unwrap_or_default()
}

impl Options {
    /// The defaults. The arguments begin with the name of this program.
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

    /// Parses the arguments. Options end at the first argument that is not one, or at `--`.
    pub(super) fn parse(&mut self) -> Result<(), Stop> {
        loop {
            let before = self.before_program;
            let Some(argument) = self.advance() else { break };
            match argument.to_bytes() {
                _ if argument == c"--" => break,
                _ if argument == c"--version" => return Err(Stop::Print(VERSION)),
                _ if argument == c"--help" => return Err(Stop::Print(HELP)),
                [b'-', letters @ ..] if !letters.is_empty() => self.parse_letters(letters)?,
                _ => {
                    self.end_at_program(before);
                    return Ok(());
                }
            }
        }
        // After `--`, or at the end.
        let mut rest = self.before_program;
        rest.next();
        if self.pause || rest.first().is_some() {
            return Ok(());
        }
        Err(Stop::Refuse(b"missing program name", b""))
    }

    /// Advances to the next argument: [`Self::before_program`] then begins with it.
    fn advance(&mut self) -> Option<&'static CStr> {
        self.before_program.next();
        self.before_program.first()
    }

    /// Parses the letters of one argument. A value follows its letter, or is the next argument.
    fn parse_letters(&mut self, mut letters: &'static [u8]) -> Result<(), Stop> {
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
                    return self.parse_value(*letter, value);
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

    /// Parses the value of an option.
    fn parse_value(&mut self, letter: u8, value: &'static [u8]) -> Result<(), Stop> {
        if letter == b'p' {
            self.parent_death = signal_name::parse(value)
                .ok_or(Stop::Refuse(b"Not a valid option for -p: ", value))?;
            return Ok(());
        }
        let status = (!value.is_empty()).then(|| decimal::parse(value)).flatten();
        let status = status.and_then(|status| u8::try_from(status).ok());
        let status = status.ok_or(Stop::Refuse(b"Not a valid option for -e: ", value))?;
        if let Some(word) = self.expected.get_mut(usize::from(status / 32)) {
            *word |= 1 << (status % 32);
        }
        Ok(())
    }

    /// Ends the options at the program. Omits a `--` directly after it, as tini's own usage has it.
    fn end_at_program(&mut self, before: Strings) {
        let mut after = self.before_program;
        let name = after.next().unwrap_or_default();
        if after.first().is_some_and(|argument| argument == c"--") {
            after.replace(name);
        } else {
            self.before_program = before;
        }
    }

    /// Reads the variables of tini, which the program gets too.
    pub(super) fn read_environment(&mut self, environment: Strings) {
        if variable(environment, b"TINI_KILL_PROCESS_GROUP=").is_some() {
            self.group = true;
        }
        if let Some(verbosity) = variable(environment, b"TINI_VERBOSITY=") {
            self.verbosity = decimal::parse(verbosity).unwrap_or(0);
        }
    }

    /// Returns whether a status counts as success.
    pub(super) fn is_expected(&self, status: u8) -> bool {
        let word = self.expected.get(usize::from(status / 32));
        word.is_some_and(|word| word >> (status % 32) & 1 == 1)
    }

    /// Writes a message if the verbosity includes its level.
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
