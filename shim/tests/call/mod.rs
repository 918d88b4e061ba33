//! A program that is called, what it does, and what it leaves: for the tests of both command lines.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Nothing here takes longer, even where many tests share few processors.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The exit status as a shell tells it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().or(self.status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// What it printed, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code(), self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// The error that it told: one line, with nothing on standard output.
    #[track_caller]
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!((self.code(), self.stdout.as_str()), (code, ""), "{self:?}");
        let (program, line) = self.stderr.split_once(": ").unwrap_or_else(|| panic!("{self:?}"));
        assert!(matches!(program, "nsinit" | "pidone"), "{self:?}");
        let line = line.strip_suffix('\n').unwrap_or_else(|| panic!("{self:?}"));
        assert!(!line.contains(char::is_control), "{self:?}");
        line.to_owned()
    }
}

/// A program that runs, with what it prints.
pub(crate) struct Program {
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let output = [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ];
        let output = output.map(|stream| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut stream) = stream {
                    let _ = stream.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        Self { child, output: Some(output) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Outcome {
        let mut status = None;
        if !eventually(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        }) {
            panic!("{:?} does not end", self.child);
        }
        let [stdout, stderr] = self.output.take().unwrap().map(|thread| thread.join().unwrap());
        Outcome { status: status.unwrap(), stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.output.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until something holds.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Finds a file or directory by its name, so many levels deep.
pub(crate) fn find(directory: &Path, depth: u32, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        let below = depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(found) = below.then(|| find(&entry.path(), depth - 1, name)).flatten() {
            return Some(found);
        }
    }
    None
}
