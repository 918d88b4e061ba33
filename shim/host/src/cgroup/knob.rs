//! Values for files of controllers, and the conversions that both versions share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pidone_config::config::{self, RdmaLimit};
use pidone_config::{Error, Result};
use rustix::io::Errno;

use super::directory::Directory;

/// The field whose values are written to files of cgroup v2 without conversion.
pub(super) const UNIFIED: &str = "unified";

/// What stands for the controller of files that every cgroup of cgroup v2 has.
pub(super) const CORE: &str = "cgroup";

/// A value to write to a file of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Knob {
    /// The field of the configuration, for messages.
    pub(super) field: &'static str,
    pub(super) controller: &'static str,
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    pub(super) if_absent: IfAbsent,
    pub(super) check: Check,
}

/// What to do if the kernel does not have the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfAbsent {
    /// Return an error.
    Refuse,
    /// Do nothing, since the value is what holds without the file.
    Skip,
    /// Write to another file the value in another form.
    Write(&'static str, String),
}

/// Whether to read the value back, for files that accept a value and then hold another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// The value is not read back.
    None,
    /// The kernel clamps the value to its range.
    CpuShares,
    /// Since Linux 6.1 the kernel accepts the value without any effect.
    KernelMemory,
}

impl Knob {
    pub(super) fn new(
        field: &'static str,
        controller: &'static str,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        Self {
            field,
            controller,
            file: file.into(),
            value: value.into(),
            if_absent: IfAbsent::Refuse,
            check: Check::None,
        }
    }

    pub(super) fn or(mut self, if_absent: IfAbsent) -> Self {
        self.if_absent = if_absent;
        self
    }

    pub(super) fn checked(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// Returns an error about the field.
    pub(super) fn refusal(&self, reason: String) -> Error {
        match self.field {
            UNIFIED => refusal(&format!("{UNIFIED}.{}", self.file), &self.value, reason),
            field => refusal(field, &self.value, reason),
        }
    }

    fn write(&self, directory: &Directory) -> std::result::Result<(), Failure> {
        let failed = |file: &str, value: &str, errno| Failure {
            errno,
            error: directory.write_error(file, value, errno),
        };
        match (directory.try_write(&self.file, &self.value), &self.if_absent) {
            (Ok(()), _) | (Err(Errno::NOENT), IfAbsent::Skip) => {}
            (Err(Errno::NOENT), IfAbsent::Write(file, value)) => {
                directory.try_write(file, value).map_err(|errno| failed(file, value, errno))?;
            }
            (Err(errno), _) => {
                let mut failure = failed(&self.file, &self.value, errno);
                if errno == Errno::NOENT {
                    failure.error = failure.error.with_hint("the kernel does not have this limit");
                }
                return Err(failure);
            }
        }
        let reason = self.broken(directory);
        reason.map_or(Ok(()), |reason| {
            Err(Failure { errno: Errno::RANGE, error: self.refusal(reason) })
        })
    }

    /// Reads the value back if the knob says so. Returns a reason if the kernel has not kept it.
    fn broken(&self, directory: &Directory) -> Option<String> {
        if self.check == Check::None {
            return None;
        }
        let wanted: i64 = self.value.parse().ok()?;
        let found: i64 = directory.read(&self.file).ok()??.trim().parse().ok()?;
        match self.check {
            Check::CpuShares if wanted > found => {
                Some(format!("the maximum allowed cpu-shares is {found}"))
            }
            Check::CpuShares if wanted < found => {
                Some(format!("the minimum allowed cpu-shares is {found}"))
            }
            // The kernel rounds the limit down to pages.
            Check::KernelMemory if wanted > 0 && found > wanted => {
                Some("this kernel does not limit kernel memory apart from memory".to_owned())
            }
            _ => None,
        }
    }
}

/// A write that failed.
struct Failure {
    errno: Errno,
    error: Error,
}

