//! The terminal, the session, and stdio.

use pidone_proto::{Call, Report};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Uid, fchown, fstat, fstatfs, major, minor, openat};
use rustix::io::Errno;
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mount::{attach_to, copy};
use crate::failure::{Context, Failure, Result};
use crate::interpret::Init;
use crate::sys;

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u32 = 0x1cd1;

/// Makes a terminal, attaches it to stdio and hands its master to the host.
pub(crate) fn console(init: &mut Init, rows: u16, columns: u16, uid: u32, bind: bool) -> Result {
    let (master, terminal) = open(init)?;
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
    session()?;
    ioctl_tiocsctty(&terminal).during(Call::Terminal)?;
    for fd in 0..=2 {
        sys::duplicate_over(terminal.as_fd(), fd).during(Call::Duplicate)?;
    }
    init.channel.send(&Report::Console, Some(master.as_fd()))
}

/// Opens a pair of the container's own devpts.
///
/// An image may have anything at `/dev/ptmx` and `/dev/pts`. In a real devpts only the kernel
/// makes files, so that its `ptmx` is what it seems.
fn open(init: &mut Init) -> Result<(OwnedFd, OwnedFd)> {
    const PATH: &core::ffi::CStr = c"/dev/pts";
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = init.open(PATH, flags, false).during(Call::Open)?;
    let found = fstatfs(&directory).during(Call::Stat)?;
    if u32::try_from(found.f_type) != Ok(DEVPTS) {
        return Err(Failure::new(Call::NodeDiffers, Errno::NODEV));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(&directory, c"ptmx", flags, Mode::empty()).during(Call::Open)?;
    unlockpt(&master).during(Call::Terminal)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // By descriptor: a path like /dev/pts/0 could name another file.
    let terminal = ioctl_tiocgptpeer(&master, flags).during(Call::Terminal)?;
    Ok((master, terminal))
}

/// Binds the terminal to `/dev/console`.
fn bind_console(init: &mut Init, terminal: BorrowedFd<'_>) -> Result {
    const PATH: &core::ffi::CStr = c"/dev/console";
    let target = match init.open(PATH, OFlags::PATH, false) {
        Err(Errno::NOENT) => {
            let (parent, name) = init.parent(PATH, false)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(&parent, name, flags, Mode::from_raw_mode(0o600)).during(Call::MakeFile)?;
            init.open(PATH, OFlags::PATH, false)
        }
        other => other,
    }
    .during(Call::Open)?;
    let mount = copy(terminal, false).during(Call::OpenTree)?;
    attach_to(mount.as_fd(), target.as_fd()).during(Call::MoveMount)
}

/// Starts a session: a container never shares its caller's, nor the terminal behind it.
pub(crate) fn session() -> Result {
    match setsid() {
        // Leads one already.
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).during(Call::Session),
    }
}

/// Replaces descriptors of the host's null device by the container's own, so that no file of the
/// host's devices stays open.
pub(crate) fn reopen_null(init: &mut Init) -> Result {
    const PATH: &core::ffi::CStr = c"/dev/null";
    let mut own = None;
    for number in 0..=2 {
        if !sys::stdio(number).is_some_and(is_null) {
            continue;
        }
        if own.is_none() {
            own = match init.open(PATH, OFlags::RDWR | OFlags::NONBLOCK, false) {
                // A container without a null device keeps the one it was given.
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => return Ok(()),
                other => Some(other.during(Call::Open)?),
            };
        }
        let Some(null) = own.as_ref().filter(|null| is_null(null.as_fd())) else { return Ok(()) };
        sys::duplicate_over(null.as_fd(), number.into()).during(Call::Duplicate)?;
    }
    Ok(())
}

/// Whether a descriptor is the null device: a character device 1:3, not only that number.
pub(crate) fn is_null(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    })
}
