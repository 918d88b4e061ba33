//! The command line: commands with a `,` between.

use core::ffi::CStr;

use crate::command::{self, Surroundings, Words};
use crate::sys;

/// What ends one command and begins the next.
const SEPARATOR: &CStr = c",";

/// The status of a command that is wrong.
const MISUSED: u8 = 125;

/// Runs the commands in the arguments, the program's name first, and exits with 0 after the last.
pub(crate) fn main<'a>(
    arguments: impl Iterator<Item = &'a CStr> + Clone,
    environment: impl Iterator<Item = &'a CStr> + Clone,
) -> ! {
    let surroundings = Surroundings { arguments: arguments.clone(), environment };
    let mut rest = arguments.skip(1);
    let mut first = true;
    loop {
        let mut words = Words::new();
        let mut more = false;
        for word in rest.by_ref() {
            if word == SEPARATOR {
                more = true;
                break;
            }
            words.push(word);
        }
        if first && words.is_empty() && !more {
            words.push(c"report");
        }
        first = false;
        if !words.is_empty() && command::run(&words, &surroundings).is_none() {
            sys::exit(MISUSED);
        }
        if !more {
            sys::exit(0);
        }
    }
}

/// Ends the program for a broken invariant.
#[cfg(init_image)]
pub(crate) fn abort() -> ! {
    sys::exit(MISUSED)
}
