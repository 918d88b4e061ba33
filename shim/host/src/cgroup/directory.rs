//! An open directory of a cgroup file system.
//!
//! Every file of a cgroup is opened by one name relative to the descriptor. An operation of several
//! steps so stays with the same cgroup, even if the cgroup is removed and created again meanwhile,
//! and no name can lead out of it.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pidone_config::{Code, Error, Result};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// The size of `cgroup.procs` with the largest possible `pid_max` of 4194304, at eight bytes a
/// line.
const LARGEST_FILE: usize = 32 << 20;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The version of the cgroup file system of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// An open directory, and the path at which it was opened, for messages.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// Whether the error means that the cgroup or its file does not exist. Reading an open file of a
/// removed cgroup returns `ENODEV`.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

impl Directory {
    /// Opens a directory by its absolute path, no part of which may be a symbolic link. Returns
    /// `None` if it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        match open_absolute(path, DIRECTORY) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(Error::path("open", path, errno)),
        }
    }

    /// Opens a directory as [`Directory::open`] does. A missing directory is an error.
    pub(super) fn existing(path: &Path) -> Result<Self> {
        Self::open(path)?.ok_or_else(|| Error::path("open", path, Errno::NOENT))
    }

    /// Returns the path, for messages and for cgroups above this one.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the version of the file system.
    ///
    /// # Errors
    /// It is not a cgroup file system.
    pub(super) fn version(&self) -> Result<Version> {
        version_of(&self.path, rustix::fs::fstatfs(&self.fd))
    }

    /// Opens one file of the cgroup.
    pub(super) fn file(&self, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        self.entry(&name, flags)
    }

    fn entry(&self, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // Only a single name, so that one built from a configuration stays in the directory even
        // without openat2.
        if name.is_empty() || name.to_bytes().contains(&b'/') || name == c"." || name == c".." {
            return Err(Errno::INVAL);
        }
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        match rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => {
                rustix::fs::openat(&self.fd, name, flags | OFlags::NOFOLLOW, Mode::empty())
            }
            other => other,
        }
    }

    /// Whether the cgroup has this file.
    pub(super) fn has(&self, name: &str) -> bool {
        rustix::fs::accessat(&self.fd, name, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Reads a file that is not a list of processes. Returns `None` if the file or the cgroup does
    /// not exist.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>> {
        match self.file(name, OFlags::RDONLY).and_then(|fd| read_record(fd.as_fd())) {
            Ok(text) => Ok(Some(text)),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    /// Reads a file that every cgroup has. A cgroup that no longer exists is an error.
    pub(super) fn read_existing(&self, name: &str) -> Result<String> {
        self.read(name)?.ok_or_else(|| self.error("read", name, Errno::NOENT))
    }

    /// Writes a value with one `write(2)`, as the kernel requires.
    pub(super) fn try_write(&self, name: &str, value: &str) -> rustix::io::Result<()> {
        let fd = self.file(name, OFlags::WRONLY)?;
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()))?;
        if written == value.len() { Ok(()) } else { Err(Errno::IO) }
    }

    /// Writes as [`Directory::try_write`] does. The error has the file, the value and the errno.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<()> {
        self.try_write(name, value).map_err(|errno| self.write_error(name, value, errno))
    }

    /// Returns the error of a write: ``write `FILE = VALUE`: ERRNO``.
    pub(super) fn write_error(&self, name: &str, value: &str, errno: Errno) -> Error {
        Error::system("write", format!("{} = {value}", self.path.join(name).display()), errno)
    }

    /// Returns an error about one file of the cgroup.
    pub(super) fn error(&self, verb: &'static str, name: &str, errno: Errno) -> Error {
        Error::path(verb, self.path.join(name), errno)
    }

    /// Changes the owner and group of one file of the cgroup, or of the directory for `""`.
    pub(super) fn change_owner(
        &self,
        name: &str,
        owner: Uid,
        group: Gid,
    ) -> rustix::io::Result<()> {
        if name.is_empty() {
            return rustix::fs::fchown(&self.fd, Some(owner), Some(group));
        }
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let file = self.entry(&name, OFlags::PATH)?;
        rustix::fs::chownat(&file, c"", Some(owner), Some(group), AtFlags::EMPTY_PATH)
    }

    /// Creates a sub-cgroup.
    #[cfg(test)]
    pub(super) fn make(&self, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
    }

    /// Removes a sub-cgroup, which must have no processes and no sub-cgroups.
    pub(super) fn remove(&self, name: &OsStr) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Opens a sub-cgroup. Returns `None` if it no longer exists.
    pub(super) fn child(&self, name: &OsStr) -> Result<Option<Self>> {
        let path = self.path.join(name);
        let name =
            CString::new(name.as_bytes()).map_err(|_| Error::path("open", &path, Errno::INVAL))?;
        match self.entry(&name, DIRECTORY) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(Error::path("open", path, errno)),
        }
    }

    /// Opens the parent directory. A cgroup cannot be moved to another parent, so this is always
    /// the directory through which it was opened.
    pub(super) fn parent(&self) -> Result<Self> {
        let path = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        match rustix::fs::openat(&self.fd, c"..", DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(errno) => Err(Error::path("open", path, errno)),
        }
    }

    /// Returns the names of the sub-cgroups. Empty if the cgroup no longer exists.
    pub(super) fn children(&self) -> Result<Vec<OsString>> {
        self.names(|kind| kind == FileType::Directory)
    }

    /// Returns the names of the files. Empty if the cgroup no longer exists.
    pub(super) fn files(&self) -> Result<Vec<OsString>> {
        self.names(|kind| kind == FileType::RegularFile)
    }

    fn names(&self, wanted: impl Fn(FileType) -> bool) -> Result<Vec<OsString>> {
        let list = || -> rustix::io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if wanted(entry.file_type()) && name != b"." && name != b".." {
                    names.push(OsStr::from_bytes(name).to_owned());
                }
            }
            Ok(names)
        };
        match list() {
            Err(errno) if is_gone(errno) => Ok(Vec::new()),
            other => other.map_err(|errno| Error::path("read", &self.path, errno)),
        }
    }

    /// Returns a second descriptor of the same directory.
    pub(super) fn duplicate(&self) -> Result<Self> {
        match rustix::io::fcntl_dupfd_cloexec(&self.fd, 0) {
            Ok(fd) => Ok(Self { fd, path: self.path.clone() }),
            Err(errno) => Err(Error::path("dup", &self.path, errno)),
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Directory> for OwnedFd {
    fn from(directory: Directory) -> Self {
        directory.fd
    }
}

/// Opens a file by its absolute path, no part of which may be a symbolic link.
fn open_absolute(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
        // A seccomp filter that is older than the system call refuses it.
        Err(Errno::NOSYS) => rustix::fs::openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()),
        other => other,
    }
}

