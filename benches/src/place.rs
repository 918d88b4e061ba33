//! Where containers are started: a mount namespace of its own, with a root file system.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use tempfile::TempDir;

use crate::{Result, payload};

/// Where control groups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Directories of the root file system that mounts need.
const DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];

/// A mount namespace that has cgroup2 alone, and a tmpfs with a root file system.
///
/// The calling process stays in the namespace. What was made outside of it is removed at the end.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
    cgroup: PathBuf,
}

impl Place {
    /// Moves the calling process, which must have one thread, into a new mount namespace.
    ///
    /// Mounts are added until there are `mounts` of them; with `None` it has the host's.
    ///
    /// # Errors
    /// The caller is not root, has more than one thread, or the kernel has no cgroup2.
    pub fn enter(mounts: Option<usize>) -> Result<Self> {
        let context = |what: &str| {
            let what = what.to_owned();
            move |errno| format!("{what}: {errno}")
        };
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| format!("unshare of the mount namespace: {errno}"))?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).map_err(context("mount propagation"))?;
        unmount(CGROUPS, UnmountFlags::DETACH).map_err(context("umount of the cgroups"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("cgroup2", CGROUPS, "cgroup2", flags, None).map_err(context("mount of cgroup2"))?;

        let directory = tempfile::Builder::new().prefix("pidone-bench.").tempdir()?;
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), Some(c"mode=755"))
            .map_err(context("mount of a tmpfs"))?;
        let cgroup = Path::new(CGROUPS).join(format!("pidone-bench-{}", std::process::id()));
        fs::create_dir(&cgroup)?;
        let place = Self { directory, cgroup };
        place.fill()?;
        if let Some(mounts) = mounts {
            place.add_mounts(mounts)?;
        }
        Ok(place)
    }

    /// Makes the root file system.
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

    /// Adds mounts beside the root file system, on a file system of their own: none of them is
    /// near what is copied for a container.
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

    /// The root file system.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    /// A directory for other files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the cgroup that those of the containers are made in.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The same, from the mount point of cgroup2.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        let below = self.cgroup.strip_prefix(CGROUPS).unwrap_or(&self.cgroup);
        format!("/{}", below.display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The tmpfs would keep its directory busy; errors only leave an empty directory behind.
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// How many mounts the calling process sees.
///
/// # Errors
/// There is no `/proc`.
pub fn mounts() -> Result<usize> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().count())
}
