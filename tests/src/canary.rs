//! Files of the host that no container may change.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::Stop;

/// A tree whose every inode, content and time is known.
#[derive(Debug)]
pub struct Canary {
    path: PathBuf,
    before: BTreeMap<PathBuf, Seen>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    changed: (i64, i64),
    content: Vec<u8>,
}

impl Canary {
    /// Makes the tree: files, directories, and places where a runtime makes things in a root.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: PathBuf) -> Result<Self, Stop> {
        for directory in ["", "dev", "dev/pts", "proc", "proc/self", "sys", "etc", "empty"] {
            fs::create_dir_all(path.join(directory))?;
        }
        for file in ["file", "dev/null", "dev/ptmx", "dev/console", "etc/passwd", "proc/version"] {
            fs::write(path.join(file), format!("canary {file}\n"))?;
            fs::set_permissions(path.join(file), Permissions::from_mode(0o644))?;
        }
        let before = look(&path)?;
        Ok(Self { path, before })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is not as it was.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn changes(&self) -> Result<Vec<String>, Stop> {
        let now = look(&self.path)?;
        let paths = self.before.keys().chain(now.keys());
        let mut changed: Vec<String> = paths
            .filter(|path| self.before.get(*path) != now.get(*path))
            .map(|path| path.display().to_string())
            .collect();
        changed.dedup();
        Ok(changed)
    }

    /// Fails if anything is not as it was.
    ///
    /// # Errors
    /// The names of what changed.
    pub fn check(&self) -> Result<(), Stop> {
        let changes = self.changes()?;
        if changes.is_empty() {
            return Ok(());
        }
        Err(Stop::Failed(format!("the host's files changed: {}", changes.join(", "))))
    }
}

/// Looks at everything in a tree; links are not followed.
fn look(root: &Path) -> Result<BTreeMap<PathBuf, Seen>, Stop> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata()?;
        let mut content = Vec::new();
        if metadata.is_dir() {
            for entry in path.read_dir()? {
                left.push(entry?.path());
            }
        } else if metadata.is_symlink() {
            content = path.read_link()?.into_os_string().into_encoded_bytes();
        } else if metadata.is_file() {
            content = fs::read(&path)?;
        }
        let seen = Seen {
            inode: metadata.ino(),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            content,
        };
        found.insert(path, seen);
    }
    Ok(found)
}
