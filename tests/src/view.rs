//! How a case sees the host.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::leftover::CGROUPS;
use crate::need::NOBODY;
use crate::{Stop, need};

/// How a case sees the host, and in which process it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// In the process of all tests, as it is.
    Common,
    /// In its own process and mount namespace.
    Alone,
    /// In its own process, which sees cgroup v2 and no other.
    Unified,
    /// In its own process, as a user without any privilege.
    Ordinary,
    /// The same, with ranges of ids that the user may map: see [`DELEGATED`].
    Delegated,
    /// In its own process, as root of a user namespace with 65536 ids, as below podman.
    Nested,
}

/// The first of the 65536 ids that the user may map in [`View::Delegated`], and that exist in
/// [`View::Nested`].
pub const DELEGATED: u32 = 200_000;

impl View {
    /// What the view adds to the name of a case.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Common => "",
            Self::Alone => "::alone",
            Self::Unified => "::v2",
            Self::Ordinary => "::user",
            Self::Delegated => "::ids",
            Self::Nested => "::nested",
        }
    }

    /// Makes this process see the host so. It must have one thread.
    pub(crate) fn enter(self) -> Result<(), Stop> {
        match self {
            Self::Common => Ok(()),
            Self::Alone => own_mounts(),
            Self::Unified => unified(),
            Self::Ordinary => ordinary(),
            Self::Delegated => delegated(),
            Self::Nested => nested(),
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
    own_mounts()?;
    // Several may lie above each other.
    while umount2(CGROUPS, MntFlags::MNT_DETACH).is_ok() {}
    mount(Some("cgroup2"), CGROUPS, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}

/// Gives up every privilege but to map ids, by files that nobody else sees.
fn delegated() -> Result<(), Stop> {
    need::program("newuidmap")?;
    need::program("newgidmap")?;
    own_mounts()?;
    let ranges = format!("{NOBODY}:{DELEGATED}:65536\n");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), ranges)?;
    std::fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
    for path in ["/etc/subuid", "/etc/subgid"] {
        need::file(path)?;
        let none = None::<&str>;
        mount(Some(file.path()), path, none, MsFlags::MS_BIND, none)?;
    }
    ordinary()
}

/// Becomes root of a new user namespace, whose ids its parent maps.
fn nested() -> Result<(), Stop> {
    let own = std::process::id();
    let map = format!("echo 0 {DELEGATED} 65536 >");
    let script = format!("read go; {map}/proc/{own}/uid_map; {map}/proc/{own}/gid_map");
    let mut parent = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn()?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    if let Some(mut input) = parent.stdin.take() {
        input.write_all(b"go\n")?;
    }
    if !parent.wait()?.success() {
        return Err(Stop::Failed("the map was refused".into()));
    }
    setgroups(&[])?;
    setgid(Gid::from_raw(0))?;
    setuid(Uid::from_raw(0))?;
    nix::sys::prctl::set_dumpable(true)?;
    let none = None::<&str>;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
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
