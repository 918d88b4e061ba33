//! The command line of the image.
#![allow(unsafe_code, reason = "takes the control socket by its number")]

use core::ffi::CStr;

use rustix::fd::{FromRawFd as _, OwnedFd};

use crate::channel::Channel;
use crate::kernel::process::exit;
#[cfg(feature = "standalone")]
use crate::standalone;
use crate::state::Init;
use crate::strings::Strings;
#[cfg(feature = "supervise")]
use crate::supervise;
use crate::{decimal, failure, interpret, kernel};

/// The prefix of the argument with the control socket's descriptor.
const CONTROL: &[u8] = b"--control=";

/// The argument after it if the host wants to know when this program began.
const TIMED: &[u8] = b"--timed";

/// Runs the image with its arguments, the program's name first.
///
/// `--control=FD`, optionally followed by `--timed`, runs the plan that comes through the socket
/// at that descriptor. Anything else is the command line of the standalone init, if the image has
/// it.
#[cfg_attr(
    not(feature = "standalone"),
    allow(unused_variables, reason = "only the standalone init passes it on")
)]
pub fn main(arguments: Strings, environment: Strings) -> ! {
    let first = { arguments }.nth(1).map(CStr::to_bytes);
    let control = first.and_then(|argument| argument.strip_prefix(CONTROL));
    #[cfg(feature = "standalone")]
    if control.is_none() {
        standalone::run(arguments, environment)
    }
    let timed = { arguments }.nth(2).is_some_and(|argument| argument.to_bytes() == TIMED);
    let begun = if timed { kernel::now() } else { 0 };
    let Some(fd) = control.and_then(decimal::parse).filter(|&fd| fd > 2) else { abort() };
    // SAFETY: the host left this descriptor for the init, and nothing else in this program has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut init = Init::new(Channel::new(socket));
    match interpret::run_plan(&mut init, begun) {
        #[cfg(feature = "supervise")]
        Ok(next) => supervise::run(&mut init, next),
        #[cfg(not(feature = "supervise"))]
        Ok(next) => match next {},
        Err(failure) => init.fail(failure),
    }
}

/// Ends the image because of a broken invariant.
pub fn abort() -> ! {
    exit(failure::EXIT_STATUS)
}
