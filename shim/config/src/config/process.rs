//! What a process may ask of the scheduler, of memory and of capabilities, in the kernel's numbers.

use serde::{Deserialize, Serialize};

use super::json::list;
use crate::error::{Error, Result};

/// The capabilities of a process by set, capabilities(7): names in any spelling of
/// [`capability::name`](super::capability::name).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What it can ever gain.
    pub bounding: Vec<String>,
    /// What the kernel asks for.
    pub effective: Vec<String>,
    /// What may become effective.
    pub permitted: Vec<String>,
    /// What survives the exec of a file with inheritable capabilities.
    pub inheritable: Vec<String>,
    /// What survives every exec.
    pub ambient: Vec<String>,
}

/// How the kernel schedules a process: `sched_setattr(2)`.
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
    /// Nanoseconds in each period, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds within which they are given.
    pub deadline: u64,
    /// The period in nanoseconds.
    pub period: u64,
}

/// The processors of a further process: lists as in cpuset(7), `0-2,7`; empty leaves them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuAffinity {
    /// Until it is in the container's cgroup.
    pub initial: String,
    /// From then on.
    pub last: String,
}

/// The NUMA policy of memory: `set_mempolicy(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*` flags.
    pub mode: u32,
    /// The nodes.
    #[serde(default, with = "list")]
    pub nodes: Vec<u32>,
}

/// The largest number in a list of processors or nodes.
const LARGEST: u32 = 8191;

/// Reads a list of numbers as in cpuset(7), `0-2,7`.
///
/// # Errors
/// [`crate::Code::ConfigInvalid`] with the field.
pub fn numbers(field: &str, list: &str) -> Result<Vec<u32>> {
    let refuse = || Error::config(field, list, "is not a list of numbers like 0-2,7");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u32> = digits.then(|| text.parse().ok()).flatten();
        number.filter(|number| *number <= LARGEST).ok_or_else(refuse)
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

/// The numbers as a bit mask in words of 64 bits, as the kernel takes it.
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
    fn lists_of_numbers_are_those_of_cpuset() {
        assert_eq!(numbers("x", "0-2,7, 2").unwrap(), [0, 1, 2, 7]);
        assert!(numbers("x", "").unwrap().is_empty());
        for bad in ["a", "1-", "-1", "3-1", "0x1", "8192", "99999999999", "1;2", "+1"] {
            assert!(numbers("x", bad).is_err(), "{bad}");
        }
        assert_eq!(bits(&[0, 2, 65]), [5, 2]);
        assert!(bits(&[]).is_empty());
    }
}
