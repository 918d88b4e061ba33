//! Where the configuration of a new container comes from.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pidone_config::config::{CreateOptions, MAX_SIZE};
use pidone_config::{Code, Config, Error, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::{DEFAULT_ID, shown};

/// The file in the current directory.
const FILE: &str = "container.json";

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// `--config`.
    pub(super) file: Option<&'a Path>,
    /// The options; `--rootfs` is among them.
    pub(super) options: &'a CreateOptions,
    /// The program.
    pub(super) program: &'a str,
    /// Where it is looked for.
    pub(super) search: &'a str,
    /// The container's id.
    pub(super) id: &'a str,
    /// Whether the states are where they are by default.
    pub(super) default_root: bool,
}

/// A configuration, and where it comes from for people.
pub(super) type Sourced = (Config, String);

impl Request<'_> {
    /// Reads or makes the configuration, and applies the options.
    pub(super) fn config(&self) -> Result<Sourced> {
        let (mut config, source) = match self.read()? {
            Some(sourced) => sourced,
            None => {
                let (mut config, source) = self.made()?;
                self.name_cgroup(&mut config);
                (config, source)
            }
        };
        self.options.apply(&mut config)?;
        Ok((config, source))
    }

    fn read(&self) -> Result<Option<Sourced>> {
        if let Some(path) = self.file {
            return Ok(Some((Config::from_file(path)?, shown(path.into()))));
        }
        if self.options.rootfs.is_some() {
            return Ok(None);
        }
        Ok(in_current_directory()?.map(|config| (config, FILE.to_owned())))
    }

    fn made(&self) -> Result<Sourced> {
        let template = |rootfs: PathBuf| {
            let source = format!("the template for {}", rootfs.display());
            (Config::template(rootfs), source)
        };
        if let Some(rootfs) = &self.options.rootfs {
            let rootfs =
                std::path::absolute(rootfs).map_err(|error| Error::path("open", rootfs, error))?;
            return Ok(template(rootfs));
        }
        let here = current_directory()?;
        if here != Path::new("/") && holds(&here, self.program, self.search)? {
            return Ok(template(here));
        }
        Ok((Config::embedded(Path::new("/"))?, "the host's system directories".to_owned()))
    }

    /// Containers of one directory must not meet in one cgroup, if they have names of their own
    /// or are told apart by their states.
    fn name_cgroup(&self, config: &mut Config) {
        if self.id == DEFAULT_ID && self.default_root {
            return;
        }
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.name = format!("{}-{}", cgroup.name, std::process::id());
        }
    }
}

/// The current directory.
pub(super) fn current_directory() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| Error::system("getcwd", "", error))
}

/// The configuration in the current directory, if it has one.
///
/// Nobody named this file, and it decides what of the host a container sees: so that it cannot
/// come from somebody who may write to the directory, it must be the caller's own, and cannot run
/// commands on the host.
fn in_current_directory() -> Result<Option<Config>> {
    // Not to be stopped by a fifo. What is checked is what is read.
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
    // One byte more than allowed, for the reader of the text to refuse.
    let read = file.by_ref().take(MAX_SIZE + 1).read_to_end(&mut text);
    read.map_err(|error| Error::path("read", FILE, error))?;
    if text.len() > usize::try_from(MAX_SIZE).unwrap_or(usize::MAX) {
        return Err(Error::reason(Code::ConfigInvalid, "read", FILE, "larger than 16 MiB"));
    }
    let mut config = Config::from_json(&text)?;
    check_commands(&config)?;
    if config.rootfs.is_relative() && !(config.tmpfs_root && config.rootfs.as_os_str().is_empty()) {
        let rootfs = current_directory()?.join(&config.rootfs);
        // `..` leads where it leads, and a missing directory is for validation to name.
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

/// Whether a directory, taken as a root, holds a program: as execvp(3) would find it there.
///
/// Links are followed inside the directory only.
fn holds(root: &Path, program: &str, search: &str) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty())
        .map_err(|errno| Error::path("open", root, errno))?;
    let is_there = |path: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&root, path, flags, Mode::empty(), resolve);
        found
            .and_then(rustix::fs::fstat)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    if program.contains('/') {
        return Ok(is_there(program));
    }
    Ok(search.split(':').any(|directory| is_there(&format!("{directory}/{program}"))))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_program_is_found_below_the_root_alone() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/busybox"), "").unwrap();
        symlink("/bin/busybox", root.join("bin/sh")).unwrap();
        symlink("/etc/passwd", root.join("bin/host")).unwrap();
        symlink("../../outside", root.join("bin/out")).unwrap();
        fs::write(base.path().join("outside"), "").unwrap();
        for (program, is_there) in [
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
            assert_eq!(holds(&root, program, "/sbin:/bin").unwrap(), is_there, "{program}");
        }
        assert!(!holds(&root, "sh", "/sbin").unwrap());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
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
    fn a_file_that_nobody_named_runs_nothing() {
        let json = br#"{"mounts": [{}, {"postmount_cmds": [{"path": "/bin/true"}]}]}"#;
        let error = check_commands(&Config::from_json(json).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("configuration `mounts[1].postmount_cmds`: "), "{error}");
    }
}
