//! Capabilities, scheduling, CPU affinity and memory policy of a process, in the kernel's numbers.

use serde::{Deserialize, Serialize};

use super::json::list;
use crate::error::{Error, Result};

/// The capability sets of a process: `capabilities(7)`. Names may have any spelling that
/// [`capability::name`](super::capability::name) accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// The bounding set: the limit of what exec can grant.
    pub bounding: Vec<String>,
    /// The effective set: what the kernel checks.
    pub effective: Vec<String>,
    /// The permitted set: what may be made effective.
    pub permitted: Vec<String>,
    /// The inheritable set: what is kept by exec of a file with the same inheritable capabilities.
    pub inheritable: Vec<String>,
    /// The ambient set: what is kept by exec of any file without privileges.
    pub ambient: Vec<String>,
}

/// The scheduling of a process: `sched_setattr(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// The nice value, for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// The static priority, for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// The CPU time in each period, for `SCHED_DEADLINE`, in nanoseconds.
    pub runtime: u64,
    /// The time within a period by which that CPU time is given, in nanoseconds.
    pub deadline: u64,
    /// The period in nanoseconds.
    pub period: u64,
}

/// The CPU affinity of a further process, as lists of CPUs in the format of `cpuset(7)`: `0-2,7`.
/// An empty list changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuAffinity {
    /// The CPUs until the process is in the container's cgroup.
    pub initial: String,
    /// The CPUs from then on.
    pub last: String,
}

/// A NUMA memory policy: `set_mempolicy(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*` flags.
    pub mode: u32,
    /// The memory nodes.
    #[serde(default, with = "list")]
    pub nodes: Vec<u32>,
}

/// The largest number in a list of CPUs or memory nodes.
const LARGEST: u32 = 8191;

/// Parses a list of numbers in the format of `cpuset(7)`, such as `0-2,7`. The result is sorted.
///
/// # Errors
/// [`crate::Code::ConfigInvalid`] with the field.
pub fn numbers(field: &str, list: &str) -> Result<Vec<u32>> {
    let refuse = || Error::config(field, list, "is not a list of numbers like 0-2,7");
    let number = |text: &str| {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse());
        }
        let number: Option<u32> = text.parse().ok().filter(|number| *number <= LARGEST);
        number.ok_or_else(|| {
            Error::config(field, list, format!("{text} is out of range: at most {LARGEST}"))
        })
    };
    let mut all: Vec<u32> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        if first > last {
            return Err(refuse());
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Returns numbers as a bit mask of 64-bit words, as the kernel takes it.
pub fn bits(numbers: &[u32]) -> Vec<u64> {
    let mut words: Vec<u64> = Vec::new();
    for number in numbers {
        let index = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if words.len() <= index {
            words.resize(index + 1, 0);
        }
        words[index] |= 1 << (number % 64);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_have_the_format_of_cpuset() {
        assert_eq!(numbers("x", "0-2,7, 2").unwrap(), [0, 1, 2, 7]);
        assert!(numbers("x", "").unwrap().is_empty());
        for bad in ["a", "1-", "-1", "3-1", "0x1", "8192", "99999999999", "1;2", "+1"] {
            assert!(numbers("x", bad).is_err(), "{bad}");
        }
        assert_eq!(bits(&[0, 2, 65]), [5, 2]);
        assert!(bits(&[]).is_empty());
    }
}
