//! Files of `proc(5)`: the parsers of their text, and readers that return one value of a process.
//!
//! A parser takes the text of a file or of one of its lines, and returns `None` if the value is
//! missing or malformed. A reader makes the system calls that its description names, because the
//! start and the exec of a container call some of them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pidone_config::config::IdMap;
use pidone_config::{Error, Result};
use rustix::io::Errno;

/// Returns the value of a `key: value` line, as in `status` and `fdinfo`, without white space
/// around it.
pub fn parse_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(':');
    text.lines().find_map(value).map(str::trim)
}

/// Returns the id of a process in its own pid namespace: the last one of `NSpid` in its `status`.
/// See `proc_pid_status(5)`.
pub fn parse_innermost_pid(status: &str) -> Option<i32> {
    parse_value(status, "NSpid")?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Returns a set of signals from the `status` of a process, such as `SigBlk`: bit 0 is signal 1.
pub fn parse_signal_set(status: &str, key: &str) -> Option<u64> {
    u64::from_str_radix(parse_value(status, key)?, 16).ok()
}

/// Returns a field of `stat` by its number in `proc_pid_stat(5)`, from 3 on.
///
/// The second field, the name of the program, may hold spaces and parentheses.
pub fn parse_stat_field(stat: &str, number: usize) -> Option<&str> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// Parses `uid_map` or `gid_map`: `inside outside count` on each line. See `user_namespaces(7)`.
pub fn parse_id_maps(text: &str) -> Option<Vec<IdMap>> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        Some(IdMap { container_id: next()?, host_id: next()?, size: next()? })
    };
    text.lines().map(line).collect()
}

/// Returns the offset of the monotonic clock in nanoseconds from `timens_offsets`, which holds
/// seconds and nanoseconds. See `time_namespaces(7)`.
pub fn parse_monotonic_offset(text: &str) -> Option<i64> {
    let mut words =
        text.lines().find_map(|line| line.strip_prefix("monotonic"))?.split_whitespace();
    let mut number = || words.next()?.parse::<i64>().ok();
    number()?.checked_mul(1_000_000_000)?.checked_add(number()?)
}

/// A line of `mountinfo`: `id parent major:minor root point options [tag]... - type source
/// super-options`. See `proc_pid_mountinfo(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountLine<'a> {
    /// The directory of the file system that is mounted, with the escapes of the kernel.
    pub root: &'a [u8],
    /// The mount point, with the escapes of the kernel.
    pub point: &'a [u8],
    /// The type of the file system.
    pub file_system: &'a [u8],
    /// The options of the file system, separated by commas; empty if the line ends before them.
    pub super_options: &'a [u8],
}

/// Parses a line of `mountinfo`, without its end.
pub fn parse_mount_line(line: &[u8]) -> Option<MountLine<'_>> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    fields.find(|&field| field == b"-")?;
    let file_system = fields.next()?;
    let super_options = fields.nth(1).unwrap_or_default();
    Some(MountLine { root, point, file_system, super_options })
}

/// Undoes the octal escapes of the kernel in a path of `mountinfo`.
pub fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits[0] <= b'3');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Parses a line of `cgroup`, without its end: `hierarchy-id:controllers:path`. Returns the
/// controllers, separated by commas, and the path. See `cgroups(7)`.
pub fn parse_cgroup_line(line: &[u8]) -> Option<(&[u8], &Path)> {
    let mut fields = line.splitn(3, |&byte| byte == b':');
    let controllers = fields.nth(1)?;
    Some((controllers, Path::new(OsStr::from_bytes(fields.next()?))))
}

/// Reads the beginning of a file with one `read(2)`, which is enough for every `stat` and every
/// `fdinfo` up to the fields that this module looks for.
fn read_start(path: &str) -> io::Result<String> {
    let mut text = [0; 1024];
    let length = File::open(path)?.read(&mut text)?;
    // The name of a program need not be UTF-8, and may be cut in two.
    Ok(String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned())
}

/// Returns the parent of a process, `None` if the process was reaped. One `read(2)`.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = read_start(&format!("/proc/{pid}/stat")).ok()?;
    parse_stat_field(&stat, 4)?.parse().ok()
}

/// Returns when a process started, in clock ticks since boot. One `read(2)`.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path, also if the process was reaped.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = read_start(&path).map_err(|error| Error::path("read", &path, error))?;
    parse_stat_field(&stat, 22)
        .and_then(|start| start.parse().ok())
        .ok_or_else(|| Error::path("read", &path, Errno::PROTO))
}

/// Returns the id of this boot, which no process outlives: `proc_sys_kernel(5)`. One `read(2)`, the
/// first time only.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path.
pub fn boot_id() -> Result<&'static str> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id);
    }
    let id = read_start(PATH).map_err(|error| Error::path("read", PATH, error))?;
    Ok(ID.get_or_init(|| id.trim_end().to_owned()))
}