/// Writes the values of one controller.
///
/// Some values limit each other: memory may not exceed memory and swap, a quota its period, a burst
/// its quota. Depending on the old values, the kernel refuses some orders of writes with `EINVAL`.
/// So a refused value is written again after the others, for as long as that helps.
///
/// # Errors
/// The file, its value and the errno; `Code::ConfigInvalid` if the kernel has not kept the value.
pub(super) fn apply(directory: &Directory, knobs: &[Knob]) -> Result<()> {
    let mut waiting: Vec<&Knob> = knobs.iter().collect();
    loop {
        let mut refused = Vec::new();
        let mut first = None;
        for &knob in &waiting {
            match knob.write(directory) {
                Ok(()) => {}
                Err(Failure { errno: Errno::INVAL, error }) => {
                    refused.push(knob);
                    first.get_or_insert(error);
                }
                Err(failure) => return Err(with_usage(directory, knob, failure)),
            }
        }
        match first {
            None => return Ok(()),
            Some(error) if refused.len() == waiting.len() => return Err(error),
            Some(_) => waiting = refused,
        }
    }
}

/// Adds how much memory is in use to the error of a limit that is below.
fn with_usage(directory: &Directory, knob: &Knob, failure: Failure) -> Error {
    let Failure { errno, error } = failure;
    if errno == Errno::BUSY
        && knob.controller == "memory"
        && let Ok(Some(usage)) = directory.read("memory.usage_in_bytes")
    {
        return error.with_hint(format!("{} bytes are in use", usage.trim()));
    }
    error
}

fn refusal(field: &str, value: &str, reason: impl Into<Cow<'static, str>>) -> Error {
    Error::config(format!("cgroups.{field}"), value, reason)
}

/// Returns the knob of a limit. 0 leaves the kernel's value, and -1 is written as `unlimited`,
/// which holds too if the file does not exist.
pub(super) fn limit(
    field: &'static str,
    controller: &'static str,
    file: &'static str,
    value: i64,
    unlimited: &str,
) -> Result<Option<Knob>> {
    match value {
        0 => Ok(None),
        -1 => Ok(Some(Knob::new(field, controller, file, unlimited).or(IfAbsent::Skip))),
        1.. => Ok(Some(Knob::new(field, controller, file, value.to_string()))),
        _ => Err(refusal(field, &value.to_string(), "is negative; -1 stands for no limit")),
    }
}

/// Returns the limit of processes. Unlike other limits, 0 is one.
pub(super) fn pids(value: Option<i64>) -> Result<Option<Knob>> {
    match value {
        Some(0) => Ok(Some(Knob::new("pids_limit", "pids", "pids.max", "0"))),
        value => limit("pids_limit", "pids", "pids.max", value.unwrap_or_default(), "max"),
    }
}

/// Returns a number that is within a range, `None` for 0, which leaves the kernel's value.
pub(super) fn within(field: &'static str, value: i64, low: i64, high: i64) -> Result<Option<u64>> {
    match value {
        0 => Ok(None),
        value if (low..=high).contains(&value) => Ok(value.try_into().ok()),
        _ => Err(refusal(field, &value.to_string(), format!("is not within {low} to {high}"))),
    }
}

/// Returns the CPU shares, in the range of cgroup v1. The errors have libcontainer's words.
///
/// `None` also for an idle cgroup, which has no shares.
pub(super) fn cpu_shares(config: &config::Cgroup) -> Result<Option<u32>> {
    let value = config.cpu_shares;
    let refuse = |reason| Err(refusal("cpu_shares", &value.to_string(), reason));
    match value {
        0 => Ok(None),
        ..2 => refuse("the minimum allowed cpu-shares is 2"),
        262_145.. => refuse("the maximum allowed cpu-shares is 262144"),
        _ if config.cpu_idle == Some(true) => Ok(None),
        _ => Ok(value.try_into().ok()),
    }
}

/// Returns the knob of `cpu_idle`. It is written before the shares, which an idle cgroup does not
/// accept.
pub(super) fn cpu_idle(config: &config::Cgroup) -> Option<Knob> {
    let idle = config.cpu_idle?;
    let knob = Knob::new("cpu_idle", "cpu", "cpu.idle", if idle { "1" } else { "0" });
    Some(if idle { knob } else { knob.or(IfAbsent::Skip) })
}

