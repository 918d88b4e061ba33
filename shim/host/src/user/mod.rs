//! Looking up users and groups in the `/etc/passwd` and `/etc/group` of a container.
//!
//! Both files are untrusted. They are opened below the container's root, and must be regular and of
//! limited size. A line with an invalid field is ignored, so that no number is ever guessed
//! (CVE-2016-3697, CVE-2026-30892).
//!
//! ```
//! use std::fs::File;
//! use std::os::fd::AsFd;
//!
//! use pidone_host::user;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//! std::fs::create_dir(path.join("etc"))?;
//! std::fs::write(path.join("etc/passwd"), "web:x:33:34::/srv:/bin/false\n")?;
//! std::fs::write(path.join("etc/group"), "media:x:40:web\n")?;
//!
//! let root = File::open(path)?;
//! let user = user::resolve("web", root.as_fd())?;
//! assert_eq!((user.uid, user.gid, user.groups), (33, 34, vec![40]));
//! assert_eq!(user.home, "/srv");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use pidone_config::{Code, Error, Result};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, makedev, openat2, statat,
};
use rustix::io::Errno;

/// The size of the largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const FILE_MAX: u64 = 8 << 20;

/// The most supplementary groups that `setgroups(2)` accepts: `NGROUPS_MAX`.
const GROUPS_MAX: usize = 65536;

/// How often a path is looked up again if a directory is renamed meanwhile. libpathrs found that
/// 128 tries fail about once in 800 under a constant attack.
const TRIES: usize = 128;

/// Where the files are: below the root of a container.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    root: BorrowedFd<'a>,
    resolve: ResolveFlags,
}

impl<'a> Files<'a> {
    /// Returns the files below a root. A symbolic link leads to where it does in the container.
    pub fn below(root: BorrowedFd<'a>) -> Self {
        Self { root, resolve: ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS) }
    }

    /// Returns the files below a root, but not those behind a symbolic link: looking there fails
    /// with `ELOOP`. What is mounted elsewhere does not cover such files.
    pub fn without_links(root: BorrowedFd<'a>) -> Self {
        let Self { root, resolve } = Self::below(root);
        Self { root, resolve: resolve.union(ResolveFlags::NO_SYMLINKS) }
    }

    /// Opens a path with the root as `/`, never through a magic link of proc.
    fn open(self, path: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        for _ in 0..TRIES {
            match openat2(self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Reads a file. One that does not exist is empty, and so is one that is masked by the null
    /// device.
    fn read(self, path: &CStr) -> Result<Vec<u8>> {
        let name = path.to_string_lossy();
        let failed = |errno: Errno| Error::path("open", &*name, errno);
        // The file is examined before it is opened, since opening a device may have effects, as
        // with a tape or a watchdog. If it is replaced in between, the flags below do not block on
        // a FIFO and do not acquire a terminal, and the second check refuses it.
        let mut file: Option<OwnedFd> = None;
        for flags in [OFlags::PATH, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY] {
            let open = match self.open(path, flags) {
                Ok(open) => open,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
                Err(errno) => return Err(failed(errno)),
            };
            let stat = fstat(&open).map_err(failed)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => file = Some(open),
                FileType::CharacterDevice if stat.st_rdev == makedev(1, 3) => {
                    return Ok(Vec::new());
                }
                _ => {
                    let reason = "not a regular file";
                    return Err(Error::reason(Code::ConfigInvalid, "open", &*name, reason));
                }
            }
        }
        let mut text = Vec::new();
        if let Some(file) = file {
            let read = std::fs::File::from(file).take(FILE_MAX + 1).read_to_end(&mut text);
            read.map_err(|error| Error::path("read", &*name, error))?;
        }
        if u64::try_from(text.len()).is_ok_and(|length| length <= FILE_MAX) {
            return Ok(text);
        }
        Err(Error::reason(Code::ConfigInvalid, "read", &*name, "larger than 8 MiB"))
    }
}

impl<'a> From<BorrowedFd<'a>> for Files<'a> {
    fn from(root: BorrowedFd<'a>) -> Self {
        Self::below(root)
    }
}

/// The user and the groups of a process in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups of the user, in the order of `/etc/group`. Empty if a group was
    /// specified.
    pub groups: Vec<u32>,
    /// The home directory from `/etc/passwd`, or `/`.
    pub home: String,
}

impl User {
    /// Returns the user of two numbers, without looking at a file: its home directory is `/`.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for the largest number, which is no id.
    pub fn of_ids(uid: u32, gid: u32) -> Result<Self> {
        for id in [uid, gid] {
            Id::parse(&id.to_string())?;
        }
        Ok(Self { uid, gid, groups: Vec::new(), home: "/".to_owned() })
    }
}

