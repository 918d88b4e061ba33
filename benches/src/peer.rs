//! Programs that start containers: pidone's command line, and others.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::payload::{self, Output};
use crate::place::Place;
use crate::scenario::Scenario;
use crate::{Result, Sample, Starter, clock};

/// A program that starts containers. It is used if it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// pidone's command line, which cargo builds into the directory of the benches.
    Pidone,
    /// The OCI runtime in C.
    Crun,
    /// The OCI runtime in Go.
    Runc,
    /// bubblewrap, a sandbox without cgroups and states.
    Bwrap,
    /// `unshare(1)` of util-linux: only namespaces, a root and `/proc`.
    Unshare,
}

impl Peer {
    /// All programs.
    pub const ALL: [Self; 5] = [Self::Pidone, Self::Crun, Self::Runc, Self::Bwrap, Self::Unshare];

    /// Returns the program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Pidone => "pidone",
            Self::Crun => "crun",
            Self::Runc => "runc",
            Self::Bwrap => "bwrap",
            Self::Unshare => "unshare",
        }
    }

    /// Returns the program's path: in the directory of this program for pidone, else in `$PATH`.
    #[must_use]
    pub fn path(self) -> Option<PathBuf> {
        if self == Self::Pidone {
            // cargo puts benches one directory below programs.
            let this = std::env::current_exe().ok()?;
            let mut candidates =
                this.ancestors().skip(1).take(2).map(|directory| directory.join("pidone"));
            return candidates.find(|path| path.is_file());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|directory| directory.join(self.program()))
            .find(|path| path.is_file())
    }

    /// Returns the first line that the program prints for `--version`.
    #[must_use]
    pub fn version(self) -> Option<String> {
        let output = Command::new(self.path()?).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
    }

    /// Whether the program has the command line of an OCI runtime.
    #[must_use]
    pub fn is_oci_runtime(self) -> bool {
        matches!(self, Self::Pidone | Self::Crun | Self::Runc)
    }

    /// Returns the program's path, or an error if it is not installed.
    fn find(self) -> Result<PathBuf> {
        self.path().ok_or_else(|| match self {
            Self::Pidone => "not built beside this program: cargo build -p pidone-cli".into(),
            _ => "not installed".into(),
        })
    }

    /// Prepares starts with one command. `worker` distinguishes those that run at the same time.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn once(self, place: &Place, scenario: Scenario, worker: usize) -> Result<Once> {
        let output = Output::new()?;
        if self.is_oci_runtime() {
            let id = format!("{}-run-{scenario}-{worker}", self.program());
            let runtime = Runtime::new(self, place, scenario, &id, &[payload::PATH])?;
            let arguments = runtime.arguments(&["run", "--bundle", &runtime.bundle, &id]);
            let Runtime { path, errors, .. } = runtime;
            return Ok(Once { call: Call { path, arguments, errors }, output });
        }
        let path = self.find()?;
        let errors = errors(place, &format!("{}-{scenario}-{worker}", self.program()))?;
        let arguments = self.sandbox(place, scenario);
        Ok(Once { call: Call { path, arguments, errors }, output })
    }

    /// Returns the arguments for a program that is not an OCI runtime.
    fn sandbox(self, place: &Place, scenario: Scenario) -> Vec<String> {
        let rootfs = place.rootfs().display().to_string();
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).into()));
        if self == Self::Bwrap {
            add(&["--unshare-pid", "--unshare-uts", "--unshare-ipc"]);
            if scenario.is_oci() {
                add(&["--unshare-cgroup", "--hostname", "bench"]);
            }
            if scenario == Scenario::OciNet {
                add(&["--unshare-net"]);
            }
            add(&["--bind", &rootfs, "/", "--proc", "/proc", "--dev", "/dev"]);
            add(&["--", payload::PATH]);
        } else {
            add(&["--mount", "--pid", "--uts", "--ipc", "--fork"]);
            if scenario == Scenario::OciNet {
                add(&["--net"]);
            }
            add(&["--root", &rootfs, "--mount-proc", payload::PATH]);
        }
        arguments
    }
}

