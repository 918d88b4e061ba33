//! A place on the host for the containers of one case.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use pidone::{
    Code, Config, Container, Exit, Factory, Options, Process, Running, Status, Stdio, Strategy,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::leftover::{self, MARK};
use crate::{Case, DEADLINE, GUEST, Ground, Need, Outcome, Report, Stop, Way, install, need};

/// How the containers of a sandbox are started.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    strategy: Strategy,
    /// Whether the init of a [`Sandbox::config`] stays process 1.
    supervise: bool,
    suffix: &'static str,
}

const HOST: Launch = Launch { strategy: Strategy::Host, supervise: false, suffix: "::host" };
const TEMPLATE: Launch =
    Launch { strategy: Strategy::Template, supervise: false, suffix: "::template" };
const ONCE: Launch = Launch { strategy: Strategy::Auto, supervise: false, suffix: "" };
const INIT: Launch = Launch { strategy: Strategy::Auto, supervise: true, suffix: "::init" };

impl Way for Launch {
    fn suffix(&self) -> &'static str {
        self.suffix
    }

    fn needs(&self) -> &'static [Need] {
        &[Need::Root]
    }
}

/// A case runs under both launch strategies, unless it says otherwise.
impl Ground for Sandbox {
    type Way = Launch;

    const WAYS: &'static [Launch] = &[HOST, TEMPLATE];

    fn open(_: &str, way: Launch) -> Result<Self, Stop> {
        Ok(Self::new(way.strategy)?.supervised(way.supervise))
    }

    fn close(self) -> Vec<String> {
        self.remove()
    }
}

impl Case<Sandbox> {
    /// Runs once, under the strategy that the library chooses.
    #[must_use]
    pub const fn once(self) -> Self {
        self.ways(&[ONCE])
    }

    /// Runs under both launch strategies, and with an init that stays process 1.
    #[must_use]
    pub const fn and_init(self) -> Self {
        self.ways(&[HOST, TEMPLATE, INIT])
    }

    /// Runs once, with an init that stays process 1.
    #[must_use]
    pub const fn with_init(self) -> Self {
        self.ways(&[INIT])
    }
}

/// A root file system, a state directory and names that nobody else has.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    name: String,
    strategy: Strategy,
    supervise: bool,
    factory: Factory,
    made: AtomicU32,
}

/// What a process said, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// The lines of standard output, which are JSON.
    ///
    /// # Errors
    /// A line is something else.
    pub fn lines<T: DeserializeOwned>(&self) -> Result<Vec<T>, Stop> {
        self.stdout.lines().map(parse).collect()
    }
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T, Stop> {
    serde_json::from_str(line).map_err(|error| Stop::Failed(format!("{error}: {line}")))
}

/// A process with these arguments, whose output can be read.
#[must_use]
pub fn process<S: AsRef<OsStr>>(args: &[S]) -> Process {
    Process {
        args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
        env: vec!["PATH=/bin:/sbin:/usr/bin".into()],
        stdin: Stdio::Null,
        stdout: Stdio::Pipe,
        stderr: Stdio::Pipe,
        ..Process::default()
    }
}

/// A process that mounts a tmpfs, says what came of it, and reads a file when its standard input
/// ends.
#[must_use]
pub fn mounts_and_reads(at: &str, file: &str) -> Process {
    let (mount, at) = (libc::SYS_mount.to_string(), format!("@{at}"));
    let mounts = ["/guest", "syscall", &mount, "@tmpfs", &at, "@tmpfs", "0", "0"];
    let waits = process(&[&mounts[..], &[",", "echo", ",", "read", file]].concat());
    Process { stdin: Stdio::Pipe, ..waits }
}

