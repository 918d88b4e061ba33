//! The ids of the barriers at which the init waits for the host.

/// Waits until the host has configured the network.
pub const BARRIER_HOST: u32 = 0;

/// The root is complete but not yet entered. The host runs `prestart`, `createRuntime` and
/// `createContainer` hooks.
pub const BARRIER_CREATE: u32 = u32::MAX;

/// Everything that does not depend on the program is done. The program is not known yet.
pub const BARRIER_PARKED: u32 = u32::MAX - 2;

/// The setup is complete and the program comes next. The host runs `startContainer` hooks.
pub const BARRIER_START: u32 = u32::MAX - 1;

/// The terminal exists and the host has its master. The host sets its modes before the program can
/// write to it.
pub const BARRIER_CONSOLE: u32 = u32::MAX - 3;

/// The process must be in its cgroup before it goes on. The host waits for the service manager that
/// moves it there.
pub const BARRIER_CGROUP: u32 = u32::MAX - 4;
/// The container is complete, with its own user files. The rest of the plan depends on them.
pub const BARRIER_USER: u32 = u32::MAX - 5;

/// Returns the id of the barrier before the mount with this index. The barrier after the mount has
/// the next id.
pub(super) fn barrier_of_mount(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX / 2).saturating_mul(2).saturating_add(1)
}

/// Returns the index of the mount that a barrier belongs to, and whether the barrier is after the
/// mount; `None` for a barrier that belongs to no mount.
#[must_use]
pub fn mount_of_barrier(id: u32) -> Option<(usize, bool)> {
    if id >= BARRIER_USER {
        return None;
    }
    let number = id.checked_sub(barrier_of_mount(0))?;
    Some((usize::try_from(number / 2).ok()?, number % 2 == 1))
}

/// Returns what the init waits for at a barrier, for people.
pub(super) fn name(id: u32) -> String {
    match id {
        BARRIER_HOST => "for the network".into(),
        BARRIER_CREATE => "for hooks of the creation".into(),
        BARRIER_PARKED => "for the program".into(),
        BARRIER_START => "for hooks of the start".into(),
        BARRIER_CONSOLE => "for the modes of the terminal".into(),
        BARRIER_CGROUP => "for the cgroup".into(),
        BARRIER_USER => "for the user".into(),
        _ => match mount_of_barrier(id) {
            Some((index, is_after)) => {
                let place = if is_after { "after" } else { "before" };
                format!("for commands {place} mounts[{index}]")
            }
            None => id.to_string(),
        },
    }
}
