//! Containers by id, each with a directory for its state.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use pidone_config::{Code, Config, Error, Result};
use pidone_host::lsm;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::container::Container;
use crate::container::state::is_containers;
use crate::launch::options::Options;
use crate::trace;

/// Creates, loads and lists the containers whose states are below one directory.
///
/// The directory has one entry for each container, named by its id. Several factories, also of
/// several processes, may use the same one.
///
/// ```no_run
/// use pidone::{Config, Factory, Options};
///
/// # fn main() -> pidone::Result<()> {
/// let factory = Factory::new("/run/example", Options::default())?;
/// factory.create("web", &Config::template("/srv/busybox".into()))?;
/// for id in factory.list()? {
///     println!("{id}: {:?}", factory.load(&id)?.status()?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Factory {
    /// An absolute path.
    root: PathBuf,
    options: Options,
}

/// The maximum length of an id, in bytes.
const LONGEST_ID: usize = 1024;

impl Factory {
    /// Opens the directory `root` for states, creating it with mode 0700 if it is missing.
    ///
    /// `options` apply to every container of this factory.
    ///
    /// # Errors
    /// [`Code::SystemError`] if it cannot be created, is not a directory, or belongs to another
    /// user.
    pub fn new(root: impl Into<PathBuf>, options: Options) -> Result<Self> {
        let root = root.into();
        let root = std::path::absolute(&root).map_err(|error| Error::path("open", &root, error))?;
        make_directories(&root)?;
        let directory = open(&root)?;
        let stat =
            rustix::fs::fstat(&directory).map_err(|errno| Error::path("stat", &root, errno))?;
        // States that another user can write would be acted on with this user's privileges.
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(
                Error::path("open", &root, Errno::PERM).with_hint("it belongs to another user")
            );
        }
        Ok(Self { root, options })
    }

    /// Returns the directory of the states, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns how containers are started.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Creates a container: validates its configuration and writes its state.
    ///
    /// Nothing runs yet, and nothing else is made on the host.
    ///
    /// # Errors
    /// [`Code::InvalidIdFormat`] unless the id has 1 to 1024 of `A-Z a-z 0-9 _ + . -`, does not
    /// begin with `-`, and is not `.` or `..`; [`Code::ConfigInvalid`]; [`Code::IdInUse`];
    /// [`Code::SystemError`].
    pub fn create(&self, id: &str, config: &Config) -> Result<Container> {
        check_id(id)?;
        let mut config = config.clone();
        if let Some(cgroup) = &mut config.cgroups
            && cgroup.name.is_empty()
        {
            id.clone_into(&mut cgroup.name);
        }
        trace::span("check the configuration", || {
            config.validate()?;
            config.check_host()?;
            lsm::check_host(&config)
        })?;
        let path = self.root.join(id);
        let make = || match mkdirat(CWD, &path, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::in_use(id)),
            Err(Errno::NAMETOOLONG) => Err(too_long(id, "longer than a file name can be")),
            Err(errno) => Err(Error::path("mkdir", &path, errno)),
        };
        trace::span("make the directory", make)?;
        let made = open(&path).and_then(|directory| {
            Container::create(id, path.clone(), directory, config, self.options.clone())
        });
        // The directory holds nothing worth keeping, unless another process has taken it over.
        let others = [Code::IdInUse, Code::ContainerNotExists];
        if made.as_ref().is_err_and(|error| !others.contains(&error.code())) {
            let _ = std::fs::remove_dir_all(&path);
        }
        made
    }

    /// Loads a container by its id.
    ///
    /// A container whose state is damaged or incomplete loads as one that does not run, so that
    /// [`Container::destroy`] can clean up after it.
    ///
    /// # Errors
    /// [`Code::InvalidIdFormat`], [`Code::ContainerNotExists`], or [`Code::SystemError`].
    pub fn load(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let directory = self.open(id)?;
        Container::load(id, self.root.join(id), directory, self.options.clone())
    }

    /// Opens the directory with an id as its name.
    fn open(&self, id: &str) -> Result<OwnedFd> {
        let path = self.root.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(CWD, &path, flags, Mode::empty()) {
            Ok(directory) => Ok(directory),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => {
                let reason = "container does not exist";
                Err(Error::reason(Code::ContainerNotExists, "load", id, reason))
            }
            Err(errno) => Err(Error::path("open", &path, errno)),
        }
    }

    /// Returns the ids of all containers, sorted. Directories of others are left out.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>> {
        let fail = |error| Error::path("read", &self.root, error);
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let Ok(id) = name.into_string() else { continue };
            if check_id(&id).is_err() {
                continue;
            }
            match self.open(&id) {
                Ok(directory) => {
                    let own = is_containers(directory.as_fd(), &self.root.join(&id))?;
                    ids.extend(own.then_some(id));
                }
                // No directory, or one that was just removed.
                Err(error) if error.code() == Code::ContainerNotExists => {}
                Err(error) if matches!(error.errno(), Some(Errno::NOTDIR | Errno::LOOP)) => {}
                Err(error) => return Err(error),
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Checks the format of an id, which is used as a file name and as a command-line argument.
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
    if id.len() > LONGEST_ID {
        return Err(too_long(id, "longer than 1024 bytes"));
    }
    let shown: String = id.chars().take(40).collect();
    let rule = "not 1 to 1024 of A-Z a-z 0-9 _ + . - with no leading - and not . or ..";
    Err(Error::reason(Code::InvalidIdFormat, "id", shown, rule))
}

/// Returns the error for an id that is too long, which is not shown as a whole.
fn too_long(id: &str, reason: &'static str) -> Error {
    let shown: String = id.chars().take(40).collect();
    Error::reason(Code::InvalidIdFormat, "id", format!("{shown}..."), reason)
}

/// Creates a directory with its missing parents, all with mode 0700.
fn make_directories(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::path("mkdir", path, error))
}

/// Opens a directory for reading.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|errno| Error::path("open", path, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_the_grammar_are_refused() {
        for id in ["a", "A-z_0.9+", ".hidden", &"x".repeat(1024)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "-x", "a b", "a\0", "ä", &"x".repeat(1025)] {
            assert_eq!(check_id(id).unwrap_err().code(), Code::InvalidIdFormat, "{id}");
        }
    }
}
