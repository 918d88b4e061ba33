//! The numbers of the barriers at which the init waits for the host.

/// The host has configured the network.
pub const BARRIER_HOST: u32 = 0;

/// The root is made, and not entered yet: hooks of the host may look at it.
pub const BARRIER_CREATE: u32 = u32::MAX;

/// All is made that does not depend on the program, which is not known yet.
pub const BARRIER_PARKED: u32 = u32::MAX - 2;

/// All is made, and the program comes next: hooks of the container run.
pub const BARRIER_START: u32 = u32::MAX - 1;

/// The barrier before the mount with this index; the one behind it has the next number.
pub(super) fn barrier_of_mount(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX / 2).saturating_mul(2).saturating_add(1)
}

/// Which mount a barrier belongs to, and whether it stands behind it; `None` for the others.
#[must_use]
pub fn mount_of_barrier(id: u32) -> Option<(usize, bool)> {
    if id >= BARRIER_PARKED {
        return None;
    }
    let number = id.checked_sub(barrier_of_mount(0))?;
    Some((usize::try_from(number / 2).ok()?, number % 2 == 1))
}
