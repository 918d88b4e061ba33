//! Mount options that are flags: mount(8), "Filesystem-independent mount options", and the
//! propagation types of `mount_namespaces(7)`.
//!
//! The plan of a container takes the numbers from here, too.

/// The mount is read-only.
pub const RDONLY: u64 = libc::MS_RDONLY;
/// Set-user-ID bits and file capabilities are ignored.
pub const NOSUID: u64 = libc::MS_NOSUID;
/// Device nodes cannot be opened.
pub const NODEV: u64 = libc::MS_NODEV;
/// Programs cannot be executed.
pub const NOEXEC: u64 = libc::MS_NOEXEC;
/// Writes are synchronous.
pub const SYNCHRONOUS: u64 = libc::MS_SYNCHRONOUS;
/// Changes an existing mount.
pub const REMOUNT: u64 = libc::MS_REMOUNT;
/// Mandatory locks are permitted.
pub const MANDLOCK: u64 = libc::MS_MANDLOCK;
/// Changes of directories are synchronous.
pub const DIRSYNC: u64 = libc::MS_DIRSYNC;
/// Symbolic links are not followed (Linux 5.10).
pub const NOSYMFOLLOW: u64 = libc::MS_NOSYMFOLLOW;
/// Access times are not updated.
pub const NOATIME: u64 = libc::MS_NOATIME;
/// Access times of directories are not updated.
pub const NODIRATIME: u64 = libc::MS_NODIRATIME;
/// The mount is a bind mount.
pub const BIND: u64 = libc::MS_BIND;
/// The flags also apply to all mounts below.
pub const REC: u64 = libc::MS_REC;
/// Some messages are left out of the kernel log.
pub const SILENT: u64 = libc::MS_SILENT;
/// Mount events do not propagate, and the mount cannot be bound.
pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
/// Mount events do not propagate.
pub const PRIVATE: u64 = libc::MS_PRIVATE;
/// Mount events propagate from the master only.
pub const SLAVE: u64 = libc::MS_SLAVE;
/// Mount events propagate in both directions.
pub const SHARED: u64 = libc::MS_SHARED;
/// Access times are updated if they are older than the last change.
pub const RELATIME: u64 = libc::MS_RELATIME;
/// The version of an inode counts its changes.
pub const I_VERSION: u64 = libc::MS_I_VERSION;
/// Access times are always updated.
pub const STRICTATIME: u64 = libc::MS_STRICTATIME;
/// Timestamps are written lazily.
pub const LAZYTIME: u64 = libc::MS_LAZYTIME;

/// All propagation types. A mount has at most one.
pub const PROPAGATION: u64 = UNBINDABLE | PRIVATE | SLAVE | SHARED;

/// All flags that have a name here.
pub const ALL: u64 = {
    let mut all = 0;
    let mut index = 0;
    while index < TABLE.len() {
        all |= TABLE[index].1;
        index += 1;
    }
    all
};

/// `MOUNT_ATTR_*` flags of `mount_setattr(2)`: the attributes of a mount, as opposed to those of
/// its file system.
pub mod attribute {
    /// The mount is read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits and file capabilities are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field that holds one of the next three. It can only be cleared as a whole.
    pub const ATIME: u64 = 0x70;
    /// Access times are updated if they are older than the last change.
    pub const RELATIME: u64 = 0;
    /// Access times are not updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    /// All attributes that have a name here.
    pub const ALL: u64 = RDONLY | NOSUID | NODEV | NOEXEC | ATIME | NODIRATIME | NOSYMFOLLOW;
}

/// The `MS_*` flags that are attributes of a mount, each with its `MOUNT_ATTR_*` flag.
const ATTRIBUTES: [(u64, u64); 8] = [
    (RDONLY, attribute::RDONLY),
    (NOSUID, attribute::NOSUID),
    (NODEV, attribute::NODEV),
    (NOEXEC, attribute::NOEXEC),
    (NOATIME, attribute::NOATIME),
    (STRICTATIME, attribute::STRICTATIME),
    (NODIRATIME, attribute::NODIRATIME),
    (NOSYMFOLLOW, attribute::NOSYMFOLLOW),
];

/// The `MS_*` flags that are flags of the file system, each with its name for `fsconfig(2)`.
pub const SUPERBLOCK: [(u64, &str); 4] =
    [(SYNCHRONOUS, "sync"), (MANDLOCK, "mand"), (DIRSYNC, "dirsync"), (LAZYTIME, "lazytime")];

/// Returns the `MOUNT_ATTR_*` flags for `MS_*` flags. Flags that are not attributes are left out.
#[must_use]
pub fn attributes(flags: u64) -> u64 {
    ATTRIBUTES.iter().filter(|(ms, _)| flags & ms != 0).map(|(_, attribute)| attribute).sum()
}

