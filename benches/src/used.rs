//! Processor time and page faults of processes: `getrusage(2)`.

use std::ops::{AddAssign, Sub};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Processor time in microseconds, and page faults without I/O.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Time outside the kernel.
    pub user: u64,
    /// Time in the kernel.
    pub system: u64,
    /// Page faults.
    pub faults: u64,
}

impl Used {
    /// Returns what this process has used, with its descendants that have been waited for.
    ///
    /// # Errors
    /// If the kernel returns negative times.
    pub fn so_far() -> Result<Self> {
        let convert = |usage: Usage| -> Result<Self> {
            Ok(Self {
                user: u64::try_from(usage.user_time().num_microseconds())?,
                system: u64::try_from(usage.system_time().num_microseconds())?,
                faults: u64::try_from(usage.minor_page_faults())?,
            })
        };
        let mut used = convert(getrusage(UsageWho::RUSAGE_SELF)?)?;
        used += convert(getrusage(UsageWho::RUSAGE_CHILDREN)?)?;
        Ok(used)
    }
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
        self.faults += other.faults;
    }
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            user: self.user.saturating_sub(other.user),
            system: self.system.saturating_sub(other.system),
            faults: self.faults.saturating_sub(other.faults),
        }
    }
}