/// Opens the file for a program's standard error.
fn errors(place: &Place, name: &str) -> Result<File> {
    let path = place.directory().join(format!("{name}.errors"));
    Ok(File::options().create(true).read(true).append(true).open(path)?)
}

/// A program with its arguments.
#[derive(Debug)]
struct Call {
    path: PathBuf,
    arguments: Vec<String>,
    errors: File,
}

impl Call {
    /// Runs the program with the payload's pipe as its standard output.
    fn run(&self, output: &Output) -> Result<()> {
        let writer: OwnedFd = output.writer().try_clone_to_owned()?;
        call(&self.path, &self.arguments, Stdio::from(writer), &self.errors)
    }
}

/// Runs a program. If it fails, the error has the last line of its standard error.
fn call(path: &PathBuf, arguments: &[String], stdout: Stdio, errors: &File) -> Result<()> {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(errors.try_clone()?);
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    let mut output = vec![0; 4096];
    let end = errors.metadata()?.len();
    let length = errors.read_at(&mut output, end.saturating_sub(4096))?;
    let output = String::from_utf8_lossy(output.get(..length).unwrap_or_default()).into_owned();
    let line = output.lines().next_back().unwrap_or_default();
    Err(format!("{}: {status}: {line}", path.display()).into())
}

/// Starts with one command.
#[derive(Debug)]
pub struct Once {
    call: Call,
    output: Output,
}

impl Once {
    /// Has pidone write a recording of each start to a file.
    pub(crate) fn traced(mut self, file: &Path) -> Self {
        trace(&mut self.call.arguments, "run", file);
        self
    }
}

/// Inserts pidone's option `--trace` after the verb.
fn trace(arguments: &mut Vec<String>, verb: &str, file: &Path) {
    let verb = arguments.iter().position(|word| word == verb).map_or(0, |index| index + 1);
    arguments.splice(verb..verb, ["--trace".to_owned(), file.display().to_string()]);
}

impl Starter for Once {
    fn start(&mut self) -> Result<Sample> {
        let begin = clock::now();
        self.call.run(&self.output)?;
        let end = clock::now();
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}

/// An OCI runtime with a bundle.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// The program.
    pub(crate) path: PathBuf,
    /// The arguments before the verb.
    global: Vec<String>,
    /// The directory of the bundle.
    pub(crate) bundle: String,
    id: String,
    /// The file for its standard error.
    pub(crate) errors: File,
}

impl Runtime {
    /// Makes a bundle for a runtime that is installed.
    pub(crate) fn new(
        peer: Peer,
        place: &Place,
        scenario: Scenario,
        id: &str,
        program: &[&str],
    ) -> Result<Self> {
        let path = peer.find()?;
        let bundle = place.directory().join(id);
        fs::create_dir_all(&bundle)?;
        let cgroup = format!("{}/{id}", place.cgroup_parent());
        let config = scenario.bundle(&place.rootfs(), &cgroup, program);
        fs::write(bundle.join("config.json"), config.to_string())?;
        let states = place.directory().join(format!("{}.states", peer.program()));
        let mut global = vec!["--root".to_owned(), states.display().to_string()];
        if peer == Peer::Crun {
            global.extend(["--cgroup-manager", "cgroupfs"].map(str::to_owned));
        }
        let errors = errors(place, id)?;
        let bundle = bundle.display().to_string();
        Ok(Self { path, global, bundle, id: id.to_owned(), errors })
    }

    /// Returns the arguments of a command.
    pub(crate) fn arguments(&self, words: &[&str]) -> Vec<String> {
        self.global.iter().cloned().chain(words.iter().map(|&word| word.to_owned())).collect()
    }

    /// Runs a command.
    fn call(&self, words: &[&str], stdout: Stdio) -> Result<()> {
        call(&self.path, &self.arguments(words), stdout, &self.errors)
    }

    /// Creates a container that waits for its start.
    fn create(&self, stdout: Stdio) -> Result<()> {
        let words = ["create", "--bundle", &self.bundle, "--pid-file", &self.pid_file(), &self.id];
        self.call(&words, stdout)
    }

