//! What a container that waits for its start keeps.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::contestant::Contestant;
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{library, peer};

/// A process that waits: `proc_pid_smaps(5)`, `proc_pid_status(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes in memory.
    pub resident: u64,
    /// Bytes in memory, those that others map divided among them.
    pub proportional: u64,
    /// Threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
}

/// Has a container of the full scenario wait for its start, and looks at its first process.
///
/// # Errors
/// The contestant knows no such wait, or does not start here.
pub fn waiting(contestant: Contestant, place: &Place) -> Result<Memory> {
    let scenario = Scenario::OciNet;
    if contestant == Contestant::Library {
        let held = library::Held::waiting(place, scenario, "memory")?;
        return Memory::of(held.pid());
    }
    let peer = contestant.peer().filter(|peer| peer.is_oci_runtime());
    let peer = peer.ok_or("no wait before the start")?;
    let held = peer::Held::waiting(peer, place, scenario, "memory")?;
    Memory::of(held.pid())
}

impl Memory {
    fn of(pid: i32) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        Ok(Self {
            resident: kilobytes(&rollup, "Rss:")?,
            proportional: kilobytes(&rollup, "Pss:")?,
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// The bytes of one line.
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
    fn lines_of_the_rollup_are_bytes() {
        let text =
            "5560-7ffe ---p 0 00:00 0 [rollup]\nRss:    16 kB\nPss:     9 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(kilobytes(text, "Rss:").unwrap(), 16 * 1024);
        assert_eq!(kilobytes(text, "Pss:").unwrap(), 9 * 1024);
        assert!(kilobytes(text, "Swap:").is_err());
    }

    #[test]
    fn this_process_is_in_memory() {
        let own = Memory::of(std::process::id().cast_signed()).unwrap();
        assert!(own.resident >= own.proportional && own.threads > 0 && own.descriptors > 2);
    }
}
