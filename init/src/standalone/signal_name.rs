//! Names of signals.

use crate::decimal;
use crate::kernel::signal::LAST;

/// The names of the signals from 1 on, without `SIG`: the same on x86-64 and aarch64.
const NAMES: &[u8] = b"HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM \
STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// Parses a name, with or without `SIG`, or a number.
pub(super) fn parse(text: &[u8]) -> Option<u8> {
    let name = text.strip_prefix(b"SIG").unwrap_or(text);
    let named = (1..=31).zip(NAMES.split(|&byte| byte == b' ')).find(|(_, known)| *known == name);
    named.map(|(signal, _)| signal).or_else(|| {
        let signal = u8::try_from(decimal::parse(text)?).ok()?;
        (1..=LAST).contains(&signal).then_some(signal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::signal::{CHLD, TERM};

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, signal) in [
            ("SIGHUP", Some(1)),
            ("HUP", Some(1)),
            ("SIGKILL", Some(9)),
            ("TERM", Some(TERM)),
            ("CHLD", Some(CHLD)),
            ("SIGSYS", Some(31)),
            ("1", Some(1)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("256", None),
            ("", None),
            ("SIG", None),
            ("SIG9", None),
            ("sigterm", None),
            ("HUP INT", None),
        ] {
            assert_eq!(parse(text.as_bytes()), signal, "{text:?}");
        }
    }
}
