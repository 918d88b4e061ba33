//! An init as the first process of a container: the image, or an init that it replaces.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::{Call, Finished, Ground, Need, Stop, Way, eventually, init_image, need};

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The image of this init, which runs by itself.
    Image,
    /// tini of the distribution.
    Tini,
    /// catatonit of the distribution.
    Catatonit,
}

/// A case runs with the image and, as a control, with the others that have what it tests.
impl Ground for Subject {
    type Way = Self;

    const WAYS: &'static [Self] = &[Self::Image, Self::Tini, Self::Catatonit];

    fn open(_: &str, way: Self) -> Result<Self, Stop> {
        way.check()?;
        Ok(way)
    }
}

impl Way for Subject {
    fn suffix(&self) -> &'static str {
        match self {
            Self::Image => "::image",
            Self::Tini => "::tini",
            Self::Catatonit => "::catatonit",
        }
    }

    fn needs(&self) -> &'static [Need] {
        &[
            Need::Root,
            Need::PYTHON,
            Need::File("/usr/bin/unshare", "util-linux"),
            Need::File("/usr/bin/nsenter", "util-linux"),
        ]
    }
}

/// How it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As an ordinary process.
    Child,
    /// As process 1 of a process namespace.
    First,
}

impl Subject {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Tini => "tini",
            Self::Catatonit => "catatonit",
        }
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Image => init_image(),
            Self::Tini => "/usr/bin/tini",
            Self::Catatonit => "/usr/bin/catatonit",
        }
    }

    /// Returns the value for this subject.
    pub fn pick<T>(self, image: T, tini: T, catatonit: T) -> T {
        match self {
            Self::Image => image,
            Self::Tini => tini,
            Self::Catatonit => catatonit,
        }
    }

    /// Checks that the machine has it.
    ///
    /// # Errors
    /// [`Stop::Lacking`] if it has not.
    pub fn check(self) -> Result<(), Stop> {
        need::file(self.path())
    }

    /// A command with these arguments, whose environment has nothing for it.
    pub fn command(self, arguments: &[&str]) -> Command {
        self.command_in(Place::Child, arguments)
    }

    /// The same at a place.
    pub fn command_in(self, place: Place, arguments: &[&str]) -> Command {
        let mut command = match place {
            Place::Child => Command::new(self.path()),
            Place::First => {
                let mut command = Command::new("/usr/bin/unshare");
                command.args(["--pid", "--fork", "--kill-child", "--mount-proc", self.path()]);
                command
            }
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["TINI_SUBREAPER", "TINI_VERBOSITY", "TINI_KILL_PROCESS_GROUP"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs to the end.
    #[track_caller]
    pub fn run(self, arguments: &[&str]) -> Finished {
        Call::start(&mut self.command(arguments)).finish()
    }
}

/// An init that runs, and whose program has begun. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The number of the init.
    pub pid: u32,
}

impl Running {
    /// Starts a command that prints `ready` when it is.
    #[track_caller]
    pub fn start(command: Command, place: Place) -> Self {
        Self::start_saying_to(Stdio::null(), command, place)
    }

    /// The same, with this standard error.
    #[track_caller]
    pub fn start_saying_to(stderr: Stdio, mut command: Command, place: Place) -> Self {
        let mut child = command.stderr(stderr).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { pid: child.id(), child, output };
        assert_eq!(running.line(), "ready");
        if place == Place::First {
            running.pid = children(running.pid)[0];
        }
        running
    }

    /// Starts one that prints nothing.
    pub fn start_silent(path: &str, mut command: Command, place: Place) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut pid = child.id();
        if place == Place::First {
            assert!(eventually(|| !children(pid).is_empty()));
            pid = children(pid)[0];
        }
        // It sleeps only where it waits.
        let image = fs::canonicalize(path).unwrap();
        assert!(eventually(|| {
            let executed = fs::read_link(format!("/proc/{pid}/exe"));
            executed.is_ok_and(|executed| executed == image)
                && status(pid, "State").starts_with('S')
        }));
        Self { child, output, pid }
    }

    /// The next line that its program prints; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a signal to the init.
    #[track_caller]
    pub fn signal(&self, signal: u8) {
        send(self.pid, signal);
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end. Returns the status as a shell reports it, and what was printed since.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        assert!(eventually(|| self.child.try_wait().unwrap().is_some()), "does not end");
        let status = self.child.wait().unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (status.code().or(status.signal().map(|signal| 128 + signal)).unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends any signal, which the types of the crates have no name for.
#[track_caller]
pub fn send(pid: u32, signal: u8) {
    let kill = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(kill.unwrap().success(), "kill -{signal} {pid}");
}

/// The children of a process, zombies included.
pub fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&pid| parent_of(pid) == Some(parent)).collect()
}

/// The parent of a process: the second field after its name in parentheses.
fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A field of the status of a process; empty if it is gone.
pub fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| *name == field).map(|(_, value)| value.trim()).unwrap_or("").to_owned()
}
