//! The mounts that the calling process sees, by `/proc/self/mountinfo`.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use pidone_config::config::mount::flags;
use pidone_config::{Code, Error, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::proc::{parse_mount_line, unescape};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A mount: a line of `mountinfo`.
struct Mount<'a> {
    id: u64,
    parent: u64,
    /// The mount's own options, separated by commas.
    options: &'a [u8],
    /// Whether it is a proc or a sysfs, and all of it.
    is_bare: bool,
    point: PathBuf,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let options = fields.nth(3)?;
        let line = parse_mount_line(line)?;
        let is_bare = line.root == b"/" && matches!(line.file_system, b"proc" | b"sysfs");
        Some(Self { id, parent, options, is_bare, point: unescape(line.point) })
    }
}

/// Parses the text of `mountinfo`.
///
/// # Errors
/// A line that is not as `proc_pid_mountinfo(5)` says.
fn parse(text: &[u8]) -> Result<Vec<Mount<'_>>> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let unknown = || Error::reason(Code::SystemError, "read", MOUNTINFO, "an unknown line");
    lines.map(|line| Mount::parse(line).ok_or_else(unknown)).collect()
}

fn read() -> Result<Vec<u8>> {
    fs::read(MOUNTINFO).map_err(|error| Error::path("read", MOUNTINFO, error))
}

/// Returns the id of the mount that a path leads to.
fn id_at(path: &Path) -> Result<u64> {
    statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .map(|found| found.stx_mnt_id)
        .map_err(|errno| Error::path("statx", path, errno))
}

/// Returns the mount points of all procs and sysfs that nothing covers, those below others first.
///
/// In a mount namespace with such a mount, a user namespace may mount another one, in which nothing
/// is masked: `mount_too_revealing` of the kernel. A mount of a part of the file system does not
/// count, nor does one that another mount covers.
///
/// # Errors
/// [`Code::SystemError`] if the mounts cannot be read, or if no path leads to one of them.
pub fn bare() -> Result<Vec<PathBuf>> {
    let text = read()?;
    let mounts = parse(&text)?;
    let is_covered = |mount: &Mount<'_>| {
        mounts.iter().any(|other| other.parent == mount.id && other.point == mount.point)
    };
    let mut points = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.is_bare && !is_covered(mount)) {
        if id_at(&mount.point)? != mount.id {
            let reason = "another mount hides it, so that it cannot be covered";
            return Err(Error::reason(
                Code::SystemError,
                "cover",
                mount.point.to_string_lossy(),
                reason,
            ));
        }
        points.push(mount.point.clone());
    }
    points.sort_by_key(|point| Reverse(point.components().count()));
    Ok(points)
}

/// Returns the attributes of the mount that a path leads to, as flags of [`flags::attribute`].
///
/// # Errors
/// [`Code::SystemError`] if the path leads nowhere, or the mounts cannot be read.
pub fn attributes(path: &Path) -> Result<u64> {
    let id = id_at(path)?;
    let text = read()?;
    let mounts = parse(&text)?;
    let missing = || Error::path("find the mount of", path, rustix::io::Errno::NOENT);
    let mount = mounts.iter().find(|mount| mount.id == id).ok_or_else(missing)?;
    let names = mount.options.split(|&byte| byte == b',');
    let known = names.filter_map(|name| flags::find(std::str::from_utf8(name).ok()?));
    Ok(known.filter(|(_, set)| *set).fold(0, |all, (bits, _)| all | flags::attributes(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        23 22 0:21 / /proc rw,nosuid,nodev,noexec - proc proc rw\n\
        24 23 0:21 /sys /proc/sys ro - proc proc rw\n\
        25 22 0:22 / /with\\040space ro master:3 - sysfs sysfs rw\n";

    #[test]
    fn lines_are_parsed() {
        let mounts = parse(TEXT).unwrap();
        let seen: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.id, mount.parent, mount.is_bare, mount.point.to_str().unwrap()))
            .collect();
        let expected = [
            (22, 1, false, "/"),
            (23, 22, true, "/proc"),
            (24, 23, false, "/proc/sys"),
            (25, 22, true, "/with space"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(mounts[1].options, b"rw,nosuid,nodev,noexec");
        assert!(parse(b"nonsense").is_err());
    }

    #[test]
    fn the_own_mounts_are_found() {
        // Another mount may cover it, but there is one.
        assert!(parse(&read().unwrap()).unwrap().iter().any(|mount| mount.is_bare));
        attributes(Path::new("/proc/self")).unwrap();
        assert!(attributes(Path::new("/nonexistent/path")).is_err());
    }
}