/// The options of the OCI specification that apply to a mount and to all mounts below: the name,
/// the flags of [`attribute`], and whether the option sets or clears them. `container.json` has
/// numbers for them.
pub const RECURSIVE: &[(&str, u64, bool)] = &[
    ("ratime", attribute::ATIME, false),
    ("rdev", attribute::NODEV, false),
    ("rdiratime", attribute::NODIRATIME, false),
    ("rexec", attribute::NOEXEC, false),
    ("rnoatime", attribute::NOATIME, true),
    ("rnodev", attribute::NODEV, true),
    ("rnodiratime", attribute::NODIRATIME, true),
    ("rnoexec", attribute::NOEXEC, true),
    ("rnorelatime", attribute::ATIME, false),
    ("rnostrictatime", attribute::ATIME, false),
    ("rnosuid", attribute::NOSUID, true),
    ("rnosymfollow", attribute::NOSYMFOLLOW, true),
    ("rrelatime", attribute::RELATIME, true),
    ("rro", attribute::RDONLY, true),
    ("rrw", attribute::RDONLY, false),
    ("rstrictatime", attribute::STRICTATIME, true),
    ("rsuid", attribute::NOSUID, false),
    ("rsymfollow", attribute::NOSYMFOLLOW, false),
];

/// The other options: the name, the `MS_*` flags of `mount(2)`, and whether the option sets or
/// clears them.
pub const TABLE: &[(&str, u64, bool)] = &[
    ("async", SYNCHRONOUS, false),
    ("atime", NOATIME, false),
    ("bind", BIND, true),
    ("defaults", 0, true),
    ("dev", NODEV, false),
    ("diratime", NODIRATIME, false),
    ("dirsync", DIRSYNC, true),
    ("exec", NOEXEC, false),
    ("iversion", I_VERSION, true),
    ("lazytime", LAZYTIME, true),
    ("loud", SILENT, false),
    ("mand", MANDLOCK, true),
    ("noatime", NOATIME, true),
    ("nodev", NODEV, true),
    ("nodiratime", NODIRATIME, true),
    ("noexec", NOEXEC, true),
    ("noiversion", I_VERSION, false),
    ("nolazytime", LAZYTIME, false),
    ("nomand", MANDLOCK, false),
    ("norelatime", RELATIME, false),
    ("nostrictatime", STRICTATIME, false),
    ("nosuid", NOSUID, true),
    ("nosymfollow", NOSYMFOLLOW, true),
    ("private", PRIVATE, true),
    ("rbind", BIND | REC, true),
    ("relatime", RELATIME, true),
    ("remount", REMOUNT, true),
    ("ro", RDONLY, true),
    ("rprivate", PRIVATE | REC, true),
    ("rshared", SHARED | REC, true),
    ("rslave", SLAVE | REC, true),
    ("runbindable", UNBINDABLE | REC, true),
    ("rw", RDONLY, false),
    ("shared", SHARED, true),
    ("silent", SILENT, true),
    ("slave", SLAVE, true),
    ("strictatime", STRICTATIME, true),
    ("suid", NOSUID, false),
    ("symfollow", NOSYMFOLLOW, false),
    ("sync", SYNCHRONOUS, true),
    ("unbindable", UNBINDABLE, true),
];

/// Returns the flags of an option, and whether it sets or clears them; `None` if the name is not in
/// [`TABLE`].
#[must_use]
pub fn find(name: &str) -> Option<(u64, bool)> {
    find_in(TABLE, name)
}

/// Does the same for the options in [`RECURSIVE`].
#[must_use]
pub fn find_recursive(name: &str) -> Option<(u64, bool)> {
    find_in(RECURSIVE, name)
}

/// Returns the flags of a propagation such as `rslave`, with [`REC`] if it also applies to all
/// mounts below; `None` for any other name.
#[must_use]
pub fn find_propagation(name: &str) -> Option<u64> {
    find(name).map(|(bits, _)| bits).filter(|bits| bits & PROPAGATION != 0)
}

fn find_in(table: &[(&str, u64, bool)], name: &str) -> Option<(u64, bool)> {
    let index = table.binary_search_by_key(&name, |(name, ..)| name).ok()?;
    Some((table[index].1, table[index].2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_unique() {
        for table in [TABLE, RECURSIVE] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn options_are_found_by_name() {
        assert_eq!(find("ro"), Some((RDONLY, true)));
        assert_eq!(find("rw"), Some((RDONLY, false)));
        assert_eq!(find("rbind"), Some((BIND | REC, true)));
        assert_eq!(find("nosuidd"), None);
        assert_eq!(find(""), None);
        assert_eq!(find_recursive("rro"), Some((attribute::RDONLY, true)));
        assert_eq!(find_recursive("ro"), None);
        assert_eq!(find_propagation("rslave"), Some(SLAVE | REC));
        assert_eq!(find_propagation("rbind"), None);
    }

    #[test]
    fn attributes_of_flags() {
        assert_eq!(attributes(RDONLY | NOSUID | BIND | REC | RELATIME), 0x3);
        assert_eq!(attributes(NOATIME | NODIRATIME | NOSYMFOLLOW), 0x20_0090);
        assert!(SUPERBLOCK.iter().all(|(flag, name)| find(name) == Some((*flag, true))));
    }
}
