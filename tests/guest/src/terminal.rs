//! The terminal.

use rustix::io::Errno;
use rustix::termios::tcgetwinsize;

use crate::descriptor::standard;
use crate::json::{self, Json};
use crate::sys;

/// Appends the fields.
pub(crate) fn report(json: &mut Json) {
    const TIOCGSID: usize = 0x5429;
    json.key("terminal");
    match tcgetwinsize(standard(0)) {
        Ok(size) => json.object(|json| {
            json.key("rows").number(size.ws_row);
            json.key("columns").number(size.ws_col);
            // The session that it controls; an error if it controls none, or not this one.
            json.key("session").number(sys::control_number(0, TIOCGSID).unwrap_or(-1));
        }),
        Err(_) => json.null(),
    }
}

/// Puts a text into the input of the terminal, as if it were typed: `ioctl_tty(2)`, `TIOCSTI`.
pub(crate) fn simulate_input(text: &core::ffi::CStr) {
    const TIOCSTI: usize = 0x5412;
    let result: Result<(), Errno> =
        text.to_bytes().iter().try_for_each(|&byte| sys::control_byte(0, TIOCSTI, byte).map(drop));
    json::line(|json| json.number(result.map_or_else(|errno| errno.raw_os_error(), |()| 0)));
}
