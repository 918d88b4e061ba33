//! Stdio of the supervisor and of what it spawns.

use pidone_proto::{Call, Slot};
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};
use crate::interpret::Init;
use crate::ops::terminal::is_null;
use crate::sys;

/// Makes stdio the container's null device: nothing of who started the container stays open in a
/// process that outlives it. Without a null device it is left.
pub(super) fn let_go(init: &mut Init) -> Result {
    const PATH: &core::ffi::CStr = c"/dev/null";
    let Ok(null) = init.open(PATH, OFlags::RDWR | OFlags::NONBLOCK, false) else {
        return Ok(());
    };
    if is_null(null.as_fd()) {
        for number in 0..=2 {
            sys::duplicate_over(null.as_fd(), number).during(Call::Duplicate)?;
        }
    }
    Ok(())
}

/// Makes what is in a slot a descriptor of the program's.
pub(crate) fn put(init: &mut Init, from: Slot, number: u16) -> Result {
    sys::duplicate_over(init.slots.get(from)?, number).during(Call::Duplicate)
}

/// Makes what is in the first slots the program's descriptors.
pub(crate) fn take(init: &mut Init, count: u32) -> Result {
    let count = u16::try_from(count).map_err(|_| Failure::new(Call::Slot, Errno::BADF))?;
    // Above those that they become, so that none is overwritten: also what comes behind them, and
    // what reports.
    let above = i32::from(count.max(3));
    init.slots.move_above(above).during(Call::Duplicate)?;
    init.channel.move_above(above)?;
    init.forget_root();
    for number in 0..count {
        let fd = init.slots.take(Slot(number))?;
        sys::duplicate_over(fd.as_fd(), number).during(Call::Duplicate)?;
    }
    Ok(())
}
