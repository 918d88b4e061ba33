//! A runtime as one would first write it: everything by path, from the host.
//!
//! It is the control of the baits. What it does to the host's mounts it does in its own mount
//! namespace; what it does to files is permanent.

use std::fs::{self, File};
use std::os::unix::fs::{chroot, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use pidone_tests::{Outcome, Stop, leftover};
use serde::{Deserialize, Serialize};

/// The variable that holds what is to be done.
const ORDER: &str = "PIDONE_TEST_NAIVE";

/// What is to be done, in this order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Naive {
    /// The root file system.
    pub(super) root: PathBuf,
    /// File systems and their destinations, which are made.
    pub(super) mounts: Vec<(String, String)>,
    /// Files that are bound, and their destinations, which are made.
    pub(super) files: Vec<(PathBuf, String)>,
    /// Null devices that are made.
    pub(super) nodes: Vec<String>,
    /// Links that are made, in the place of what exists.
    pub(super) links: Vec<(String, String)>,
    /// Paths that the root's own null device is bound over.
    pub(super) masks: Vec<String>,
    /// The working directory.
    pub(super) cwd: String,
    /// The program and its arguments.
    pub(super) args: Vec<String>,
}

impl Naive {
    /// Does it in another process.
    ///
    /// The first line of what that prints are the places where something is mounted.
    pub(super) fn run(&self) -> Result<Output, Stop> {
        let order = serde_json::to_string(self)?;
        Ok(Command::new(std::env::current_exe()?)
            .env(ORDER, order)
            .stdin(Stdio::null())
            .output()?)
    }

    /// Does it, and returns what is mounted in a directory then.
    pub(super) fn mounts_in(&self, directory: &Path) -> Result<Vec<PathBuf>, Stop> {
        let output = self.run()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let points: Vec<PathBuf> = serde_json::from_str(text.lines().next().unwrap_or_default())
            .map_err(|error| format!("{error}: {text} {output:?}"))?;
        Ok(points.into_iter().filter(|point| point.starts_with(directory)).collect())
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    fn set_up(&self) -> Outcome {
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        for (fstype, destination) in &self.mounts {
            let target = self.path(destination);
            fs::create_dir_all(&target)?;
            mount(Some("none"), &target, Some(fstype.as_str()), MsFlags::empty(), none)?;
        }
        for (source, destination) in &self.files {
            let target = self.path(destination);
            File::create(&target)?;
            mount(Some(source), &target, none, MsFlags::MS_BIND, none)?;
        }
        for node in &self.nodes {
            let target = self.path(node);
            let _ = fs::remove_file(&target);
            mknod(&target, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
        }
        for (target, place) in &self.links {
            let place = self.path(place);
            let _ = fs::remove_file(&place);
            symlink(target, &place)?;
        }
        for mask in &self.masks {
            let (null, target) = (self.path("dev/null"), self.path(mask));
            mount(Some(&null), &target, none, MsFlags::MS_BIND, none)?;
        }
        Ok(())
    }

    fn become_program(&self) -> Outcome {
        self.set_up()?;
        let points: Vec<String> =
            leftover::host_mounts().into_iter().map(|mount| mount.point).collect();
        use std::io::Write as _;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&points)?)?;
        if self.args.is_empty() {
            return Ok(());
        }
        chroot(&self.root)?;
        std::env::set_current_dir(if self.cwd.is_empty() { "/" } else { &self.cwd })?;
        Err(Command::new(&self.args[0]).args(&self.args[1..]).env_remove(ORDER).exec().into())
    }
}

/// Does what this process was started for.
pub(super) fn play() -> Option<ExitCode> {
    let order = std::env::var(ORDER).ok()?;
    let outcome = serde_json::from_str::<Naive>(&order)
        .map_err(Stop::from)
        .and_then(|naive| naive.become_program());
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("{stop:?}");
            ExitCode::FAILURE
        }
    })
}
