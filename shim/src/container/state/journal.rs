//! What a container has on the host, written down before it is made.
//!
//! Whatever interrupts a start, and even if `state.json` is lost, the journal tells which
//! cgroups, interfaces and process may be there. It is only appended to, a line at a time; a line
//! that was cut off is as good as not written.

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
const JOURNAL: &str = "journal";

/// The journal is not read beyond this size, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// Cgroups that are about to be made; none when they were given up.
    Cgroups(BTreeMap<String, PathBuf>),
    /// Directories above them that are missing and are about to be made, outermost first.
    CgroupsMissing(Vec<PathBuf>),
    /// These cgroups were made, and the directories above them that were missing. Until then they
    /// may be another container's.
    CgroupsMade(Vec<PathBuf>),
    /// Interfaces on the host that are about to be made.
    HostLinks(Vec<String>),
    /// The first process, which was just made.
    Process(Identity),
}

/// What all lines say together.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// The cgroups; `None` if nothing was written about any, empty if they were given up.
    pub(crate) cgroups: Option<BTreeMap<String, PathBuf>>,
    /// The directories above them that were missing before.
    pub(crate) cgroups_missing: Vec<PathBuf>,
    /// The directories that were made above them; `None` if the cgroups may not be ours.
    pub(crate) cgroups_made: Option<Vec<PathBuf>>,
    pub(crate) host_links: Vec<String>,
    pub(crate) process: Option<Identity>,
}

impl Journal {
    /// Appends lines, in one write.
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

    /// Reads what is there; later lines replace earlier ones.
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
        let mut journal = Self::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Entry::Cgroups(paths)) => {
                    journal.cgroups = Some(paths);
                    journal.cgroups_missing = Vec::new();
                    journal.cgroups_made = None;
                }
                Ok(Entry::CgroupsMissing(paths)) => journal.cgroups_missing = paths,
                Ok(Entry::CgroupsMade(parents)) => journal.cgroups_made = Some(parents),
                Ok(Entry::HostLinks(links)) => journal.host_links = links,
                Ok(Entry::Process(identity)) => journal.process = Some(identity),
                // Empty, or cut off by what interrupted the writer.
                Err(_) => {}
            }
        }
        Ok(journal)
    }
}
