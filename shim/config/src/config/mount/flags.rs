//! The names of mount options that are flags: mount(8), "Filesystem-independent mount options",
//! and the propagation of mount_namespaces(7).

/// Only reading.
pub const RDONLY: u64 = libc::MS_RDONLY;
/// Set-user-id bits and file capabilities have no effect.
pub const NOSUID: u64 = libc::MS_NOSUID;
/// Device nodes cannot be opened.
pub const NODEV: u64 = libc::MS_NODEV;
/// Nothing can be executed.
pub const NOEXEC: u64 = libc::MS_NOEXEC;
/// Writes are synchronous.
pub const SYNCHRONOUS: u64 = libc::MS_SYNCHRONOUS;
/// An existing mount is changed; never of use in a configuration.
pub const REMOUNT: u64 = libc::MS_REMOUNT;
/// Mandatory locks are permitted.
pub const MANDLOCK: u64 = libc::MS_MANDLOCK;
/// Changes of directories are synchronous.
pub const DIRSYNC: u64 = libc::MS_DIRSYNC;
/// Symbolic links are not followed (Linux 5.10).
pub const NOSYMFOLLOW: u64 = libc::MS_NOSYMFOLLOW;
/// Access times are not kept.
pub const NOATIME: u64 = libc::MS_NOATIME;
/// Access times of directories are not kept.
pub const NODIRATIME: u64 = libc::MS_NODIRATIME;
/// A bind mount.
pub const BIND: u64 = libc::MS_BIND;
/// With everything that is mounted below.
pub const REC: u64 = libc::MS_REC;
/// Some messages of the kernel's log are left out.
pub const SILENT: u64 = libc::MS_SILENT;
/// Mounts do not propagate, and it cannot be bound.
pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
/// Mounts do not propagate.
pub const PRIVATE: u64 = libc::MS_PRIVATE;
/// Mounts propagate from the source only.
pub const SLAVE: u64 = libc::MS_SLAVE;
/// Mounts propagate both ways.
pub const SHARED: u64 = libc::MS_SHARED;
/// Access times are kept when older than the change.
pub const RELATIME: u64 = libc::MS_RELATIME;
/// The inode's version counts changes.
pub const I_VERSION: u64 = libc::MS_I_VERSION;
/// Access times are always kept.
pub const STRICTATIME: u64 = libc::MS_STRICTATIME;
/// Times are written late.
pub const LAZYTIME: u64 = libc::MS_LAZYTIME;

/// Every kind of propagation: a mount has at most one.
pub const PROPAGATION: u64 = UNBINDABLE | PRIVATE | SLAVE | SHARED;

/// Everything that has a name here.
pub const ALL: u64 = {
    let mut all = 0;
    let mut index = 0;
    while index < TABLE.len() {
        all |= TABLE[index].1;
        index += 1;
    }
    all
};

/// `MOUNT_ATTR_*` of mount_setattr(2): what a mount can have apart from its file system.
pub mod attribute {
    /// Only reading.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field of the next three; it is cleared as a whole.
    pub const ATIME: u64 = 0x70;
    /// Access times are kept when older than the change.
    pub const RELATIME: u64 = 0;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    /// Everything that has a name here.
    pub const ALL: u64 = RDONLY | NOSUID | NODEV | NOEXEC | ATIME | NODIRATIME | NOSYMFOLLOW;
}

/// The flags of mount(2) that are attributes of one mount, each with its bit of mount_setattr(2).
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

/// The flags of mount(2) that belong to the file system itself, each with its name for fsconfig(2).
pub const SUPERBLOCK: [(u64, &str); 4] =
    [(SYNCHRONOUS, "sync"), (MANDLOCK, "mand"), (DIRSYNC, "dirsync"), (LAZYTIME, "lazytime")];

/// Returns the `MOUNT_ATTR_*` bits of `MS_*` flags; flags that are no attribute are left out.
#[must_use]
pub fn attributes(flags: u64) -> u64 {
    ATTRIBUTES.iter().filter(|(ms, _)| flags & ms != 0).map(|(_, attribute)| attribute).sum()
}

/// The options that hold for a mount and for those below it: the name, the bits of [`attribute`],
/// and whether it sets or clears them. The specification's; container.json has numbers for them.
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

/// The options: the name, its `MS_*` bits of mount(2), and whether it sets or clears them.
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

/// The bits of an option, and whether it sets or clears them; `None` if it is no flag.
#[must_use]
pub fn find(name: &str) -> Option<(u64, bool)> {
    find_in(TABLE, name)
}

/// The same for the options of [`RECURSIVE`].
#[must_use]
pub fn find_recursive(name: &str) -> Option<(u64, bool)> {
    find_in(RECURSIVE, name)
}

/// The bits of a propagation such as `rslave`, with [`REC`] for those that hold below it too;
/// `None` if it is none.
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
    fn the_tables_are_sorted_and_without_doubles() {
        for table in [TABLE, RECURSIVE] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }

    #[test]
    fn finds_options_by_name() {
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
    fn flags_of_a_mount_become_attributes() {
        assert_eq!(attributes(RDONLY | NOSUID | BIND | REC | RELATIME), 0x3);
        assert_eq!(attributes(NOATIME | NODIRATIME | NOSYMFOLLOW), 0x20_0090);
        assert!(SUPERBLOCK.iter().all(|(flag, name)| find(name) == Some((*flag, true))));
    }
}