fn version_of(path: &Path, found: rustix::io::Result<rustix::fs::StatFs>) -> Result<Version> {
    let found = found.map_err(|errno| Error::path("statfs", path, errno))?.f_type;
    if found == libc::CGROUP_SUPER_MAGIC {
        Ok(Version::V1)
    } else if found == libc::CGROUP2_SUPER_MAGIC {
        Ok(Version::V2)
    } else {
        let path = path.to_string_lossy();
        Err(Error::reason(Code::SystemError, "open cgroup", path, "not a cgroup file system"))
    }
}

/// Opens a file of a cgroup for writing by its absolute path, for a caller that needs no other file
/// of the cgroup.
pub(super) fn open_to_write(path: &Path) -> Result<OwnedFd> {
    open_absolute(path, OFlags::WRONLY | OFlags::CLOEXEC)
        .map_err(|errno| Error::path("open", path, errno))
}

/// Reads a file of a cgroup by its absolute path as [`Directory::read`] does, for a caller that
/// needs no other file of the cgroup.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let opened = open_absolute(path, OFlags::RDONLY | OFlags::CLOEXEC);
    match opened.and_then(|fd| read_record(fd.as_fd())) {
        Ok(text) => Ok(Some(text)),
        Err(errno) if is_gone(errno) => Ok(None),
        Err(errno) => Err(Error::path("read", path, errno)),
    }
}

/// Reads an open file from its beginning to its end.
pub(super) fn read_all(fd: BorrowedFd<'_>) -> rustix::io::Result<String> {
    read_until(fd, |read, _| read == 0)
}

/// Reads an open file as [`read_all`] does, but stops after a read that did not fill the buffer.
///
/// This saves a system call for files that the kernel generates as one record, which are all except
/// lists of processes.
pub(super) fn read_record(fd: BorrowedFd<'_>) -> rustix::io::Result<String> {
    read_until(fd, |read, room| read < room)
}

/// Reads until `is_last` returns true for the size of a read and the room that it had.
///
/// Invalid UTF-8 is replaced: the kernel generates the text, but names in it may be any bytes.
fn read_until(
    fd: BorrowedFd<'_>,
    is_last: impl Fn(usize, usize) -> bool,
) -> rustix::io::Result<String> {
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        let room = &mut bytes[length..];
        let offset = u64::try_from(length).map_err(|_| Errno::FBIG)?;
        let size = room.len();
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *room, offset))?;
        length += read;
        if is_last(read, size) {
            break;
        }
        if length == bytes.len() {
            if length >= LARGEST_FILE {
                return Err(Errno::FBIG);
            }
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_names_in_the_directory_are_opened() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("inner")).unwrap();
        std::fs::write(root.path().join("outer"), "x").unwrap();
        std::fs::write(root.path().join("inner/pids.max"), "").unwrap();
        std::os::unix::fs::symlink("../outer", root.path().join("inner/link")).unwrap();
        let directory = Directory::existing(&root.path().join("inner")).unwrap();

        directory.write("pids.max", "12").unwrap();
        assert_eq!(directory.read("pids.max").unwrap().as_deref(), Some("12"));
        assert_eq!(directory.read("pids.none").unwrap(), None);
        for name in ["../outer", "..", ".", "", "/etc/hostname", "a\0b"] {
            assert_eq!(directory.try_write(name, "1"), Err(Errno::INVAL), "{name:?}");
        }
        assert_eq!(directory.try_write("link", "1"), Err(Errno::LOOP));
        let error = directory.write("cpu.max", "1 2").unwrap_err().to_string();
        assert!(error.ends_with("/inner/cpu.max = 1 2`: No such file or directory"), "{error}");
    }

    #[test]
    fn a_symbolic_link_in_the_path_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.path().join("link")).unwrap();
        assert!(Directory::open(&root.path().join("link")).is_err());
        assert!(Directory::open(&root.path().join("none")).unwrap().is_none());
        assert!(Directory::existing(&root.path().join("real")).unwrap().version().is_err());
    }

    #[test]
    fn directories_and_files_are_listed_apart() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("child")).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let directory = Directory::existing(root.path()).unwrap();
        assert_eq!(directory.children().unwrap(), ["child"]);
        assert_eq!(directory.files().unwrap(), ["file"]);
        let child = directory.child(OsStr::new("child")).unwrap().unwrap();
        assert_eq!(child.parent().unwrap().children().unwrap(), ["child"]);
    }
}