/// Returns the value of a key in the `fdinfo` of a descriptor of this process, `None` if the key
/// is missing. One `read(2)`.
///
/// # Errors
/// The file cannot be read, for example because the descriptor is not open.
pub fn descriptor_value(number: i32, key: &str) -> io::Result<Option<String>> {
    let info = read_start(&format!("/proc/self/fdinfo/{number}"))?;
    Ok(parse_value(&info, key).map(str::to_owned))
}

/// Returns the id of a process in its own pid namespace.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path, also if the process was reaped.
pub fn innermost_pid(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| Error::path("read", &path, error))?;
    parse_innermost_pid(&status).ok_or_else(|| Error::path("read", &path, Errno::PROTO))
}

/// Returns the offset of the monotonic clock that a process reads from that of this process, in
/// nanoseconds; `None` if one of them cannot be read.
pub fn clock_difference(pid: i32) -> Option<i64> {
    let offset = |process: &str| {
        let text = fs::read_to_string(format!("/proc/{process}/timens_offsets")).ok()?;
        parse_monotonic_offset(&text)
    };
    offset(&pid.to_string())?.checked_sub(offset("self")?)
}

/// Returns the OOM score adjustment of a process: `proc_pid_oom_score_adj(5)`.
pub fn oom_score_adj(pid: i32) -> Option<i32> {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns what a namespace link of a process points to, such as `net:[4026531840]`. Two processes
/// are in the same namespace if theirs are equal.
///
/// `process` is a pid or `self`; `file` is a name below `ns`.
///
/// # Errors
/// `NotFound` for a kernel without this type of namespace, or a process that was reaped;
/// `PermissionDenied` without the right to trace the process.
pub fn namespace(process: &str, file: &str) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/{file}"))
}

/// Returns the inode of a namespace of this process. One `stat(2)`.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path.
pub fn own_namespace_inode(file: &str) -> Result<u64> {
    let path = format!("/proc/self/ns/{file}");
    let namespace = fs::metadata(&path).map_err(|error| Error::path("stat", &path, error))?;
    Ok(namespace.ino())
}

