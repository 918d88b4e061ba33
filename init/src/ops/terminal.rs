//! The terminal, the session, and stdio.
#![allow(unsafe_code, reason = "replaces descriptors of stdio")]

use linux_raw_sys::general::DEVPTS_SUPER_MAGIC;
use pidone_proto::{Call, Report};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Uid, fchown, fstat, fstatfs, major, minor, openat};
use rustix::io::Errno;
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mount::{attach_to, clone_mount};
use crate::failure::{Context, Failure, Result};
use crate::kernel::descriptor::{duplicate_to, duplicate_to_stdio, stdio};
use crate::state::Init;

/// Makes a terminal, attaches it to stdio and sends its master to the host.
pub(crate) fn make_console(
    init: &mut Init,
    rows: u16,
    columns: u16,
    uid: u32,
    bind: bool,
) -> Result {
    let (master, terminal) = open_pair(init)?;
    if rows != 0 || columns != 0 {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).during(Call::Terminal)?;
    }
    if uid != 0 {
        fchown(&terminal, Some(Uid::from_raw(uid)), None).during(Call::ChangeOwner)?;
    }
    if bind {
        bind_console(init, terminal.as_fd())?;
    }
    start_session()?;
    ioctl_tiocsctty(&terminal).during(Call::Terminal)?;
    duplicate_to_stdio(terminal.as_fd()).during(Call::Duplicate)?;
    init.channel.send(&Report::Console, Some(master.as_fd()))
}

/// Opens a pair of master and terminal in the container's own devpts.
///
/// An image may have anything at `/dev/ptmx` and `/dev/pts`. In a real devpts only the kernel
/// makes files, so its `ptmx` is genuine.
fn open_pair(init: &mut Init) -> Result<(OwnedFd, OwnedFd)> {
    const PATH: &core::ffi::CStr = c"/dev/pts";
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = init.open(PATH, flags, false).during(Call::Open)?;
    let found = fstatfs(&directory).during(Call::Stat)?;
    if u32::try_from(found.f_type) != Ok(DEVPTS_SUPER_MAGIC) {
        return Err(Failure::new(Call::NodeDiffers, Errno::NODEV));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(&directory, c"ptmx", flags, Mode::empty()).during(Call::Open)?;
    unlockpt(&master).during(Call::Terminal)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // By descriptor: a path such as /dev/pts/0 could lead to another file.
    let terminal = ioctl_tiocgptpeer(&master, flags).during(Call::Terminal)?;
    Ok((master, terminal))
}

/// Binds the terminal to `/dev/console`.
fn bind_console(init: &mut Init, terminal: BorrowedFd<'_>) -> Result {
    const PATH: &core::ffi::CStr = c"/dev/console";
    let target = init.make(PATH.to_bytes(), true, false)?;
    let mount = clone_mount(terminal, false).during(Call::OpenTree)?;
    attach_to(mount.as_fd(), target.as_fd()).during(Call::MoveMount)
}

/// Starts a session: a container never shares the session and the terminal of its caller.
pub(crate) fn start_session() -> Result {
    match setsid() {
        // EPERM: this process leads a session already.
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).during(Call::Session),
    }
}

/// Replaces descriptors of the host's null device with the container's own, so that no device file
/// of the host stays open.
pub(crate) fn reopen_null(init: &mut Init) -> Result {
    const PATH: &core::ffi::CStr = c"/dev/null";
    let mut own = None;
    for number in 0..=2 {
        if !stdio(number).is_some_and(is_null) {
            continue;
        }
        if own.is_none() {
            own = match init.open(PATH, OFlags::RDWR | OFlags::NONBLOCK, false) {
                // A container without a null device keeps that of the host.
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(()),
                other => Some(other.during(Call::Open)?),
            };
        }
        let Some(null) = own.as_ref().filter(|null| is_null(null.as_fd())) else { return Ok(()) };
        // SAFETY: stdio has no owner in this program.
        unsafe { duplicate_to(null.as_fd(), number.into()) }.during(Call::Duplicate)?;
    }
    Ok(())
}

/// Returns whether a descriptor is the null device: a character device with number 1:3.
pub(crate) fn is_null(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    })
}