impl Sandbox {
    /// Makes the directories: a root with the guest at `/guest`, and a place for states.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn new(strategy: Strategy) -> Result<Self, Stop> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pidone-test-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        // Others may have to look in: an ordinary user, root in a user namespace.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let path = directory.path().canonicalize()?;
        let factory = Factory::new(path.join("state"), Options::default().strategy(strategy))?;
        let (supervise, made) = (false, AtomicU32::new(0));
        let sandbox = Self { directory, name, strategy, supervise, factory, made };
        sandbox.make_root(&sandbox.rootfs())?;
        Ok(sandbox)
    }

    /// Whether the init of [`Sandbox::config`] stays process 1.
    #[must_use]
    pub fn supervised(self, supervise: bool) -> Self {
        Self { supervise, ..self }
    }

    /// Makes a root file system.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_root(&self, root: &Path) -> Outcome {
        for name in ["proc", "sys", "dev", "tmp", "etc", "bin", "root"] {
            fs::create_dir_all(root.join(name))?;
        }
        install(GUEST, root.join("guest"))?;
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/sh\n\
             user:x:1000:1000:user:/home/user:/bin/sh\n",
        )?;
        fs::write(
            root.join("etc/group"),
            "root:x:0:\ndaemon:x:1:\naudio:x:29:user\nvideo:x:44:user,other\nuser:x:1000:\n",
        )?;
        Ok(())
    }

    /// Puts busybox into the root, as `/bin/busybox` and `/bin/sh`.
    ///
    /// # Errors
    /// [`Stop::Lacking`] without a busybox on the host.
    pub fn add_busybox(&self) -> Outcome {
        let bin = self.rootfs().join("bin");
        install(need::program("busybox")?, bin.join("busybox"))?;
        for name in ["sh", "cat", "ls", "mount", "umount", "ln", "rm", "sleep", "id", "mknod"] {
            std::os::unix::fs::symlink("busybox", bin.join(name))?;
        }
        Ok(())
    }

    /// The name: part of the names of all that the sandbox makes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory with everything in it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        // The library takes no path with a link in it, and /tmp may be one.
        self.directory.path().canonicalize().unwrap_or_else(|_| self.directory.path().to_owned())
    }

    /// The root file system.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// Containers of this sandbox.
    #[must_use]
    pub fn factory(&self) -> &Factory {
        &self.factory
    }

    /// How they are started.
    #[must_use]
    pub fn options(&self) -> Options {
        Options::default().strategy(self.strategy)
    }

    /// The template's configuration, with a cgroup of the sandbox's name.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::template(self.rootfs());
        if let Some(cgroup) = &mut config.cgroups {
            cgroup.name.clone_from(&self.name);
            cgroup.parent = String::new();
        }
        config.supervise = self.supervise;
        config
    }

    /// A new id.
    #[must_use]
    pub fn id(&self) -> String {
        format!("c{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a container with a new id.
    ///
    /// # Errors
    /// As [`Factory::create`].
    pub fn create(&self, config: &Config) -> pidone::Result<Container> {
        self.factory.create(&self.id(), config)
    }

    /// Starts a process in a new container.
    ///
    /// # Errors
    /// As [`Container::start`]; the container is removed then.
    pub fn start(&self, config: &Config, process: Process) -> pidone::Result<Live> {
        let mut container = self.create(config)?;
        match self.join(&mut container, process) {
            Ok(running) => Ok(Live::new(container, running)),
            Err(error) => {
                container.destroy()?;
                Err(error)
            }
        }
    }

    /// Starts a process with the sandbox's mark in a container: its first, or a further one.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub fn join(&self, container: &mut Container, mut process: Process) -> pidone::Result<Running> {
        process.env.push(format!("{MARK}={}", self.name).into());
        container.start(&process)
    }

    /// Prepares a new container with a process, which waits for [`Live::release`].
    ///
    /// # Errors
    /// As [`Container::prepare`]; the container is removed then.
    pub fn prepare(&self, config: &Config, mut process: Process) -> pidone::Result<Live> {
        process.env.push(format!("{MARK}={}", self.name).into());
        let mut container = self.create(config)?;
        match container.prepare(&process) {
            Ok(running) => Ok(Live::new(container, running)),
            Err(error) => {
                container.destroy()?;
                Err(error)
            }
        }
    }

    /// Runs a process in a new container to its end, and removes the container.
    ///
    /// # Errors
    /// As [`Container::start`], or it does not end.
    pub fn run(&self, config: &Config, process: Process) -> Result<Output, Stop> {
        self.start(config, process)?.finish()
    }

    /// Runs the guest with commands, and removes the container.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn guest(&self, config: &Config, commands: &[&str]) -> Result<Output, Stop> {
        self.run(config, process(&[&["/guest"], commands].concat()))
    }

    /// What a process of a new container sees.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn report(&self, config: &Config) -> Result<Report, Stop> {
        self.report_of(config, process(&["/guest", "report"]))
    }

    /// What a certain process of a new container sees.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub fn report_of(&self, config: &Config, process: Process) -> Result<Report, Stop> {
        let output = self.run(config, process)?;
        if output.exit.code != Some(0) {
            return Err(Stop::Failed(format!("the guest ended with {:?}", output.exit)));
        }
        parse(output.stdout.lines().next().unwrap_or_default())
    }

    /// Removes the containers that are left, and returns what is then left of them.
    fn remove(self) -> Vec<String> {
        let mut left = Vec::new();
        for id in self.factory.list().unwrap_or_default() {
            let removed = self.factory.load(&id).and_then(|mut container| {
                container.kill()?;
                container.destroy()
            });
            if let Err(error) = removed
                && error.code() != Code::ContainerNotExists
            {
                left.push(format!("container {id}: {error}"));
            }
        }
        let path = self.path();
        left.extend(leftover::settled(|| leftover::of(&self.name, &path)));
        left.extend(leftover::states(self.factory.root()));
        left
    }
}

