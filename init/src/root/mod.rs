//! Paths below the container's root.
//!
//! The root file system is hostile. So every path is resolved by `openat2(2)` inside the root, and
//! everything is done to the resulting descriptor, or to one last component below it, which is
//! never followed.

use core::ffi::CStr;
use core::ops::Range;

use pidone_proto::Call;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2, readlinkat_raw,
};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};

/// How often a resolution that raced with a rename (`EAGAIN`) is tried. With 128 tries a determined
/// attacker makes about one in a thousand fail, with 32 three in a hundred.
const TRIES: usize = 128;

/// The longest path that the kernel takes, with its NUL.
const PATH: usize = linux_raw_sys::general::PATH_MAX as usize;

/// The root that paths are resolved in.
pub(crate) struct Root(OwnedFd);

impl Root {
    /// Takes ownership of the root's directory.
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens the process's own root.
    pub(crate) fn current() -> core::result::Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, c"/", flags, Mode::empty()).map(Self)
    }

    /// Opens `path`; follows symbolic links, inside the root, if `follow` is set.
    pub(crate) fn open(
        &self,
        path: &CStr,
        flags: OFlags,
        follow: bool,
    ) -> core::result::Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if !follow {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        // The root itself is "/" or "", and openat2 does not take the latter.
        let path = if path.is_empty() { c"." } else { path };
        let mut tries = 0;
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                other => break other,
            }
        }
    }

    /// Splits `path` into the path of its directory and its last component.
    pub(crate) fn split(path: &CStr) -> Result<(&[u8], &CStr)> {
        let bytes = path.to_bytes();
        let cut = bytes.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        let name = c_str(path.to_bytes_with_nul(), cut);
        if name.is_empty() || name == c"." || name == c".." {
            return Err(Failure::new(Call::Open, Errno::INVAL));
        }
        Ok((bytes.get(..cut).unwrap_or_default(), name))
    }

    /// Opens the directory at `path`, or a file of any type if `file` is set. Makes it and the
    /// directories above it if they are missing.
    ///
    /// What is missing is made one component at a time, each below a descriptor, and no link is
    /// followed to make it. A link to nothing is replaced by its content instead, in the path:
    /// where it leads is then resolved and made in the same way, inside the root.
    #[inline(never)]
    pub(crate) fn make(&self, path: &[u8], file: bool, follow: bool) -> Result<OwnedFd> {
        const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
        // The path with a slash in front. The byte at `cut` is NUL while what is before it is used.
        let mut names = [0; PATH];
        names[0] = b'/';
        let first = usize::from(path.first() != Some(&b'/'));
        let mut length = insert(&mut names, first, first..first, path)?;
        for _ in 0..TRIES {
            let mut cut = length;
            let open = |names: &[u8], cut| {
                let flags = if file && cut == length { OFlags::PATH } else { DIRECTORY };
                self.open(c_str(names, 0), flags, follow)
            };
            let mut directory = loop {
                match open(&names, cut) {
                    // Usually its parent exists.
                    Err(Errno::NOENT) if cut > 0 => {}
                    other => break other,
                }
                put(&mut names, cut, b'/');
                while {
                    cut = cut.wrapping_sub(1);
                    names.get(cut).is_some_and(|&byte| byte != b'/')
                } {}
                put(&mut names, cut, 0);
            }
            .during(Call::Open)?;
            loop {
                if cut >= length {
                    return Ok(directory);
                }
                put(&mut names, cut, b'/');
                let start = cut + 1;
                while {
                    cut = cut.wrapping_add(1);
                    names.get(cut).is_some_and(|&byte| byte != b'/')
                } {}
                put(&mut names, cut, 0);
                let name = c_str(&names, start);
                if name.is_empty() {
                    continue;
                }
                let (made, call) = if file && cut == length {
                    let mode = Mode::from_raw_mode(0o644);
                    let made = mknodat(&directory, name, FileType::RegularFile, mode, 0);
                    (made, Call::MakeFile)
                } else {
                    let made = mkdirat(&directory, name, Mode::from_raw_mode(0o755));
                    (made, Call::MakeDirectory)
                };
                if made != Err(Errno::EXIST) {
                    made.during(call)?;
                }
                match open(&names, cut) {
                    // It exists, and where it leads does not.
                    Err(Errno::NOENT) if follow => {}
                    other => {
                        directory = other.during(Call::Open)?;
                        continue;
                    }
                }
                let mut link = [0; PATH];
                let read = readlinkat_raw(&directory, name, &mut link).during(Call::Open)?;
                let link = link.get(..read).unwrap_or_default();
                put(&mut names, cut, b'/');
                let at = if link.first() == Some(&b'/') { 0 } else { start };
                length = insert(&mut names, at, cut..length, link)?;
                break;
            }
        }
        Err(Failure::new(Call::Open, Errno::LOOP))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the string that begins at an index and ends at the next NUL.
fn c_str(bytes: &[u8], start: usize) -> &CStr {
    bytes.get(start..).and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok()).unwrap_or(c"")
}

/// Sets a byte, if the buffer has it.
fn put(buffer: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = buffer.get_mut(at) {
        *place = byte;
    }
}

/// Cuts a path at `at`, and continues it with `text` and with what it had in the range `kept`.
/// Returns its length, after which there is a NUL.
fn insert(names: &mut [u8; PATH], at: usize, kept: Range<usize>, text: &[u8]) -> Result<usize> {
    let long = Failure::new(Call::Open, Errno::NAMETOOLONG);
    let end = at + text.len();
    let length = end + kept.len();
    if length >= PATH {
        return Err(long);
    }
    names.copy_within(kept, end);
    names.get_mut(at..end).ok_or(long)?.copy_from_slice(text);
    put(names, length, 0);
    Ok(length)
}

#[cfg(test)]
mod tests;
