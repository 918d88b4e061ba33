//! Containers by id, below a directory that holds their states.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use pidone_config::{Code, Config, Error, Result};
use pidone_host::lsm;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::container::Container;
use crate::launch::options::Options;
use crate::trace;

/// Makes and loads containers.
#[derive(Debug, Clone)]
pub struct Factory {
    root: PathBuf,
    options: Options,
}

/// The longest id, in bytes.
const LONGEST_ID: usize = 1024;

impl Factory {
    /// Opens a directory for states, and makes it if it is missing, for its owner alone.
    ///
    /// # Errors
    /// [`Code::SystemError`] if it cannot be made, is no directory, or belongs to somebody else.
    pub fn new(root: impl Into<PathBuf>, options: Options) -> Result<Self> {
        let root = root.into();
        let root = std::path::absolute(&root).map_err(|error| Error::path("open", &root, error))?;
        make_directories(&root)?;
        let directory = open(&root)?;
        let stat =
            rustix::fs::fstat(&directory).map_err(|errno| Error::path("stat", &root, errno))?;
        // What others may write there would be acted on with this user's rights.
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(
                Error::path("open", &root, Errno::PERM).with_hint("it belongs to another user")
            );
        }
        Ok(Self { root, options })
    }

    /// The directory of the states.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How containers are started.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Makes a container. Nothing runs in it yet.
    ///
    /// # Errors
    /// [`Code::InvalidIdFormat`], [`Code::ConfigInvalid`], [`Code::IdInUse`], or
    /// [`Code::SystemError`].
    pub fn create(&self, id: &str, config: &Config) -> Result<Container> {
        check_id(id)?;
        trace::span("check the configuration", || {
            config.validate()?;
            config.check_host()?;
            lsm::check_host(config)
        })?;
        let path = self.root.join(id);
        let make = || match mkdirat(CWD, &path, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::in_use(id)),
            Err(errno) => Err(Error::path("mkdir", &path, errno)),
        };
        trace::span("make the directory", make)?;
        let made = open(&path).and_then(|directory| {
            Container::create(id, path.clone(), directory, config.clone(), self.options.clone())
        });
        // Nothing is in it that outlives the attempt, unless it is somebody else's by now.
        let others = [Code::IdInUse, Code::ContainerNotExists];
        if made.as_ref().is_err_and(|error| !others.contains(&error.code())) {
            let _ = std::fs::remove_dir_all(&path);
        }
        made
    }

    /// Finds a container.
    ///
    /// One whose state is lost or was never finished is found too, as one that does not run, so
    /// that [`Container::destroy`] can clean up.
    ///
    /// # Errors
    /// [`Code::InvalidIdFormat`], [`Code::ContainerNotExists`], or [`Code::SystemError`].
    pub fn load(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let path = self.root.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = match openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => {
                return Err(Error::reason(
                    Code::ContainerNotExists,
                    "load",
                    id,
                    "container does not exist",
                ));
            }
            Err(errno) => return Err(Error::path("open", &path, errno)),
        };
        Container::load(id, path, directory, self.options.clone())
    }

    /// The ids of all containers, in their order.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>> {
        let fail = |error| Error::path("read", &self.root, error);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            ids.extend(name.into_string().ok().filter(|name| check_id(name).is_ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

/// The grammar of ids: it keeps them usable as the name of a directory and as an argument.
fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '.' | '-');
    let well_formed = (1..=LONGEST_ID).contains(&id.len())
        && id.chars().all(allowed)
        && !id.starts_with('-')
        && id != "."
        && id != "..";
    if well_formed {
        return Ok(());
    }
    let shown: String = id.chars().take(40).collect();
    let rule = "not 1 to 1024 of A-Z a-z 0-9 _ + . - with no leading - and not . or ..";
    Err(Error::reason(Code::InvalidIdFormat, "id", shown, rule))
}

/// Makes a directory and those above it, for the owner alone.
fn make_directories(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::path("mkdir", path, error))
}

/// Opens a directory.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|errno| Error::path("open", path, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_grammar() {
        for id in ["a", "A-z_0.9+", ".hidden", &"x".repeat(1024)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "-x", "a b", "a\0", "ä", &"x".repeat(1025)] {
            assert_eq!(check_id(id).unwrap_err().code(), Code::InvalidIdFormat, "{id}");
        }
    }
}
