//! Signals: what is blocked and ignored, and sending some.

use crate::json::{self, Json};
use crate::sys;

/// Appends the fields.
pub(crate) fn report(json: &mut Json) {
    const SIGNALS: usize = 64;
    const IGNORED: usize = 1;
    json.key("blocked").number(sys::blocked());
    let ignored = (1..=SIGNALS).filter(|&signal| sys::action(signal) == IGNORED);
    json.key("ignored").number(ignored.fold(0_u64, |mask, signal| mask | 1 << (signal - 1)));
}

/// Ignores a signal.
pub(crate) fn ignore(signal: i64) {
    let result = sys::ignore(usize::try_from(signal).unwrap_or(0));
    json::line(|json| json.number(result.map_or_else(|errno| errno.raw_os_error(), |()| 0)));
}

/// Sends a signal to a process, or to this one.
pub(crate) fn send(signal: i64, pid: Option<i64>) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(own);
    let result = sys::kill(pid, i32::try_from(signal).unwrap_or(0));
    json::line(|json| json.number(result.map_or_else(|errno| errno.raw_os_error(), |()| 0)));
}
