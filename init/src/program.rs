//! The command line of the image.

use core::ffi::CStr;

use crate::{interpret, sys};

/// What goes before the number of the control socket's descriptor.
const CONTROL: &[u8] = b"--control=";

/// Runs the image with its arguments, the program's name first.
///
/// `--control=FD` runs the plan that comes through the socket at that descriptor.
pub fn main<'a>(arguments: impl Iterator<Item = &'a CStr>) -> ! {
    let control = arguments
        .skip(1)
        .find_map(|argument| argument.to_bytes().strip_prefix(CONTROL))
        .and_then(|number| core::str::from_utf8(number).ok())
        .and_then(|number| number.parse().ok())
        .filter(|&fd: &i32| fd > 2);
    match control {
        Some(fd) => interpret::run(sys::adopt(fd)),
        None => sys::exit(interpret::FAILED),
    }
}

/// Ends the image for a broken invariant.
pub fn abort() -> ! {
    sys::exit(interpret::FAILED)
}