/// Returns the processes in the pid namespace of a process and in the namespaces below it, by
/// their ids in the caller's, in ascending order: for containers without a cgroup.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] if the namespace of the process cannot be read.
pub fn in_pid_namespace_of(pid: i32) -> Result<Vec<i32>> {
    let own = namespace(&pid.to_string(), "pid")
        .map_err(|error| Error::system("read the pid namespace of", pid.to_string(), error))?;
    let entries = fs::read_dir("/proc").map_err(|error| Error::path("read", "/proc", error))?;
    let mut pids: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        // A process that has ended meanwhile is left out.
        .filter(|name| namespace(name, "pid").is_ok_and(|theirs| theirs == own))
        .filter_map(|name| name.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Returns the id map of this process's user namespace in a file below `/proc/self`, `uid_map` or
/// `gid_map`.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path.
pub fn own_id_maps(file: &str) -> Result<Vec<IdMap>> {
    read_id_maps(&format!("/proc/self/{file}"))
}

/// Returns the id map of a process's user namespace in a file below `/proc/PID`, `uid_map` or
/// `gid_map`. The outside is this process's namespace, unless both are the same.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] with the path.
pub fn id_maps(pid: i32, file: &str) -> Result<Vec<IdMap>> {
    read_id_maps(&format!("/proc/{pid}/{file}"))
}

fn read_id_maps(path: &str) -> Result<Vec<IdMap>> {
    let text = fs::read_to_string(path).map_err(|error| Error::path("read", path, error))?;
    parse_id_maps(&text).ok_or_else(|| Error::path("read", path, Errno::PROTO))
}

/// Whether processes of this process's user namespace may call `setgroups(2)`, as far as the
/// namespace decides it: `user_namespaces(7)`.
pub fn allows_setgroups() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// Returns a setting below `/proc/sys`, `None` if it does not exist.
pub fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh: NSpid:\t7\nNSpid:\t4711\t1\nSigBlk:\t0000000000010000\n\
        Mems_allowed:\t00000003\nMems_allowed_list:\t0-1\n";

    #[test]
    fn a_value_belongs_to_the_whole_key_at_the_start_of_a_line() {
        assert_eq!(parse_value(STATUS, "Mems_allowed_list"), Some("0-1"));
        assert_eq!(parse_value(STATUS, "Mems_allowed"), Some("00000003"));
        assert_eq!(parse_value(STATUS, "Mems"), None);
        assert_eq!(parse_value("", "Mems"), None);
        assert_eq!(parse_value("pos:\t0\nflags:\t02100000\n", "flags"), Some("02100000"));
    }

    #[test]
    fn the_innermost_pid_is_the_last_of_nspid() {
        assert_eq!(parse_innermost_pid(STATUS), Some(1));
        assert_eq!(parse_innermost_pid("NSpid:\t\n"), None);
        assert_eq!(parse_innermost_pid("Name:\tx\n"), None);
    }

    #[test]
    fn a_signal_set_is_a_hexadecimal_mask() {
        assert_eq!(parse_signal_set(STATUS, "SigBlk"), Some(1 << 16));
        assert_eq!(parse_signal_set(STATUS, "SigIgn"), None);
        assert_eq!(parse_signal_set("SigIgn:\tx\n", "SigIgn"), None);
    }

    #[test]
    fn stat_fields_follow_a_hostile_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_stat_field(stat, 3), Some("S"));
        assert_eq!(parse_stat_field(stat, 4), Some("1"));
        assert_eq!(parse_stat_field(stat, 22), Some("4711"));
        assert_eq!(parse_stat_field(stat, 24), None);
        assert_eq!(parse_stat_field(stat, 2), None);
        assert_eq!(parse_stat_field("12 (a S 1 2", 3), None);
        assert_eq!(parse_stat_field("", 3), None);
    }

    #[test]
    fn id_maps_have_three_numbers_on_a_line() {
        let map = |container_id, host_id, size| IdMap { container_id, host_id, size };
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(parse_id_maps(text), Some(vec![map(0, 1000, 1), map(1, 100_000, 65536)]));
        assert_eq!(parse_id_maps("0 0 4294967295"), Some(vec![map(0, 0, u32::MAX)]));
        assert_eq!(parse_id_maps("0 0"), None);
        assert_eq!(parse_id_maps("0 0 x"), None);
    }

    #[test]
    fn the_monotonic_offset_is_seconds_and_nanoseconds() {
        let text = "monotonic           3600        500000000\nboottime    -1    0\n";
        assert_eq!(parse_monotonic_offset(text), Some(3_600_500_000_000));
        assert_eq!(parse_monotonic_offset("monotonic -1 999999999\n"), Some(-1));
        for text in ["", "boottime 1 1", "monotonic", "monotonic 1", "monotonic x 1"] {
            assert_eq!(parse_monotonic_offset(text), None, "{text}");
        }
        assert_eq!(parse_monotonic_offset(&format!("monotonic {} 0", i64::MAX)), None);
    }

    #[test]
    fn mount_lines_have_any_number_of_tags() {
        for tags in ["", "shared:9 ", "shared:9 master:1 "] {
            let line = format!("32 31 0:29 /a /b rw {tags}- cgroup cgroup rw,cpu");
            let expected = MountLine {
                root: b"/a",
                point: b"/b",
                file_system: b"cgroup",
                super_options: b"rw,cpu",
            };
            assert_eq!(parse_mount_line(line.as_bytes()), Some(expected));
        }
        let short = parse_mount_line(b"1 2 3:4 / /x rw - cgroup2").unwrap();
        assert_eq!(short.super_options, b"");
        for garbage in ["", " - ", "1 2 3", "1 2 3:4 / /x", "1 2 3:4 / /x rw", "1 2 3:4 / /x -"] {
            assert_eq!(parse_mount_line(garbage.as_bytes()), None, "{garbage:?}");
        }
    }

    #[test]
    fn the_escapes_of_the_kernel_are_undone() {
        assert_eq!(unescape(b"/a\\040b\\011\\012\\134c"), Path::new("/a b\t\n\\c"));
        assert_eq!(unescape(b"\\400\\04"), Path::new("\\400\\04"));
    }

    #[test]
    fn a_cgroup_path_may_hold_colons() {
        let line = |text: &'static str| parse_cgroup_line(text.as_bytes());
        assert_eq!(line("0::/user.slice/x"), Some((&b""[..], Path::new("/user.slice/x"))));
        assert_eq!(line("1:cpu,cpuacct:/a:b"), Some((&b"cpu,cpuacct"[..], Path::new("/a:b"))));
        for garbage in ["", ":", "1:cpu", "x"] {
            assert_eq!(line(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn readers_find_this_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(parent(own), Some(i32::try_from(std::os::unix::process::parent_id()).unwrap()));
        assert!(start_time(own).unwrap() > 0);
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(in_pid_namespace_of(own).unwrap().contains(&own));
        assert_eq!(clock_difference(own), Some(0));
        assert_eq!(clock_difference(-1), None);
        assert_eq!(parent(i32::MAX), None);
        assert!(start_time(i32::MAX).is_err());
    }
}