/// Finds a user in a container, by its files or its root.
///
/// The forms are `""`, which is user 0, `user`, `uid`, `user:group` and `uid:gid`, with any
/// combination of names and numbers. Digits are always a number, even if a line has them as its
/// name. A number needs no file and no line. A line with that user id adds its group, home
/// directory and supplementary groups.
///
/// # Errors
/// [`Code::ConfigInvalid`] for a user or group that has none of these forms, is out of range or
/// does not exist, and for a file that is not regular or too large; [`Code::SystemError`] if a file
/// cannot be opened or read.
pub fn resolve<'a>(spec: &str, files: impl Into<Files<'a>>) -> Result<User> {
    let files = files.into();
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) if user.is_empty() || group.is_empty() || group.contains(':') => {
            return Err(refuse(spec, "must be user, uid, user:group or uid:gid"));
        }
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let user = if user.is_empty() { Id::Number(0) } else { Id::parse(user)? };
    let group = group.map(Id::parse).transpose()?;

    let passwd = files.read(c"etc/passwd")?;
    let account = lines(&passwd).find_map(|line| Account::parse(line).filter(|a| a.is(&user)));
    let (uid, gid, home) = match (&user, &account) {
        (_, Some(account)) => (account.uid, account.gid, account.home()),
        (Id::Number(uid), None) => (*uid, 0, "/".to_owned()),
        (Id::Name(name), None) => return Err(refuse(name, "no such user in etc/passwd")),
    };
    match (group, account) {
        (Some(group), _) => {
            let gid = group_id(group, files, &mut None)?;
            Ok(User { uid, gid, groups: Vec::new(), home })
        }
        (None, Some(account)) => {
            let file = files.read(c"etc/group")?;
            let member = |entry: Entry<'_>| entry.has(account.name).then_some(entry.gid);
            let mut seen = BTreeSet::new();
            let groups: Vec<u32> = lines(&file)
                .filter_map(|line| Entry::parse(line).and_then(member))
                .filter(|gid| seen.insert(*gid))
                .collect();
            if groups.len() > GROUPS_MAX {
                return Err(refuse(spec, "in more groups than the 65536 that the kernel takes"));
            }
            Ok(User { uid, gid, groups, home })
        }
        (None, None) => Ok(User { uid, gid, groups: Vec::new(), home }),
    }
}

/// The versions of `/etc/passwd` and `/etc/group`: device, inode, size, and the time of the last
/// status change in seconds and nanoseconds. While the version is the same, so is the content.
pub type Versions = [Option<(u64, u64, i64, i64, u64)>; 2];

/// Returns the versions of both files below `root`, `None` for a file that cannot be examined.
///
/// Opens a file only if a path has a symbolic link, which could lead out of the root. A link that
/// is created meanwhile only causes another file to be examined, which has another version.
pub fn versions(root: BorrowedFd<'_>) -> Versions {
    let look = |path| statat(root, path, AtFlags::SYMLINK_NOFOLLOW).ok();
    let is = |stat: &Stat, kind| FileType::from_raw_mode(stat.st_mode) == kind;
    let plain = look(c"etc").is_some_and(|stat| is(&stat, FileType::Directory));
    [c"etc/passwd", c"etc/group"].map(|path| {
        let stat = match look(path).filter(|_| plain) {
            Some(stat) if !is(&stat, FileType::Symlink) => stat,
            _ => Files::below(root).open(path, OFlags::PATH).and_then(fstat).ok()?,
        };
        Some((stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec))
    })
}

/// Finds groups in a container, each by name or number.
///
/// # Errors
/// Those of [`resolve`].
pub fn groups<'a>(names: &[String], files: impl Into<Files<'a>>) -> Result<Vec<u32>> {
    let (files, mut file) = (files.into(), None);
    names.iter().map(|name| group_id(Id::parse(name)?, files, &mut file)).collect()
}

/// Returns the id of a group. The file is read for the first name, and then kept in `file`.
fn group_id(group: Id<'_>, files: Files<'_>, file: &mut Option<Vec<u8>>) -> Result<u32> {
    let name = match group {
        Id::Number(gid) => return Ok(gid),
        Id::Name(name) => name,
    };
    let file = match file {
        Some(file) => file,
        None => file.insert(files.read(c"etc/group")?),
    };
    lines(file)
        .filter_map(Entry::parse)
        .find(|entry| entry.name == name.as_bytes())
        .map(|entry| entry.gid)
        .ok_or_else(|| refuse(name, "no such group in etc/group"))
}

fn refuse(spec: &str, reason: &'static str) -> Error {
    Error::reason(Code::ConfigInvalid, "user", spec, reason)
}

/// A user or group as specified by the caller.
enum Id<'a> {
    Number(u32),
    Name(&'a str),
}

impl<'a> Id<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text {
                "" => Err(refuse(text, "missing")),
                name => Ok(Self::Name(name)),
            };
        }
        let range = || refuse(text, "must be from 0 to 4294967294");
        number(text.as_bytes()).map(Self::Number).ok_or_else(range)
    }
}

/// Parses an id in digits. The largest number of 32 bits is invalid, because the kernel interprets
/// it as "no change".
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

/// A line of `passwd(5)`: `name:password:uid:gid:gecos:home:shell`.
struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl<'a> Account<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    }

    fn is(&self, user: &Id<'_>) -> bool {
        match user {
            Id::Number(uid) => self.uid == *uid,
            Id::Name(name) => self.name == name.as_bytes(),
        }
    }

    /// Returns the home directory, or `/` if it is not an absolute path that an environment can
    /// have.
    fn home(&self) -> String {
        match str::from_utf8(self.home) {
            Ok(home) if home.starts_with('/') && !home.contains('\0') => home.to_owned(),
            _ => "/".to_owned(),
        }
    }
}

/// A line of `group(5)`: `name:password:gid:user,user`.
struct Entry<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }

    fn has(&self, user: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|member| member == user)
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
