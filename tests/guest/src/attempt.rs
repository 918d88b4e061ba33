//! Attempts, and the errno that they end with; 0 for success.

use core::ffi::CStr;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::command::number;
use crate::{json, sys};

/// The permissions of a file that is made.
const MODE: u32 = 0o644;

/// What of a file is read, in bytes.
const READ: usize = 64 * 1024;

/// Opens a file with flags of open(2), and prints the errno.
pub(crate) fn open(path: &CStr, flags: i64) {
    let flags = OFlags::from_bits_retain(u32::try_from(flags).unwrap_or(0));
    let result = openat(CWD, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(MODE)).map(drop);
    json::line(|json| json.number(errno(result)));
}

/// Reads a file, and prints the errno and its text.
pub(crate) fn read(path: &CStr) {
    let mut buffer = [0; READ];
    let mut length = 0;
    let result =
        openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).and_then(|file| {
            loop {
                match rustix::io::read(&file, buffer.get_mut(length..).unwrap_or_default()) {
                    Ok(0) => return Ok(()),
                    Ok(count) => length += count,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
        });
    json::line(|json| {
        json.object(|json| {
            json.key("errno").number(errno(result));
            json.key("text").string(buffer.get(..length).unwrap_or_default());
        });
    });
}

/// Writes a text to a file, which is made if it is missing, and prints the errno.
pub(crate) fn write(path: &CStr, text: &CStr) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let result = openat(CWD, path, flags, Mode::from_raw_mode(MODE))
        .and_then(|file| rustix::io::write(&file, text.to_bytes()).map(drop));
    json::line(|json| json.number(errno(result)));
}

/// Makes a system call by its number and prints the errno. An argument is a number, or with a
/// leading `@` a text.
pub(crate) fn syscall(number: i64, words: &[&CStr]) -> Option<()> {
    let result = call(number, words)?.map(drop);
    json::line(|json| json.number(errno(result)));
    Some(())
}

/// The same, and prints the value, or the errno with a `-`.
pub(crate) fn value(number: i64, words: &[&CStr]) -> Option<()> {
    let value = match call(number, words)? {
        Ok(value) => i64::try_from(value).ok()?,
        Err(errno) => -i64::from(errno.raw_os_error()),
    };
    json::line(|json| json.number(value));
    Some(())
}

fn call(call: i64, words: &[&CStr]) -> Option<Result<usize, Errno>> {
    let mut args = [0; 6];
    for (place, word) in args.iter_mut().zip(words) {
        *place = match word.to_bytes() {
            [b'@', ..] => word.as_ptr().expose_provenance() + 1,
            digits => isize::try_from(number(digits)?).ok()?.cast_unsigned(),
        };
    }
    Some(sys::any(usize::try_from(call).ok()?, args))
}

/// Opens a file by its handle, and prints which call failed and how.
pub(crate) fn handle(path: &CStr) {
    let result = sys::open_by_handle(path);
    json::line(|json| {
        json.object(|json| {
            let failed = result.err();
            json.key("call").string(failed.map_or("", |(call, _)| call).as_bytes());
            json.key("errno").number(failed.map_or(0, |(_, errno)| errno.raw_os_error()));
        });
    });
}

/// Until a file exists, and once after that, opens the working directory, the root and the
/// descriptors of every other process that it sees. Prints how often something opened that is not
/// its own root.
///
/// A process that joins a container must have no directory of the host for such a look.
pub(crate) fn peek(stop: &CStr) {
    crate::descriptor::peek(stop);
}

/// The errno of a result; 0 for success.
pub(crate) fn errno(result: Result<(), Errno>) -> i32 {
    result.map_or_else(Errno::raw_os_error, |()| 0)
}
