//! The memory of a created container while it waits for its start.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::contestant::Contestant;
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{library, peer};

/// The resources of a waiting process: `proc_pid_smaps(5)`, `proc_pid_status(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident bytes.
    pub resident: u64,
    /// Resident bytes, where shared pages are divided among the processes that map them.
    pub proportional: u64,
    /// The number of threads.
    pub threads: usize,
    /// The number of open descriptors.
    pub descriptors: usize,
}

/// Creates a container of the full scenario and measures its first process while that waits.
///
/// # Errors
/// If the contestant has no separate create, or fails.
pub fn waiting(contestant: Contestant, place: &Place) -> Result<Memory> {
    let scenario = Scenario::OciNet;
    if contestant == Contestant::Library {
        let held = library::Held::waiting(place, scenario, "memory")?;
        return Memory::of_process(held.pid());
    }
    let peer = contestant.peer().filter(|peer| peer.is_oci_runtime());
    let peer = peer.ok_or("no wait before the start")?;
    let held = peer::Held::waiting(peer, place, scenario, "memory")?;
    Memory::of_process(held.pid())
}

impl Memory {
    /// Reads the resources of a process.
    fn of_process(pid: i32) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        Ok(Self {
            resident: kilobytes(&rollup, "Rss:")?,
            proportional: kilobytes(&rollup, "Pss:")?,
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// Returns the value of one line, in bytes.
fn kilobytes(text: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    let kilobytes: u64 = value.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_of_a_rollup_line_are_returned_as_bytes() {
        let text =
            "5560-7ffe ---p 0 00:00 0 [rollup]\nRss:    16 kB\nPss:     9 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(kilobytes(text, "Rss:").unwrap(), 16 * 1024);
        assert_eq!(kilobytes(text, "Pss:").unwrap(), 9 * 1024);
        assert!(kilobytes(text, "Swap:").is_err());
    }

    #[test]
    fn memory_of_this_process_is_read() {
        let memory = Memory::of_process(std::process::id().cast_signed()).unwrap();
        assert!(memory.resident >= memory.proportional);
        assert!(memory.threads > 0 && memory.descriptors > 2);
    }
}
