//! The source of the configuration of a new container.
//!
//! The order is documented in `manual/exec.roff`, the manual page of `nsinit exec`.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pidone_config::config::{CreateOptions, MAX_SIZE};
use pidone_config::{Code, Config, Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::{DEFAULT_ID, display};

/// The name of a configuration file in the current directory.
const FILE: &str = "container.json";

/// The options that select the configuration.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// `--config`.
    pub(super) file: Option<&'a Path>,
    /// The options that override the configuration, and `--rootfs`.
    pub(super) options: &'a CreateOptions,
    /// The program.
    pub(super) program: &'a str,
    /// The search path for the program.
    pub(super) search: &'a str,
    /// The ID of the container.
    pub(super) id: &'a str,
    /// Whether the state is in the default directory.
    pub(super) default_root: bool,
}

/// A configuration, and the name of its source for messages.
pub(super) type Sourced = (Config, String);

impl Request<'_> {
    /// Reads or generates the configuration, and applies the options.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] if a file, an option or the result is wrong, and
    /// [`Code::SystemError`] with the path if a file cannot be read.
    pub(super) fn config(&self) -> Result<Sourced> {
        let (mut config, source) = match self.read()? {
            Some(sourced) => sourced,
            None => {
                let (mut config, source) = self.generate()?;
                self.name_cgroup(&mut config);
                (config, source)
            }
        };
        self.options.apply(&mut config)?;
        Ok((config, source))
    }

    /// Reads the configuration file, if the options name one or the current directory has one.
    fn read(&self) -> Result<Option<Sourced>> {
        if let Some(path) = self.file {
            return Ok(Some((Config::from_file(path)?, display(path.into()))));
        }
        if self.options.rootfs.is_some() {
            return Ok(None);
        }
        Ok(in_current_directory()?.map(|config| (config, FILE.to_owned())))
    }

    /// Returns a template or the built-in default.
    fn generate(&self) -> Result<Sourced> {
        let template = |rootfs: PathBuf| {
            let source = format!("the template for {}", rootfs.display());
            (Config::template(rootfs), source)
        };
        if let Some(rootfs) = &self.options.rootfs {
            let rootfs =
                std::path::absolute(rootfs).map_err(|error| Error::path("open", rootfs, error))?;
            return Ok(template(rootfs));
        }
        let current = current_directory()?;
        if current != Path::new("/") && contains_program(&current, self.program, self.search)? {
            return Ok(template(current));
        }
        Ok((Config::embedded(Path::new("/"))?, "the host's system directories".to_owned()))
    }

    /// Appends the process ID to the name of the cgroup, unless ID and directory are the defaults.
    ///
    /// Containers with different IDs or state directories can run at the same time, and must not
    /// share the cgroup that is named after their root file system.
    fn name_cgroup(&self, config: &mut Config) {
        name_after_root(config);
        if self.id == DEFAULT_ID && self.default_root {
            return;
        }
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.name = format!("{}-{}", cgroup.name, std::process::id());
        }
    }
}

/// Names a cgroup without a name after the root file system, as libcontainer's nsinit did.
pub(super) fn name_after_root(config: &mut Config) {
    if let Some(cgroup) = &mut config.cgroups
        && cgroup.name.is_empty()
    {
        let name = config.rootfs.file_name().map(|name| name.to_string_lossy().into_owned());
        cgroup.name = name.unwrap_or_else(|| "nsinit".to_owned());
    }
}

/// Returns the current directory.
pub(super) fn current_directory() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| Error::system("getcwd", "", error))
}

