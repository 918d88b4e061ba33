//! Running a program with arguments, and judging how it ended and what it printed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};

use crate::eventually;

/// How a program ended, and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// The exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output, if that was a pipe.
    pub stdout: String,
    /// What it wrote to standard error, if that was a pipe.
    pub stderr: String,
}

impl Finished {
    /// The exit status as a shell reports it: 128 and the number of a signal.
    pub fn code(&self) -> i32 {
        self.status.code().or(self.status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// Returns what it printed, and requires that it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!((self.code(), self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// Returns the error that it printed, and requires that this is one line of `nsinit` or
    /// `pidone`, with nothing on standard output and this exit status. Clients such as conmon get
    /// the line without the name of the program.
    #[track_caller]
    pub fn error(self, code: i32) -> String {
        assert_eq!((self.code(), self.stdout.as_str()), (code, ""), "{self:?}");
        let line = without_name(&self.stderr).strip_suffix('\n');
        let line = line.unwrap_or_else(|| panic!("{self:?}"));
        assert!(!line.contains(char::is_control), "{self:?}");
        line.to_owned()
    }
}

/// Returns what a program has reported, without its name.
pub(crate) fn without_name(said: &str) -> &str {
    let names = ["nsinit: ", "pidone: "];
    names.iter().find_map(|name| said.strip_prefix(name)).unwrap_or(said)
}

/// A program that runs, with what it prints. It is killed when this is dropped.
#[derive(Debug)]
pub struct Call {
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
}

impl Call {
    /// Starts a command; its pipes are read all the time.
    pub fn start(command: &mut Command) -> Self {
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

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let mut status = None;
        if !eventually(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        }) {
            panic!("{:?} does not end", self.child);
        }
        let [stdout, stderr] = self.output.take().unwrap().map(|thread| thread.join().unwrap());
        Finished { status: status.unwrap(), stdout, stderr }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.output.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
