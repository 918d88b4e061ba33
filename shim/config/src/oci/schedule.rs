//! Scheduling of a process: `process.scheduler`, `ioPriority` and `execCPUAffinity`.

use serde::{Deserialize, Serialize};

use super::find;
use crate::config::json::list;
use crate::config::process::numbers;
use crate::config::{self, CpuAffinity};
use crate::error::{Error, Result};
use crate::text::quoted;

/// The scheduling policies by the specification's name: `linux/sched.h`.
pub const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", DEADLINE),
];

/// The number of `SCHED_DEADLINE`.
const DEADLINE: u32 = 6;

/// The flags by the specification's name: `linux/sched.h`.
pub const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x1),
    ("SCHED_FLAG_RECLAIM", 0x2),
    ("SCHED_FLAG_DL_OVERRUN", 0x4),
    ("SCHED_FLAG_KEEP_POLICY", 0x8),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// The I/O scheduling classes by the specification's name: `linux/ioprio.h`.
pub const CLASSES: [(&str, u32); 3] =
    [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// The position of the class in the value of ioprio_set(2), in bits.
const CLASS_SHIFT: u32 = 13;

/// The scheduling policy of a process and its parameters: `sched_setattr(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// One of [`POLICIES`].
    pub policy: String,
    /// The nice value, -20 to 19.
    #[serde(skip_serializing_if = "is_zero")]
    pub nice: i32,
    /// The static priority, for `SCHED_FIFO` and `SCHED_RR`.
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Any of [`FLAGS`].
    #[serde(with = "list", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// The CPU time in each period, for `SCHED_DEADLINE`, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime: u64,
    /// The time within a period by which that CPU time is given, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub deadline: u64,
    /// The period in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub period: u64,
}

/// The I/O scheduling class and priority: `ioprio_set(2)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoPriority {
    /// One of [`CLASSES`].
    pub class: String,
    /// The priority, from 0, the highest, to 7.
    pub priority: i64,
}

/// The CPU affinity of a further process, as lists of CPUs in the format of `cpuset(7)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecCpuAffinity {
    /// The CPUs until the process is in the container's cgroup.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub initial: String,
    /// The CPUs from then on.
    #[serde(rename = "final", skip_serializing_if = "String::is_empty")]
    pub last: String,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

impl Scheduler {
    pub(super) fn attributes(&self) -> Result<config::Scheduler> {
        let place = |name: &str| format!("process.scheduler.{name}");
        let policy = find(&POLICIES, &self.policy, &place("policy"), "unknown policy")?;
        let mut flags = 0;
        for (index, flag) in self.flags.iter().enumerate() {
            flags |= find(&FLAGS, flag, &place(&format!("flags[{index}]")), "unknown flag")?;
        }
        if !(-20..=19).contains(&self.nice) {
            return Err(Error::config(place("nice"), self.nice, "must be from -20 to 19"));
        }
        let real_time = matches!(self.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
        let priority = match u32::try_from(self.priority) {
            Ok(0) => 0,
            Ok(priority) if real_time => priority,
            _ => {
                let reason = "is for SCHED_FIFO and SCHED_RR, from 1 up";
                return Err(Error::config(place("priority"), self.priority, reason));
            }
        };
        let times =
            [("runtime", self.runtime), ("deadline", self.deadline), ("period", self.period)];
        if let Some((name, time)) = times.iter().find(|(_, time)| *time != 0)
            && policy != DEADLINE
        {
            return Err(Error::config(place(name), time, "is for SCHED_DEADLINE"));
        }
        let (runtime, deadline, period) = (self.runtime, self.deadline, self.period);
        Ok(config::Scheduler {
            policy,
            flags,
            nice: self.nice,
            priority,
            runtime,
            deadline,
            period,
        })
    }
}

impl IoPriority {
    pub(super) fn value(&self) -> Result<u32> {
        let class = find(&CLASSES, &self.class, "process.ioPriority.class", "unknown class")?;
        match u32::try_from(self.priority) {
            Ok(priority @ 0..=7) => Ok(class << CLASS_SHIFT | priority),
            _ => {
                let place = "process.ioPriority.priority";
                Err(Error::config(place, self.priority, "must be from 0 to 7"))
            }
        }
    }
}

impl ExecCpuAffinity {
    pub(super) fn lists(&self) -> Result<CpuAffinity> {
        for (field, list) in [("initial", &self.initial), ("final", &self.last)] {
            let field = format!("process.execCPUAffinity.{field}");
            if !list.is_empty() && numbers(&field, list)?.is_empty() {
                return Err(Error::config(field, quoted(list), "names no processor"));
            }
        }
        Ok(CpuAffinity { initial: self.initial.clone(), last: self.last.clone() })
    }
}