/// Reads the configuration in the current directory, if it has one.
///
/// The caller did not name this file, and it decides which parts of the host the container sees.
/// Other users who can write to the directory must not control it. It must therefore belong to the
/// caller, and must not run commands on the host.
fn in_current_directory() -> Result<Option<Config>> {
    // NONBLOCK: do not hang on a FIFO. The checks below use the open file, not the path.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let mut file = match openat(CWD, FILE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => {
            return Err(Error::path("open", FILE, Errno::LOOP).with_hint(NAME_IT));
        }
        Err(errno) => return Err(Error::path("open", FILE, errno)),
    };
    let metadata = file.metadata().map_err(|error| Error::path("stat", FILE, error))?;
    check_owner(&metadata, rustix::process::geteuid().as_raw())?;
    let mut text = Vec::new();
    // Read one byte more than allowed, to detect a larger file.
    let read = file.by_ref().take(MAX_SIZE + 1).read_to_end(&mut text);
    read.map_err(|error| Error::path("read", FILE, error))?;
    if text.len() > usize::try_from(MAX_SIZE).unwrap_or(usize::MAX) {
        return Err(Error::reason(Code::ConfigInvalid, "read", FILE, "larger than 16 MiB"));
    }
    let mut config = Config::from_json(&text)?;
    check_commands(&config)?;
    if config.rootfs.is_relative() && !(config.tmpfs_root && config.rootfs.as_os_str().is_empty()) {
        let rootfs = current_directory()?.join(&config.rootfs);
        // Resolve `..` through symbolic links. The validation reports a missing directory.
        config.rootfs = match rootfs.canonicalize() {
            Ok(real) if rootfs.components().any(|part| part == std::path::Component::ParentDir) => {
                real
            }
            _ => rootfs.components().collect(),
        };
    }
    Ok(Some(config))
}

const NAME_IT: &str = "give it with --config to use it all the same";

fn check_owner(metadata: &Metadata, uid: u32) -> Result<()> {
    let refuse = |reason: &'static str| {
        Err(Error::reason(Code::ConfigInvalid, "open", FILE, reason).with_hint(NAME_IT))
    };
    if !metadata.is_file() {
        return refuse("not a regular file");
    }
    if metadata.uid() != uid {
        return refuse("it belongs to another user");
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse("others may write to it");
    }
    Ok(())
}

fn check_commands(config: &Config) -> Result<()> {
    for (index, mount) in config.mounts.iter().enumerate() {
        for (field, commands) in
            [("premount_cmds", &mount.premount_cmds), ("postmount_cmds", &mount.postmount_cmds)]
        {
            if !commands.is_empty() {
                let field = format!("mounts[{index}].{field}");
                let reason = "a file that nobody named runs no commands";
                return Err(Error::config(field, "", reason).with_hint(NAME_IT));
            }
        }
    }
    Ok(())
}

/// Returns whether execvp(3) would find a program in a directory if that were the root.
///
/// Symbolic links are resolved inside the directory.
fn contains_program(root: &Path, program: &str, search: &str) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty())
        .map_err(|errno| Error::path("open", root, errno))?;
    let exists = |path: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&root, path, flags, Mode::empty(), resolve);
        found
            .and_then(rustix::fs::fstat)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    if program.contains('/') {
        return Ok(exists(program));
    }
    Ok(search.split(':').any(|directory| exists(&format!("{directory}/{program}"))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_program_is_found_only_below_the_root() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/busybox"), "").unwrap();
        symlink("/bin/busybox", root.join("bin/sh")).unwrap();
        symlink("/etc/passwd", root.join("bin/host")).unwrap();
        symlink("../../outside", root.join("bin/out")).unwrap();
        fs::write(base.path().join("outside"), "").unwrap();
        for (program, expected) in [
            ("sh", true),
            ("/bin/sh", true),
            ("bin/sh", true),
            ("/bin/../bin/./sh", true),
            ("host", false),
            ("out", false),
            ("bin", false),
            ("/bin", false),
            ("", false),
            ("nothing", false),
        ] {
            assert_eq!(
                contains_program(&root, program, "/sbin:/bin").unwrap(),
                expected,
                "{program}"
            );
        }
        assert!(!contains_program(&root, "sh", "/sbin").unwrap());
    }

    #[test]
    fn a_file_of_another_user_or_writable_by_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, "{}").unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let check = |uid| check_owner(&fs::metadata(&path).unwrap(), uid);
        for (mode, allowed) in
            [(0o600, true), (0o644, true), (0o664, false), (0o646, false), (0o666, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(uid).is_ok(), allowed, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(check(uid + 1).unwrap_err().to_string().contains("belongs to another user"));
        assert!(check_owner(&fs::metadata(directory.path()).unwrap(), uid).is_err());
    }

    #[test]
    fn commands_in_the_current_directorys_file_are_refused() {
        let json = br#"{"mounts": [{}, {"postmount_cmds": [{"path": "/bin/true"}]}]}"#;
        let error = check_commands(&Config::from_json(json).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("configuration `mounts[1].postmount_cmds`: "), "{error}");
    }
}