/// Returns the knob of `cpu_burst`. A burst of 0 holds too if the file does not exist.
pub(super) fn cpu_burst(config: &config::Cgroup, file: &'static str) -> Option<Knob> {
    let burst = config.cpu_burst?;
    let knob = Knob::new("cpu_burst", "cpu", file, burst.to_string());
    Some(if burst == 0 { knob.or(IfAbsent::Skip) } else { knob })
}

/// Returns the knobs of limits of RDMA resources, which have the same form in both versions.
pub(super) fn rdma(limits: &BTreeMap<String, RdmaLimit>) -> Result<Vec<Knob>> {
    let mut knobs = Vec::new();
    for (device, limit) in limits {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(refusal("rdma", device, "is not the name of a device"));
        }
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
            line.extend(value.map(|value| format!(" {key}={value}")));
        }
        knobs.push(Knob::new("rdma", "rdma", "rdma.max", line));
    }
    Ok(knobs)
}

/// Checks a list of numbers as in `cpuset(7)`, such as `0-2,7`. Returns `None` if it is empty.
pub(super) fn list<'a>(field: &'static str, value: &'a str) -> Result<Option<&'a str>> {
    // Ranges may have strides, as in 0-31:2/4.
    let known = |c: char| c.is_ascii_digit() || ",-:/".contains(c);
    match value {
        "" => Ok(None),
        value if value.chars().all(known) => Ok(Some(value)),
        _ => Err(refusal(field, value, "is not a list of numbers like 0-2,7")),
    }
}

/// Parses lines of `major:minor value`.
pub(super) fn device_lines(field: &'static str, text: &str) -> Result<Vec<(String, u64)>> {
    let parse = |line: &str| -> Option<(String, u64)> {
        let (device, value) = line.trim().split_once(char::is_whitespace)?;
        let (major, minor) = device.split_once(':')?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        Some((format!("{major}:{minor}"), value.trim_start().parse().ok()?))
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| parse(line).ok_or_else(|| refusal(field, line, "is not `major:minor number`")))
        .collect()
}

/// Parses lines of `major:minor weight` with weights of cgroup v1.
pub(super) fn device_weights(field: &'static str, text: &str) -> Result<Vec<(String, u64)>> {
    let lines = device_lines(field, text)?;
    match lines.iter().find(|(_, weight)| !(10..=1000).contains(weight)) {
        None => Ok(lines),
        Some((device, weight)) => {
            Err(refusal(field, &format!("{device} {weight}"), "is not within 10 to 1000"))
        }
    }
}

/// Checks the size of a huge page, as in names of files: `2MB`.
pub(super) fn page_size(size: &str) -> Result<&str> {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    match digits {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(size)
        }
        _ => Err(refusal("hugetlb_limit.page_size", size, "is not a size like 2MB")),
    }
}

