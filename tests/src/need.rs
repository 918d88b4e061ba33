//! What cases need of the machine.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::leftover::{self, CGROUPS, find};
use crate::{Outcome, Stop};

/// The user and the group that have nothing.
pub const NOBODY: u32 = 65534;

/// Debian's static busybox (package busybox-static).
pub const BUSYBOX: &str = "/usr/bin/busybox";

/// What a machine may lack.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// The user root, with its privileges.
    Root,
    /// An ordinary user can make user namespaces.
    UserNamespaces,
    /// [`BUSYBOX`].
    Busybox,
    /// A file, and the package that has it.
    File(&'static str, &'static str),
    /// Hierarchies of cgroup v1.
    V1,
    /// A hierarchy of cgroup v1 with the controller memory.
    Memory,
    /// A hierarchy of cgroup v1 with the controller freezer.
    Freezer,
    /// strace(1), and the permission to trace.
    Strace,
}

impl Need {
    /// setsid(1), to give a program a controlling terminal.
    pub const SETSID: Self = Self::File("/usr/bin/setsid", "util-linux");
    /// Python.
    pub const PYTHON: Self = Self::File("/usr/bin/python3", "python3");
    /// ps(1), with `-ef`.
    pub const PS: Self = Self::File("/usr/bin/ps", "procps");

    /// Checks that the machine has it.
    ///
    /// # Errors
    /// [`Stop::Lacking`] if it has not.
    pub fn check(self) -> Outcome {
        let runs = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let (held, lacking) = match self {
            Self::Root => return root(),
            Self::UserNamespaces => {
                let mut unshare = Command::new("unshare");
                unshare.args(["-U", "true"]);
                if rustix::process::geteuid().is_root() {
                    unshare.uid(NOBODY);
                }
                (runs(&mut unshare), "needs user namespaces for all users, and unshare(1)")
            }
            Self::Busybox => return Self::File(BUSYBOX, "busybox-static").check(),
            Self::File(path, package) => {
                return file(path)
                    .map_err(|_| Stop::Lacking(format!("needs {path} (package {package})")));
            }
            Self::V1 => (
                leftover::host_mounts().iter().any(|mount| mount.fstype == "cgroup"),
                "needs hierarchies of cgroup v1",
            ),
            Self::Memory => (
                find(Path::new(CGROUPS), 3, "memory.oom_control").is_some(),
                "needs a cgroup v1 hierarchy with the controller memory",
            ),
            Self::Freezer => (
                Path::new(CGROUPS).join("freezer").exists(),
                "needs a cgroup v1 hierarchy with the controller freezer",
            ),
            Self::Strace => (
                runs(Command::new("strace").args(["-o", "/dev/null", "true"])),
                "needs strace(1), and to trace",
            ),
        };
        if held { Ok(()) } else { Err(Stop::Lacking(lacking.to_owned())) }
    }
}

/// Root.
///
/// # Errors
/// [`Stop::Lacking`] for anybody else.
pub fn root() -> Outcome {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Stop::Lacking("needs root".to_owned()))
}

/// A program in `$PATH`.
///
/// # Errors
/// [`Stop::Lacking`] if it is not there.
pub fn program(name: &str) -> Result<PathBuf, Stop> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Stop::Lacking(format!("no program `{name}`")))
}

/// A file or directory of the host.
///
/// # Errors
/// [`Stop::Lacking`] if it does not exist.
pub fn file(path: impl AsRef<Path>) -> Outcome {
    let path = path.as_ref();
    if path.exists() { Ok(()) } else { Err(Stop::Lacking(format!("no {}", path.display()))) }
}

/// A controller of cgroup v1 that is mounted at its usual place.
///
/// # Errors
/// [`Stop::Lacking`] if it is not.
pub fn controller(name: &str) -> Result<PathBuf, Stop> {
    let directory = Path::new(CGROUPS).join(name);
    file(directory.join("cgroup.procs"))
        .map_err(|_| Stop::Lacking(format!("no cgroup v1 controller `{name}`")))?;
    Ok(directory)
}
