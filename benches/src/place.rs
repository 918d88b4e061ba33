//! The place where containers are started: a new mount namespace with a root file system.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{Result, payload};

/// Where cgroups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The mount points in the root file system.
const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];

/// Which cgroup hierarchies are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// cgroup v2 alone, mounted over the host's hierarchies.
    V2,
    /// The host's hierarchies of cgroup v1 alone. This is for runtimes that refuse a hybrid host,
    /// and do not find all controllers in the first view.
    V1,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
        })
    }
}

/// A mount namespace with one view of the cgroups, and a tmpfs with a root file system.
///
/// The calling process stays in the namespace and is a subreaper. Dropping the value removes what
/// it made outside of the namespace.
#[derive(Debug)]
pub struct Place {
    view: View,
    directory: TempDir,
    /// The name of the parent of the containers' cgroups, in each hierarchy.
    name: String,
}

impl Place {
    /// Moves the calling process into a new mount namespace. The process must have only one thread.
    ///
    /// Adds mounts until there are `mounts`; with `None` it adds none to those of the host.
    ///
    /// # Errors
    /// If the caller is not root or has more than one thread, or the host does not have such
    /// cgroups.
    pub fn enter(mounts: Option<usize>, view: View) -> Result<Self> {
        let context = |what: &str| {
            let what = what.to_owned();
            move |errno| format!("{what}: {errno}")
        };
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| format!("unshare of the mount namespace: {errno}"))?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(context("mount propagation"))?;
        view.enter()?;

        let directory = tempfile::Builder::new().prefix("pidone-bench.").tempdir()?;
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), Some(c"mode=755"))
            .map_err(context("mount of a tmpfs"))?;
        let name = format!("pidone-bench-{}", std::process::id());
        let place = Self { view, directory, name };
        place.make_cgroups()?;
        place.fill()?;
        if let Some(mounts) = mounts {
            place.add_mounts(mounts)?;
        }
        Ok(place)
    }

    /// Creates the parent cgroup in each hierarchy.
    fn make_cgroups(&self) -> Result<()> {
        for hierarchy in self.view.hierarchies()? {
            let cgroup = hierarchy.join(&self.name);
            fs::create_dir(&cgroup)?;
            // A new cgroup v1 cpuset has no processors and no memory nodes, and cannot be entered.
            for knob in ["cpuset.cpus", "cpuset.mems"] {
                if self.view == View::V1 && cgroup.join(knob).exists() {
                    fs::write(cgroup.join(knob), fs::read(hierarchy.join(knob))?)?;
                }
            }
        }
        Ok(())
    }

    /// Fills the root file system.
    fn fill(&self) -> Result<()> {
        let rootfs = self.rootfs();
        for name in DIRECTORIES {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(rootfs.join("etc/group"), "root:x:0:\n")?;
        let payload = rootfs.join(payload::PATH.trim_start_matches('/'));
        fs::write(&payload, payload::IMAGE)?;
        fs::set_permissions(&payload, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Adds bind mounts on a separate file system, so that none of them is below a mount that is
    /// copied for a container.
    fn add_mounts(&self, wanted: usize) -> Result<()> {
        let base = self.directory.path().join("mounts");
        fs::create_dir(&base)?;
        mount("tmpfs", &base, "tmpfs", MountFlags::empty(), None)?;
        let source = base.join("source");
        fs::create_dir(&source)?;
        for number in mounts()?..wanted {
            let target = base.join(number.to_string());
            fs::create_dir(&target)?;
            mount_bind(&source, &target)?;
        }
        Ok(())
    }

    /// Returns the root file system.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    /// Returns a directory for other files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns which cgroups are visible.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// Returns the directory of the containers' parent cgroup, for cgroup v2.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        Path::new(CGROUPS).join(&self.name)
    }

    /// Returns the path of the containers' parent cgroup from the root of each hierarchy.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        format!("/{}", self.name)
    }
}

impl View {
    /// Mounts and unmounts so that only these hierarchies are visible.
    fn enter(self) -> Result<()> {
        match self {
            Self::V2 => {
                unmount(CGROUPS, UnmountFlags::DETACH)
                    .map_err(|errno| format!("umount of the cgroups: {errno}"))?;
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                mount("cgroup2", CGROUPS, "cgroup2", flags, None)
                    .map_err(|errno| format!("mount of cgroup2: {errno}"))?;
            }
            Self::V1 => {
                let unified = Path::new(CGROUPS).join("unified");
                if unified.exists() {
                    unmount(&unified, UnmountFlags::DETACH)
                        .map_err(|errno| format!("umount of cgroup2: {errno}"))?;
                }
                if self.hierarchies()?.is_empty() {
                    return Err("the host has no cgroups of version 1".into());
                }
            }
        }
        Ok(())
    }

    /// Returns the mount points of the hierarchies.
    fn hierarchies(self) -> Result<Vec<PathBuf>> {
        if self == Self::V2 {
            return Ok(vec![CGROUPS.into()]);
        }
        let mut roots = Vec::new();
        for entry in fs::read_dir(CGROUPS)? {
            let path = entry?.path();
            // Symbolic links are other names of a hierarchy.
            if !path.is_symlink() && path.join("cgroup.procs").exists() {
                roots.push(path);
            }
        }
        Ok(roots)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A mounted tmpfs would keep its directory busy. An error only leaves an empty directory.
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
        for hierarchy in self.view.hierarchies().unwrap_or_default() {
            remove(&hierarchy.join(&self.name));
        }
    }
}

/// Removes a cgroup with the cgroups that a failed runtime left below it.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

/// Returns the number of mounts that the calling process sees.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn mounts() -> Result<usize> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().count())
}
