//! A tmpfs that starts with a copy of the directory that it covers.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use pidone_proto::{Call, Slot, Text};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, chownat, fchmod,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, mknodat, openat, readlinkat_raw,
    sendfile, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};
use crate::state::Init;

/// How deeply directories may be nested. Each level takes a few KiB of the stack.
const DEPTH: usize = 128;

/// Gives a mount the mode of the directory that it will cover, or a copy of the directory.
pub(crate) fn copy_up(init: &mut Init, mount: Slot, from: Text<'_>, contents: bool) -> Result {
    let path = from.as_c_str();
    let from = match init.open(path, OFlags::RDONLY | OFlags::DIRECTORY, true) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.during(Call::Open)?,
    };
    // The mount's own descriptor is `O_PATH`: it can only be used to resolve names.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to = openat(init.slots.get(mount)?, c".", flags, Mode::empty()).during(Call::Open)?;
    if contents {
        return copy_directory(from.as_fd(), to.as_fd(), 0);
    }
    let mode = fstat(&from).during(Call::Stat)?.st_mode;
    fchmod(&to, Mode::from_raw_mode(mode & 0o7777)).during(Call::Attributes)
}

/// Copies a directory's files, and then its attributes, which copying the files changes.
fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result {
    if depth >= DEPTH {
        return Err(Failure::new(Call::Read, Errno::NAMETOOLONG));
    }
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.during(Call::Read)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_file(from, to, name, depth)?;
        }
    }
    copy_attributes(from, to, &fstat(from).during(Call::Stat)?)
}

/// Copies one file of any type, below descriptors and never through a link.
fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).during(Call::Stat)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let file_type = FileType::from_raw_mode(stat.st_mode);
    match file_type {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU).during(Call::MakeDirectory)?;
            let from = open(from, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let to = open(to, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            copy_directory(from.as_fd(), to.as_fd(), depth + 1)
        }
        FileType::RegularFile => {
            let from = open(from, name, OFlags::RDONLY)?;
            let to = open(to, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
            while sendfile(&to, &from, None, 1 << 30).during(Call::Write)? > 0 {}
            copy_attributes(from.as_fd(), to.as_fd(), &stat)
        }
        FileType::Symlink => {
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            let (target, _) = readlinkat_raw(from, name, &mut buffer[..4095]).during(Call::Read)?;
            let mut text = [0_u8; 4096];
            let place = text.get_mut(..target.len()).unwrap_or_default();
            place.copy_from_slice(target);
            let target = CStr::from_bytes_until_nul(&text).unwrap_or(c"");
            symlinkat(target, to, name).during(Call::MakeLink)?;
            set_owner_and_times(to, name, &stat)
        }
        _ => {
            mknodat(to, name, file_type, mode, stat.st_rdev).during(Call::MakeNode)?;
            set_owner_and_times(to, name, &stat)
        }
    }
}

fn open(at: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .during(Call::Open)
}

fn set_owner(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)
        .during(Call::ChangeOwner)
}

/// Sets owner and times of a file that cannot be opened.
fn set_owner_and_times(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result {
    set_owner(at, name, stat)?;
    utimensat(at, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).during(Call::Attributes)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec.cast_signed()),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
    }
}

/// Copies owner, mode, extended attributes and times, in an order in which none undoes another.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result {
    set_owner(to, c"", stat)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).during(Call::Attributes)?;
    copy_extended(from, to).during(Call::Attributes)?;
    futimens(to, &times(stat)).during(Call::Attributes)
}

/// Copies the extended attributes, as far as the file systems support them.
fn copy_extended(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> core::result::Result<(), Errno> {
    let mut names = [0_u8; 1024];
    let length = match flistxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let names = names.get(..length).unwrap_or_default();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let name = CStr::from_bytes_until_nul(name).unwrap_or(c"");
        let mut value = [0_u8; 4096];
        let length = fgetxattr(from, name, &mut value[..])?;
        let value = value.get(..length).unwrap_or_default();
        match fsetxattr(to, name, value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
