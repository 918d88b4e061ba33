//! Paths below the container's root.
//!
//! The root file system is hostile. So every path is resolved by `openat2(2)` inside the root, and
//! everything is done to the resulting descriptor, or to one last component below it, which is
//! never followed.

use core::ffi::CStr;

use pidone_proto::Call;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

use crate::failure::{Failure, Result};

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

    /// Opens the directory that contains the last component of `path`, and returns it with that
    /// component. Makes it and its parents if they are missing.
    ///
    /// `follow` is about links in the directories. The last component is not looked at.
    pub(crate) fn parent<'p>(&self, path: &'p CStr, follow: bool) -> Result<(OwnedFd, &'p CStr)> {
        let (above, name) = Self::split(path)?;
        let directory = self.directories(path, above.len(), follow)?;
        Ok((directory, name))
    }

    /// Splits `path` into the path of its directory and its last component.
    pub(crate) fn split(path: &CStr) -> Result<(&[u8], &CStr)> {
        let bytes = path.to_bytes();
        let cut = bytes.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        let name = bytes_from(path, cut);
        if name.is_empty() || name == c"." || name == c".." {
            return Err(Failure::new(Call::Open, Errno::INVAL));
        }
        Ok((bytes.get(..cut).unwrap_or_default(), name))
    }

    /// Opens the directory at `path`. Makes it and its parents if they are missing.
    pub(crate) fn make_directories(&self, path: &CStr, follow: bool) -> Result<OwnedFd> {
        self.directories(path, path.count_bytes(), follow)
    }

    /// Opens the directory at the first `length` bytes of `path`.
    ///
    /// Missing directories are made one at a time, each below a descriptor. A name that becomes a
    /// link meanwhile is an error, since `mkdirat(2)` does not follow it.
    fn directories(&self, path: &CStr, length: usize, follow: bool) -> Result<OwnedFd> {
        const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
        let bytes = path.to_bytes().get(..length).unwrap_or_default();
        let mut buffer = [0; PATH];
        let mut start = bytes.len();
        let mut directory = loop {
            let path = prefix(&mut buffer, bytes.get(..start).unwrap_or_default())
                .ok_or(Failure::new(Call::Open, Errno::NAMETOOLONG))?;
            match self.open(path, DIRECTORY, follow) {
                Ok(directory) => break directory,
                // Usually its parent exists.
                Err(Errno::NOENT) if start > 0 => start -= 1,
                Err(errno) => return Err(Failure::new(Call::Open, errno)),
            }
            while start > 0 && bytes.get(start - 1) != Some(&b'/') {
                start -= 1;
            }
        };
        while start < bytes.len() {
            let rest = bytes.get(start..).unwrap_or_default();
            let end = start + rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            if end > start {
                let path = prefix(&mut buffer, bytes.get(..end).unwrap_or_default()).unwrap_or(c"");
                match mkdirat(&directory, bytes_from(path, start), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(Failure::new(Call::MakeDirectory, errno)),
                }
                directory = self
                    .open(path, DIRECTORY, follow)
                    .map_err(|errno| Failure::new(Call::Open, errno))?;
            }
            start = end + 1;
        }
        Ok(directory)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns a string without its first `skip` bytes; it is at least that long.
fn bytes_from(string: &CStr, skip: usize) -> &CStr {
    string
        .to_bytes_with_nul()
        .get(skip..)
        .and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok())
        .unwrap_or(c"")
}

/// Copies bytes without NUL into the buffer and adds a NUL; `None` if they do not fit.
fn prefix<'b>(buffer: &'b mut [u8; PATH], bytes: &[u8]) -> Option<&'b CStr> {
    buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
    *buffer.get_mut(bytes.len())? = 0;
    CStr::from_bytes_until_nul(buffer.get(..=bytes.len())?).ok()
}

#[cfg(test)]
mod tests;