    fn pid_file(&self) -> String {
        format!("{}/pid", self.bundle)
    }

    /// Returns the first process of a created container.
    fn pid(&self) -> Result<Pid> {
        let number = fs::read_to_string(self.pid_file())?.trim().parse()?;
        Pid::from_raw(number).ok_or_else(|| "no process".into())
    }
}

/// Starts with `create`, `start` and `delete`.
#[derive(Debug)]
pub struct Steps {
    runtime: Runtime,
    output: Output,
}

impl Steps {
    /// Prepares starts of a scenario. `worker` distinguishes those that run at the same time.
    ///
    /// # Errors
    /// If the program is not installed.
    pub fn new(peer: Peer, place: &Place, scenario: Scenario, worker: usize) -> Result<Self> {
        let id = format!("{}-create-{scenario}-{worker}", peer.program());
        let runtime = Runtime::new(peer, place, scenario, &id, &[payload::PATH])?;
        Ok(Self { runtime, output: Output::new()? })
    }
}

impl Starter for Steps {
    fn start(&mut self) -> Result<Sample> {
        let runtime = &self.runtime;
        let begin = clock::now();
        let writer: OwnedFd = self.output.writer().try_clone_to_owned()?;
        runtime.create(Stdio::from(writer))?;
        runtime.call(&["start", &runtime.id], Stdio::null())?;
        let status = waitid(WaitId::Pid(runtime.pid()?), WaitIdOptions::EXITED)?;
        runtime.call(&["delete", &runtime.id], Stdio::null())?;
        let end = clock::now();
        if status.and_then(|status| status.exit_status()) != Some(0) {
            return Err("the payload failed".into());
        }
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}

/// A container of an OCI runtime, which is removed on drop.
#[derive(Debug)]
pub struct Held {
    runtime: Runtime,
    pid: Pid,
}

impl Held {
    /// Creates a container that waits for its start.
    ///
    /// # Errors
    /// If the program is not installed or fails.
    pub fn waiting(peer: Peer, place: &Place, scenario: Scenario, name: &str) -> Result<Self> {
        let id = format!("{}-{name}-{scenario}", peer.program());
        let program = [payload::PATH, payload::WAIT];
        let runtime = Runtime::new(peer, place, scenario, &id, &program)?;
        runtime.create(Stdio::null())?;
        let pid = runtime.pid()?;
        Ok(Self { runtime, pid })
    }

    /// Returns the id of the first process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The cgroups of what cannot be removed here are removed with the place.
        let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::KILL);
        let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
        let _ = self.runtime.call(&["delete", "--force", &self.runtime.id], Stdio::null());
    }
}

/// Starts further processes in a container with the command `exec`.
#[derive(Debug)]
pub struct Exec {
    container: Held,
    arguments: Vec<String>,
    output: Output,
}

impl Exec {
    /// Starts the container. The name distinguishes containers that run at the same time.
    ///
    /// # Errors
    /// If the program is not installed or fails.
    pub fn new(peer: Peer, place: &Place, scenario: Scenario, name: &str) -> Result<Self> {
        let container = Held::waiting(peer, place, scenario, name)?;
        let runtime = &container.runtime;
        runtime.call(&["start", &runtime.id], Stdio::null())?;
        let arguments = runtime.arguments(&["exec", &runtime.id, payload::PATH]);
        Ok(Self { container, arguments, output: Output::new()? })
    }

    /// Has pidone write a recording of each start to a file.
    pub(crate) fn traced(mut self, file: &Path) -> Self {
        trace(&mut self.arguments, "exec", file);
        self
    }
}

impl Starter for Exec {
    fn start(&mut self) -> Result<Sample> {
        let Held { runtime, .. } = &self.container;
        let begin = clock::now();
        let writer: OwnedFd = self.output.writer().try_clone_to_owned()?;
        call(&runtime.path, &self.arguments, Stdio::from(writer), &runtime.errors)?;
        let end = clock::now();
        let first = self.output.stamp()?;
        Ok(Sample::from_clock(begin, first, end))
    }
}
