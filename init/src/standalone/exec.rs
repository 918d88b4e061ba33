//! How the child becomes the program.
#![allow(unsafe_code, reason = "pointers to strings for execve")]

use core::ffi::CStr;

use rustix::io::Errno;

use super::message::{self, Level};
use crate::strings::Strings;
use crate::sys;

/// Where a program is looked for without `$PATH`, as with glibc.
const PATH: &[u8] = b"/bin:/usr/bin";

/// The longest path that the kernel takes, with its NUL.
const LENGTH: usize = 4096;

/// The status for a program that is not there, as in a shell.
const NOT_FOUND: u8 = 127;

/// The status for one that cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// Executes the program behind the first string of a list. Only a failure returns: the status that
/// tells it.
pub(super) fn exec(before_program: Strings, environment: Strings) -> u8 {
    let mut arguments = before_program;
    arguments.next();
    let name = arguments.first().unwrap_or_default();
    let errno = find(name, before_program, environment);
    let (reason, status): (&[u8], _) = match errno {
        Errno::NOENT | Errno::NOTDIR => (b"No such file or directory: ", NOT_FOUND),
        Errno::ACCESS => (b"Permission denied: ", NOT_EXECUTABLE),
        _ => {
            message::note(Level::Fatal, b"exec failed: errno ", errno.raw_os_error());
            (b"Cannot be executed: ", NOT_EXECUTABLE)
        }
    };
    message::say(Level::Fatal, reason, name.to_bytes());
    status
}

/// Executes the first program of the name, as `execvp(3)` does; why there is none.
#[allow(clippy::manual_contains, reason = "contains() compares words, with four times the code")]
fn find(name: &'static CStr, before_program: Strings, environment: Strings) -> Errno {
    let bytes = name.to_bytes();
    if bytes.is_empty() {
        return Errno::NOENT;
    }
    if bytes.iter().any(|&byte| byte == b'/') {
        return attempt(name, before_program, environment);
    }
    let mut reason = Errno::NOENT;
    for directory in variable(environment, b"PATH=").unwrap_or(PATH).split(|&byte| byte == b':') {
        let mut path = [0; LENGTH];
        let mut length = 0;
        for part in [directory, if directory.is_empty() { b"" } else { b"/" }, bytes] {
            for &byte in part {
                if let Some(place) = path.get_mut(length) {
                    *place = byte;
                    length += 1;
                }
            }
        }
        let Some(path) = path.get(..=length).and_then(|path| CStr::from_bytes_with_nul(path).ok())
        else {
            continue;
        };
        match attempt(path, before_program, environment) {
            // Another directory may have one that this user may execute.
            Errno::ACCESS => reason = Errno::ACCESS,
            Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::STALE | Errno::TIMEDOUT => {}
            errno => return errno,
        }
    }
    reason
}

/// Executes a file, or the shell with it if it is a script that names no interpreter.
fn attempt(path: &CStr, before_program: Strings, environment: Strings) -> Errno {
    let mut arguments = before_program;
    arguments.next();
    let errno = execute(path, arguments, environment);
    if errno != Errno::NOEXEC {
        return errno;
    }
    // execvp(3): the shell gets the path in the place of the name, and stands before it.
    const SHELL: &CStr = c"/bin/sh";
    before_program.replace(SHELL);
    // SAFETY: the path outlives this function only if exec fails, and then nothing more is read
    // of the arguments but the name, which the caller holds.
    arguments.replace(unsafe { CStr::from_ptr(path.as_ptr()) });
    execute(SHELL, before_program, environment)
}

fn execute(path: &CStr, arguments: Strings, environment: Strings) -> Errno {
    // SAFETY: both lists are made of strings, with a null pointer behind.
    unsafe { sys::execve(path, arguments.as_ptr(), environment.as_ptr()) }
}

/// The value of a variable; its name comes with the `=`.
pub(super) fn variable(mut environment: Strings, name: &[u8]) -> Option<&'static [u8]> {
    environment.find_map(|variable| variable.to_bytes().strip_prefix(name))
}
