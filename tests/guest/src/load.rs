//! Behaviour: staying, dying, and using up what there is.

use core::ffi::CStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{NanosleepRelativeResult, nanosleep};

use crate::descriptor::standard;
use crate::{json, sys};

/// A mebibyte.
const MIB: usize = 1 << 20;

/// Prints the monotonic clock in nanoseconds.
pub(crate) fn time() {
    let now = sys::now();
    json::line(|json| json.number(now));
}

/// Prints a text.
pub(crate) fn say(text: &CStr) {
    json::line(|json| json.string(text.to_bytes()));
}

/// When so many milliseconds are over, on the monotonic clock.
pub(crate) fn deadline(milliseconds: i64) -> u64 {
    sys::now() + u64::try_from(milliseconds).unwrap_or(0) * 1_000_000
}

/// Sleeps for some milliseconds, or for ever.
pub(crate) fn sleep(milliseconds: Option<i64>) {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let milliseconds = milliseconds.unwrap_or(DAY);
    let mut left = rustix::fs::Timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    };
    while let NanosleepRelativeResult::Interrupted(rest) = nanosleep(&left) {
        left = rest;
    }
}

/// Copies standard input to standard output, up to its end.
pub(crate) fn echo() {
    let mut buffer = [0; 4096];
    loop {
        let count = match rustix::io::read(standard(0), &mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Ok(written @ 1..) = rustix::io::write(standard(1), rest) {
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

/// Uses some MiB of memory and keeps them.
pub(crate) fn memory(mebibytes: i64) {
    let result = sys::touch(usize::try_from(mebibytes).unwrap_or(0).saturating_mul(MIB));
    json::line(|json| json.number(result.map_or_else(Errno::raw_os_error, |()| 0)));
}

/// Uses memory until there is none.
pub(crate) fn exhaust() {
    while sys::touch(MIB).is_ok() {}
}

/// Keeps a processor busy for some milliseconds.
pub(crate) fn spin(milliseconds: i64) {
    let deadline = deadline(milliseconds);
    while sys::now() < deadline {
        core::hint::spin_loop();
    }
}

/// Makes children that sleep, for some milliseconds or for ever; prints how many, and the errno of
/// the first that could not be made.
pub(crate) fn fork(count: i64, milliseconds: Option<i64>) {
    let mut made = 0_i64;
    let mut errno = 0;
    while made < count {
        match sys::fork() {
            Ok(0) => {
                sleep(milliseconds);
                sys::exit(0);
            }
            Ok(_) => made += 1,
            Err(error) => {
                errno = error.raw_os_error();
                break;
            }
        }
    }
    json::line(|json| {
        json.object(|json| {
            json.key("forked").number(made);
            json.key("errno").number(errno);
        });
    });
}

/// Makes a grandchild whose parent ends, which then prints its new parent; waits for both.
pub(crate) fn orphan() {
    let Ok((ours, theirs)) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
    else {
        return;
    };
    let parent = || rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if sys::fork() == Ok(0) {
        let child = rustix::process::getpid().as_raw_nonzero().get();
        if sys::fork() == Ok(0) {
            while parent() == child {
                sleep(Some(1));
            }
            json::line(|json| json.number(parent()));
        }
        sys::exit(0);
    }
    while sys::wait().is_ok() {}
    // The container may end with this process: not before the orphan has spoken.
    drop(theirs);
    let _ = rustix::io::read(&ours, &mut [0; 1]);
}
