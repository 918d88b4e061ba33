//! Connects a process to the caller: its terminal, its descriptors, and where its ID is reported.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pidone::Running;
use pidone_config::{Code, Error, Process, Result};
use pidone_host::unix::{connect_to, send};
use rustix::net::SocketType;

use super::descriptor;
use super::flags::ConsoleSetup;
use crate::report::Report;
use crate::terminal;

/// A connected Unix socket that receives a descriptor.
#[derive(Debug)]
struct Receiver<'a> {
    socket: OwnedFd,
    path: &'a Path,
}

impl<'a> Receiver<'a> {
    fn connect(path: &'a Path) -> Result<Self> {
        Ok(Self { socket: connect_to(path, SocketType::STREAM)?, path })
    }

    /// Sends a descriptor with a name, as runc does.
    fn send(&self, file: BorrowedFd<'_>, name: &str) -> Result<()> {
        send(&self.socket, name.as_bytes(), Some(file))
            .map(drop)
            .map_err(|errno| Error::path("send to", self.path, errno))
    }
}

/// The receivers of the terminal and of the process ID, connected before the process is started.
#[derive(Debug)]
pub(super) struct ExtraFds<'a> {
    console: Option<Receiver<'a>>,
    pidfd: Option<Receiver<'a>>,
    pid_file: Option<&'a Path>,
    /// The name that is sent with the pidfd, as in runc: `standard` for the first process of a
    /// container, `setns` for others.
    name: &'static str,
}

impl ConsoleSetup {
    /// Returns whether the process is reported to another program.
    pub(super) fn reports_process(&self) -> bool {
        self.pid_file.is_some() || self.pidfd_socket.is_some()
    }

    /// Adapts the messages of the program to its caller. One that wants a pid file is a client such
    /// as conmon, and puts the runtime's name before the message that it reads.
    pub(super) fn configure(&self, report: &mut Report) {
        if self.pid_file.is_some() {
            report.leave_out_name();
        }
    }

    /// Adds the descriptors to the process, and connects to the sockets.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] if `--console-socket` is missing or not allowed, if `--pid-file` is
    /// no regular file, or if a descriptor to pass is not open; [`Code::SystemError`] if a socket
    /// cannot be connected to.
    pub(super) fn prepare(
        &self,
        process: &mut Process,
        detach: bool,
        name: &'static str,
    ) -> Result<ExtraFds<'_>> {
        let refuse = |reason| Err(Error::config("--console-socket", "", reason));
        match (&mut process.terminal, detach, &self.console_socket) {
            (Some(_), true, None) => {
                return refuse("a detached process with a terminal needs one");
            }
            (_, false, Some(_)) => return refuse("needs a process that is detached"),
            (None, _, Some(_)) => return refuse("needs a process with a terminal"),
            (Some(size), false, None) => {
                *size = terminal::size().unwrap_or(*size);
                process.keep_newlines = terminal::keeps_newlines();
            }
            _ => {}
        }
        if let Some(path) = &self.pid_file {
            check_pid_file(path)?;
        }
        descriptor::pass_to(process, self.preserve_fds)?;
        Ok(ExtraFds {
            console: self.console_socket.as_deref().map(Receiver::connect).transpose()?,
            pidfd: self.pidfd_socket.as_deref().map(Receiver::connect).transpose()?,
            pid_file: self.pid_file.as_deref(),
            name,
        })
    }
}

impl ExtraFds<'_> {
    /// Sends the terminal and the pidfd of the process, and writes its ID.
    ///
    /// # Errors
    /// [`Code::SystemError`] with the path. The caller must then kill the process.
    pub(super) fn send(self, running: &mut Running) -> Result<()> {
        if let Some(receiver) = self.console {
            let master = running.console.take().ok_or_else(|| {
                Error::reason(Code::SystemError, "send", "console", "the process has no terminal")
            })?;
            receiver.send(master.as_fd(), "/dev/ptmx")?;
        }
        if let Some(receiver) = self.pidfd {
            receiver.send(running.pidfd(), self.name)?;
        }
        match self.pid_file {
            Some(path) => write_pid(path, running.pid()),
            None => Ok(()),
        }
    }
}

/// Refuses a pid file that exists and is no regular file. It would be replaced: a device, a FIFO
/// that another program reads, a link.
fn check_pid_file(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Error::config("--pid-file", path.display(), "is not a regular file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::path("stat", path, error)),
    }
}

/// Writes a pid file atomically, since other programs wait for it to appear.
fn write_pid(path: &Path, pid: i32) -> Result<()> {
    // Again: it may have been made meanwhile.
    check_pid_file(path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&draft)
        .and_then(|mut file| write!(file, "{pid}"))
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&draft);
        Error::path("write", path, error)
    })
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_pid_file_is_replaced_and_no_draft_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        write_pid(&path, 1).unwrap();
        write_pid(&path, 4711).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4711");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let missing = directory.path().join("no/pid");
        assert_eq!(write_pid(&missing, 1).unwrap_err().errno(), Some(Errno::NOENT));
    }

    #[test]
    fn a_console_socket_is_needed_exactly_for_a_detached_terminal() {
        let result = |terminal: bool, detach: bool, socket: bool| {
            let terminal = terminal.then(Default::default);
            let mut process = Process { terminal, ..Process::default() };
            let setup = ConsoleSetup {
                console_socket: socket.then(|| "/nonexistent/socket".into()),
                ..ConsoleSetup::default()
            };
            setup.prepare(&mut process, detach, "standard").map(drop).map_err(|e| e.to_string())
        };
        for (terminal, detach, socket) in
            [(false, true, false), (false, false, false), (true, false, false)]
        {
            assert_eq!(result(terminal, detach, socket), Ok(()));
        }
        let connecting = result(true, true, true).unwrap_err();
        assert!(connecting.starts_with("connect `/nonexistent/socket`: No such"), "{connecting}");
        for (terminal, detach, socket, reason) in [
            (true, true, false, "a detached process with a terminal needs one"),
            (true, false, true, "needs a process that is detached"),
            (false, true, true, "needs a process with a terminal"),
        ] {
            let error = result(terminal, detach, socket).unwrap_err();
            assert!(error.ends_with(reason), "{error}");
        }
    }
}
