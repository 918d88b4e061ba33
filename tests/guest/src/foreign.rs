//! The part of an init that speaks another version of the protocol.

use core::ffi::CStr;

use crate::command::number;
use crate::descriptor::inherited;
use crate::load;

/// What goes before the number of the control socket's descriptor.
const CONTROL: &[u8] = b"--control=";

/// Whether a word asks for this.
pub(crate) fn is_asked(word: &[u8]) -> bool {
    word.starts_with(CONTROL)
}

/// Sends `Executing` in version 2 in reply to any plan, and does not end.
pub(crate) fn answer(word: &CStr) -> Option<()> {
    let control = number(word.to_bytes().strip_prefix(CONTROL)?)?;
    let message = b"pid1\x02\x01\x81\0\0\0\0\0\x01\0\0\0\x04";
    // One write is one message.
    rustix::io::write(inherited(i32::try_from(control).ok()?), message).ok()?;
    load::sleep(None);
    Some(())
}