/// A container whose first process runs.
#[derive(Debug)]
pub struct Live {
    /// The container.
    pub container: Container,
    /// Its first process.
    pub running: Running,
    output: Option<BufReader<File>>,
}

/// A test that failed leaves no child.
impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.running.signal(libc::SIGKILL);
        let _ = self.container.kill();
        let _ = self.running.wait();
    }
}

impl Live {
    fn new(container: Container, mut running: Running) -> Self {
        let output = running.stdout.take().map(BufReader::new);
        Self { container, running, output }
    }

    /// Lets the process of a prepared container go on.
    ///
    /// # Errors
    /// As [`Container::release`]; the container is removed then.
    pub fn release(mut self) -> pidone::Result<Self> {
        match self.container.release() {
            Ok(()) => Ok(self),
            Err(error) => {
                self.running.wait()?;
                match self.container.destroy() {
                    // After a hook has failed, nothing is left to remove.
                    Err(gone) if gone.code() == Code::ContainerNotExists => Err(error),
                    destroyed => destroyed.and(Err(error)),
                }
            }
        }
    }

    /// The next line of standard output.
    ///
    /// # Errors
    /// There is none, or not in time.
    pub fn line(&mut self) -> Result<String, Stop> {
        let output = self.output.as_mut().ok_or("standard output is no pipe")?;
        read_line(output)
    }

    /// The next line of standard output, which is JSON.
    ///
    /// # Errors
    /// There is none, or not in time, or it is something else.
    pub fn say<T: DeserializeOwned>(&mut self) -> Result<T, Stop> {
        parse(&self.line()?)
    }

    /// Whether it says nothing for some time.
    ///
    /// # Errors
    /// Standard output is no pipe.
    pub fn is_silent(&self, time: Duration) -> Result<bool, Stop> {
        let output = self.output.as_ref().ok_or("standard output is no pipe")?;
        let time = Timespec::try_from(time).ok();
        let mut fds = [PollFd::new(output.get_ref(), PollFlags::IN)];
        Ok(output.buffer().is_empty() && poll(&mut fds, time.as_ref())? == 0)
    }

    /// Kills the container and removes it.
    ///
    /// # Errors
    /// As [`Container::kill`] and [`Container::destroy`].
    pub fn kill(mut self) -> Result<Exit, Stop> {
        self.container.kill()?;
        let exit = self.running.wait()?;
        self.container.destroy()?;
        Ok(exit)
    }

    /// Waits for the end of the process and removes the container.
    ///
    /// # Errors
    /// It does not end, or the container cannot be removed.
    pub fn finish(mut self) -> Result<Output, Stop> {
        let output = finish(&mut self.running, self.output.take())?;
        if self.container.status()? != Status::Destroyed {
            return Err(Stop::Failed("runs on behind its end".to_owned()));
        }
        self.container.destroy()?;
        Ok(output)
    }
}

/// Reads a line from a pipe, if it comes in time.
fn read_line(output: &mut BufReader<File>) -> Result<String, Stop> {
    let mut line = String::new();
    if output.buffer().is_empty() {
        wait_readable(output.get_ref())?;
    }
    output.read_line(&mut line)?;
    if line.pop() == Some('\n') {
        Ok(line)
    } else {
        Err(Stop::Failed(format!("ended at `{line}`")))
    }
}

fn wait_readable(file: &impl AsFd) -> Outcome {
    let timeout = Timespec::try_from(DEADLINE).ok();
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    match poll(&mut fds, timeout.as_ref())? {
        0 => Err(Stop::Failed("said nothing".to_owned())),
        _ => Ok(()),
    }
}

/// Reads what a process says up to its end, which is waited for.
///
/// # Errors
/// It does not end in time.
pub fn output(running: &mut Running) -> Result<Output, Stop> {
    finish(running, None)
}

fn finish(running: &mut Running, output: Option<BufReader<File>>) -> Result<Output, Stop> {
    let output = output.or_else(|| running.stdout.take().map(BufReader::new));
    let errors = running.stderr.take();
    // Both at once: a full pipe would hold the process.
    let errors = thread::spawn(move || errors.map(read_all).unwrap_or_default());
    let stdout = match output {
        Some(mut output) => {
            let mut text = String::from_utf8_lossy(output.buffer()).into_owned();
            let length = output.buffer().len();
            output.consume(length);
            text.push_str(&read_all(output.into_inner()));
            text
        }
        None => String::new(),
    };
    wait_readable(&running.pidfd())?;
    let exit = running.wait()?;
    let stderr = errors.join().unwrap_or_default();
    Ok(Output { exit, stdout, stderr })
}

fn read_all(mut file: File) -> String {
    let mut bytes = Vec::new();
    // What was read before an error counts.
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
