//! How the child becomes the program.
#![allow(unsafe_code, reason = "pointers to strings for execve")]

use core::ffi::CStr;

use rustix::io::Errno;

use super::message::{self, Level};
use crate::kernel::process::execve;
use crate::strings::Strings;

/// The search path without `$PATH`, as in glibc.
const PATH: &[u8] = b"/bin:/usr/bin";

/// The longest path that the kernel takes, with its NUL.
const LENGTH: usize = linux_raw_sys::general::PATH_MAX as usize;

/// The status for a program that does not exist, as in a shell.
const NOT_FOUND: u8 = 127;

/// The status for a program that cannot be executed, as in a shell.
const NOT_EXECUTABLE: u8 = 126;

/// Executes the program after the first string of a list. Only a failure returns, with the status
/// to exit with.
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

/// Executes the first program with the name, as `execvp(3)`; returns why it failed.
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
            // Another directory may have one that is executable for this user.
            Errno::ACCESS => reason = Errno::ACCESS,
            Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::STALE | Errno::TIMEDOUT => {}
            errno => return errno,
        }
    }
    reason
}

/// Executes a file, or the shell with it if it is a script without an interpreter line.
fn attempt(path: &CStr, before_program: Strings, environment: Strings) -> Errno {
    let mut arguments = before_program;
    arguments.next();
    let errno = execute(path, arguments, environment);
    if errno != Errno::NOEXEC {
        return errno;
    }
    // As in execvp(3): the arguments are the shell, the path instead of the name, and the rest.
    const SHELL: &CStr = c"/bin/sh";
    before_program.replace(SHELL);
    // SAFETY: the list must not be read after the path is gone. The path stays until exec fails,
    // and then the list is not read again: the caller has the name.
    arguments.replace(unsafe { CStr::from_ptr(path.as_ptr()) });
    execute(SHELL, before_program, environment)
}

fn execute(path: &CStr, arguments: Strings, environment: Strings) -> Errno {
    // SAFETY: both are lists of strings with a null pointer at the end.
    unsafe { execve(path, arguments.as_ptr(), environment.as_ptr()) }
}

/// Returns the value of a variable; `name` includes the `=`.
pub(super) fn variable(mut environment: Strings, name: &[u8]) -> Option<&'static [u8]> {
    environment.find_map(|variable| variable.to_bytes().strip_prefix(name))
}
