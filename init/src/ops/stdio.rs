//! Descriptors that the program gets at fixed numbers.
#![allow(unsafe_code, reason = "descriptors by their numbers")]

use pidone_proto::{Call, Slot};
use rustix::fd::AsFd as _;
use rustix::io::Errno;

use crate::failure::{Context as _, Failure, Result};
use crate::kernel::descriptor::duplicate_to;
use crate::state::Init;

/// Makes the descriptor in a slot one of stdio, 0 to 2.
pub(crate) fn replace(init: &mut Init, from: Slot, number: u16) -> Result {
    let from = init.slots.get(from)?;
    // SAFETY: the plan is the host's, and names a descriptor of stdio, which has no owner here.
    unsafe { duplicate_to(from, number) }.during(Call::Duplicate)
}

/// Makes the descriptors in the first slots those of the program, from 0 on.
pub(crate) fn install(init: &mut Init, count: u32) -> Result {
    let count = u16::try_from(count).map_err(|_| Failure::new(Call::Slot, Errno::BADF))?;
    // All that is owned moves above the numbers that are written, so that none is overwritten: also
    // the descriptors in later slots, and the socket.
    let above = i32::from(count.max(3));
    init.slots.move_above(above).during(Call::Duplicate)?;
    init.channel.move_above(above)?;
    init.close_root();
    init.fixed = init.fixed.max(count.into());
    for number in 0..count {
        let fd = init.slots.take(Slot(number))?;
        // SAFETY: everything that the init owns was moved above these numbers.
        unsafe { duplicate_to(fd.as_fd(), number) }.during(Call::Duplicate)?;
    }
    Ok(())
}
