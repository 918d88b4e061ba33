//! The journal: what a container has on the host, recorded before it is made.
//!
//! Even if a start is interrupted or `state.json` is lost, the journal says which cgroups,
//! interfaces and process may exist. Lines of JSON are only appended to it. A reader ignores a
//! truncated line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use pidone_config::{Error, Result};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::container::state::Identity;

/// The name of the file in the container's directory.
pub(crate) const JOURNAL: &str = "journal";

/// How much of the journal is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// Cgroups that are about to be made; empty once they are no longer this container's.
    Cgroups(BTreeMap<String, PathBuf>),
    /// The unit of systemd that the cgroup is of.
    Scope(String),
    /// Missing parents of the cgroups, which are about to be made, outermost first.
    CgroupsMissing(Vec<PathBuf>),
    /// The cgroups were made, and these parents of them. Without this entry, the cgroups may be
    /// another container's.
    CgroupsMade(Vec<PathBuf>),
    /// Interfaces on the host that are about to be made.
    HostLinks(Vec<String>),
    /// Groups of resctrl that were made, those in others last.
    ResctrlMade(Vec<PathBuf>),
    /// The first process, which has just been cloned.
    Process(Identity),
}

/// The content of the journal. Later lines have replaced earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The cgroups; `None` if there is no entry, empty if they are no longer this container's.
    pub(crate) cgroups: Option<BTreeMap<String, PathBuf>>,
    /// The unit of systemd that the cgroup is of.
    pub(crate) scope: Option<String>,
    /// Parents of the cgroups that were missing before, outermost first.
    pub(crate) cgroups_missing: Vec<PathBuf>,
    /// Parents that were made for the cgroups; `None` if the cgroups may be another container's.
    pub(crate) cgroups_made: Option<Vec<PathBuf>>,
    /// Interfaces on the host.
    pub(crate) host_links: Vec<String>,
    /// Groups of resctrl, those in others last.
    pub(crate) resctrl: Vec<PathBuf>,
    /// The first process.
    pub(crate) process: Option<Identity>,
    /// Whether there is a file, even an empty one.
    exists: bool,
    /// Whether a line is none of the entries, other than the last one, which may be truncated.
    has_other_lines: bool,
}

impl Journal {
    /// Appends entries to the journal, in one write.
    pub(crate) fn append(directory: BorrowedFd<'_>, entries: &[Entry]) -> Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)
                .map_err(|_| Error::path("encode", JOURNAL, Errno::INVAL))?;
            lines.push(b'\n');
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(directory, JOURNAL, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| Error::path("open", JOURNAL, errno))?;
        File::from(file).write_all(&lines).map_err(|error| Error::path("write", JOURNAL, error))
    }

    /// Reads the journal; a missing file is an empty one.
    pub(crate) fn read(directory: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match openat(directory, JOURNAL, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(Self::default()),
            Err(errno) => return Err(Error::path("open", JOURNAL, errno)),
        };
        let mut bytes = Vec::with_capacity(4096);
        file.take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::path("read", JOURNAL, error))?;
        let mut journal = Self { exists: true, ..Self::default() };
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Entry::Cgroups(paths)) => {
                    journal.cgroups = Some(paths);
                    journal.scope = None;
                    journal.cgroups_missing = Vec::new();
                    journal.cgroups_made = None;
                }
                Ok(Entry::Scope(unit)) => journal.scope = Some(unit),
                Ok(Entry::CgroupsMissing(paths)) => journal.cgroups_missing = paths,
                Ok(Entry::CgroupsMade(parents)) => journal.cgroups_made = Some(parents),
                Ok(Entry::HostLinks(links)) => journal.host_links = links,
                Ok(Entry::ResctrlMade(groups)) => journal.resctrl = groups,
                Ok(Entry::Process(identity)) => journal.process = Some(identity),
                // What a truncated line announces was not done.
                Err(_) => journal.has_other_lines |= line.ends_with(b"\n"),
            }
        }
        Ok(journal)
    }

    /// Whether cgroups or a process may exist that the journal does not name: its first entry is
    /// written before they are made.
    pub(crate) fn is_damaged(&self) -> bool {
        let Self { cgroups, host_links, process, exists, has_other_lines, .. } = self;
        let is_empty = cgroups.is_none() && host_links.is_empty() && process.is_none();
        *exists && (*has_other_lines || is_empty)
    }
}