/// Formats knobs, for the tests of both versions.
#[cfg(test)]
pub(super) fn lines(knobs: &[Knob]) -> Vec<String> {
    knobs.iter().map(|knob| format!("{} {} {}", knob.controller, knob.file, knob.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_lines_have_numbers_and_a_value() {
        let lines = device_lines("x", "8:0 1048576\n\n 8:16\t7 \n").unwrap();
        assert_eq!(lines, [("8:0".to_owned(), 1_048_576), ("8:16".to_owned(), 7)]);
        for bad in ["8:0", "8 1", "8:0 -1", "8:0 1 2", "a:b 1", "8:0 rbps=1", "4294967296:0 1"] {
            assert!(device_lines("x", bad).is_err(), "{bad}");
        }
        assert!(device_weights("x", "8:0 9").is_err());
        assert_eq!(device_weights("x", "").unwrap(), []);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let limit = |value| limit("memory", "memory", "memory.max", value, "max");
        let value = |value| limit(value).unwrap().map(|knob| (knob.value, knob.if_absent));
        assert_eq!(value(0), None);
        assert_eq!(value(-1), Some(("max".into(), IfAbsent::Skip)));
        assert_eq!(value(i64::MAX), Some(("9223372036854775807".into(), IfAbsent::Refuse)));
        assert_eq!(
            limit(-2).unwrap_err().to_string(),
            "configuration `cgroups.memory = -2`: is negative; -1 stands for no limit"
        );
        assert!(within("x", 1001, 10, 1000).is_err());
        assert_eq!(list("x", "0-3,7").unwrap(), Some("0-3,7"));
        assert!(list("x", "0\n1").is_err());
        for bad in ["", "MB", "2mb", "2M", "/MB", "-2MB", "2 MB"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
        assert_eq!(page_size("1GB").unwrap(), "1GB");
        let cpu_shares = |cpu_shares| {
            super::cpu_shares(&config::Cgroup { cpu_shares, ..config::Cgroup::default() })
        };
        assert_eq!(
            cpu_shares(1).unwrap_err().to_string(),
            "configuration `cgroups.cpu_shares = 1`: the minimum allowed cpu-shares is 2"
        );
        assert_eq!(
            cpu_shares(1 << 20).unwrap_err().to_string(),
            "configuration `cgroups.cpu_shares = 1048576`: \
             the maximum allowed cpu-shares is 262144"
        );
    }

    #[test]
    fn an_idle_cgroup_has_no_shares() {
        let cgroup = |cpu_idle| config::Cgroup { cpu_idle, cpu_shares: 512, ..Default::default() };
        assert_eq!(cpu_shares(&cgroup(None)).unwrap(), Some(512));
        assert_eq!(cpu_shares(&cgroup(Some(false))).unwrap(), Some(512));
        assert_eq!(cpu_shares(&cgroup(Some(true))).unwrap(), None);
        assert_eq!(cpu_idle(&cgroup(None)), None);
        assert_eq!(cpu_idle(&cgroup(Some(false))).unwrap().if_absent, IfAbsent::Skip);
        assert_eq!(cpu_idle(&cgroup(Some(true))).unwrap().if_absent, IfAbsent::Refuse);
    }

    #[test]
    fn rdma_limits_of_a_device_are_one_line() {
        let limit = |hca_handles, hca_objects| RdmaLimit { hca_handles, hca_objects };
        let limits = [
            ("mlx5_0".to_owned(), limit(Some(2), Some(2000))),
            ("mlx5_1".to_owned(), limit(None, Some(0))),
        ];
        assert_eq!(
            lines(&rdma(&limits.into()).unwrap()),
            [
                "rdma rdma.max mlx5_0 hca_handle=2 hca_object=2000",
                "rdma rdma.max mlx5_1 hca_object=0"
            ]
        );
        assert!(rdma(&[("a b".to_owned(), limit(Some(1), None))].into()).is_err());
    }

    #[test]
    fn another_file_is_written_if_the_first_is_absent() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("io.weight"), "").unwrap();
        let directory = Directory::existing(root.path()).unwrap();
        let knob = Knob::new("blkio_weight", "io", "io.bfq.weight", "10");
        let error = apply(&directory, std::slice::from_ref(&knob)).unwrap_err().to_string();
        assert!(error.ends_with("directory (the kernel does not have this limit)"), "{error}");
        apply(&directory, &[knob.clone().or(IfAbsent::Skip)]).unwrap();
        apply(&directory, &[knob.or(IfAbsent::Write("io.weight", "1".into()))]).unwrap();
        assert_eq!(directory.read("io.weight").unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn a_value_that_the_kernel_has_not_kept_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("kmem"), "9223372036854771712").unwrap();
        let directory = Directory::existing(root.path()).unwrap();
        let knob = Knob::new("kernel_memory", "memory", "kmem", "4096");
        assert!(knob.clone().checked(Check::KernelMemory).broken(&directory).is_some());
        assert!(knob.broken(&directory).is_none());
    }
}
