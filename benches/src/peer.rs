//! Other programs that start containers.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::payload::{self, Output};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// Another program, which is used where it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The OCI runtime in C.
    Crun,
    /// The OCI runtime in Go.
    Runc,
    /// bubblewrap, a sandbox without cgroups and without states.
    Bwrap,
    /// util-linux's tool: namespaces, `/proc` and a root, nothing else.
    Unshare,
}

impl Peer {
    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Runc => "runc",
            Self::Bwrap => "bwrap",
            Self::Unshare => "unshare",
        }
    }

    /// The program's path in `$PATH`.
    #[must_use]
    pub fn path(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|directory| directory.join(self.program()))
            .find(|path| path.is_file())
    }

    /// Prepares starts of a scenario. `worker` tells those apart that run at the same time.
    ///
    /// # Errors
    /// The program is not installed, or does not start the scenario here: with what it said.
    pub fn prepare(self, place: &Place, scenario: Scenario, worker: usize) -> Result<Prepared> {
        let path = self.path().ok_or("not installed")?;
        let name = format!("{}-{scenario}-{worker}", self.program());
        let bundle = place.directory().join(&name);
        if matches!(self, Self::Crun | Self::Runc) && !bundle.exists() {
            fs::create_dir(&bundle)?;
            let cgroup = format!("{}/{name}", place.cgroup_parent());
            let config = scenario.bundle(&place.rootfs(), &cgroup);
            fs::write(bundle.join("config.json"), config.to_string())?;
        }
        let mut prepared = Prepared {
            path,
            arguments: self.arguments(place, scenario, &bundle, &name),
            output: Output::new()?,
        };
        prepared.probe()?;
        Ok(prepared)
    }

    fn arguments(
        self,
        place: &Place,
        scenario: Scenario,
        bundle: &Path,
        name: &str,
    ) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let rootfs = text(&place.rootfs());
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).into()));
        match self {
            Self::Crun | Self::Runc => {
                let states = text(&place.directory().join(format!("{}.states", self.program())));
                add(&["--root", &states]);
                if self == Self::Crun {
                    add(&["--cgroup-manager", "cgroupfs"]);
                }
                add(&["run", "--bundle", &text(bundle), name]);
            }
            Self::Bwrap => {
                add(&["--unshare-pid", "--unshare-uts", "--unshare-ipc"]);
                if scenario.is_oci() {
                    add(&["--unshare-cgroup", "--hostname", "bench"]);
                }
                if scenario == Scenario::OciNet {
                    add(&["--unshare-net"]);
                }
                add(&["--bind", &rootfs, "/", "--proc", "/proc", "--dev", "/dev"]);
                add(&["--", payload::PATH]);
            }
            Self::Unshare => {
                add(&["--mount", "--pid", "--uts", "--ipc", "--fork"]);
                if scenario == Scenario::OciNet {
                    add(&["--net"]);
                }
                add(&["--root", &rootfs, "--mount-proc", payload::PATH]);
            }
        }
        arguments
    }
}

/// A program with its arguments.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    arguments: Vec<String>,
    output: Output,
}

impl Prepared {
    fn command(&self) -> Result<Command> {
        let writer: OwnedFd = self.output.writer().try_clone_to_owned()?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(writer);
        Ok(command)
    }

    /// Starts once, to see whether it works.
    fn probe(&mut self) -> Result<()> {
        let output = self.command()?.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
        if output.status.success() {
            return self.output.stamp().map(drop);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or_default();
        Err(format!("{}: {line}", output.status).into())
    }
}

impl Starter for Prepared {
    fn start(&mut self) -> Result<Sample> {
        let mut command = self.command()?;
        command.stderr(Stdio::null());
        let begin = clock::now();
        let status = command.status()?;
        let end = clock::now();
        if !status.success() {
            return Err(format!("{}: {status}", self.path.display()).into());
        }
        let first = self.output.stamp()?;
        Ok(Sample { first: first.saturating_sub(begin), whole: end - begin })
    }
}
