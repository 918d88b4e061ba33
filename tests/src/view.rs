//! How a case sees the host.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::Stop;

/// How a case sees the host, and in which process it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// In the process of all tests, as it is.
    Common,
    /// In a process of its own, with mounts of its own.
    Alone,
    /// In a process of its own that sees cgroup v2 and no other.
    Unified,
    /// In a process of its own, as a user without any privilege.
    Ordinary,
}

/// The user and the group that have nothing.
const NOBODY: u32 = 65534;

impl View {
    /// What the view adds to the name of a case.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Common => "",
            Self::Alone => "::alone",
            Self::Unified => "::v2",
            Self::Ordinary => "::user",
        }
    }

    /// Makes this process see the host so. It must have one thread.
    pub(crate) fn enter(self) -> Result<(), Stop> {
        match self {
            Self::Common => Ok(()),
            Self::Alone => own_mounts(),
            Self::Unified => unified(),
            Self::Ordinary => ordinary(),
        }
    }
}

/// A mount namespace that the host sees nothing of.
fn own_mounts() -> Result<(), Stop> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}

/// A mount namespace whose only cgroup hierarchy is the second version's.
fn unified() -> Result<(), Stop> {
    const CGROUPS: &str = "/sys/fs/cgroup";
    own_mounts()?;
    // Several may lie above each other.
    while umount2(CGROUPS, MntFlags::MNT_DETACH).is_ok() {}
    mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}

/// Gives up every privilege.
fn ordinary() -> Result<(), Stop> {
    setgroups(&[])?;
    setgid(Gid::from_raw(NOBODY))?;
    setuid(Uid::from_raw(NOBODY))?;
    // A process that a user starts is dumpable, and so its files in /proc are its own.
    nix::sys::prctl::set_dumpable(true)?;
    std::env::set_current_dir("/")?;
    Ok(())
}
