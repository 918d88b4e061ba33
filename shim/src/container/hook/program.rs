//! Running a program of the host to its end: hooks, and commands before and after a mount.
//!
//! Such a program may hang, write without end, or leave children that hold its standard error open.
//! It therefore has a time limit, and only the end of its output is kept.
#![allow(unsafe_code, reason = "what a child does between fork and exec")]

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use pidone_config::{Code, Error, Result};
use pidone_host::exit;
use pidone_host::pidfd::{reap_later, wait_for_end};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, seek};
use rustix::io::{self, Errno};
use rustix::process::{
    Pid, PidfdFlags, Signal, chdir, getpid, getppid, kill_process_group, pidfd_open,
    pidfd_send_signal, set_parent_process_death_signal,
};

use crate::launch::image::seal;

/// How much of the end of a program's standard error is kept, in bytes.
const OUTPUT_KEPT: usize = 4096;
/// How much of its last line an error repeats, in characters.
const HINT_LENGTH: usize = 256;
/// The default capacity of a pipe, in bytes: what it may still hold when the program has ended.
const PIPE_SIZE: usize = 65536;

/// A program to run.
pub(crate) struct HostProgram<'a> {
    /// The step that errors name, such as `hook`.
    pub(crate) step: &'static str,
    /// The object that errors name.
    pub(crate) name: String,
    /// The file; without a slash it is looked up in `$PATH`.
    pub(crate) path: &'a str,
    /// The arguments, beginning with the program's name; if empty, `path` is the only one.
    pub(crate) args: &'a [String],
    /// The whole environment, as `NAME=value`; `None` for the caller's.
    pub(crate) env: Option<&'a [String]>,
    /// The working directory; empty for the caller's, or for the root of `mounts`.
    pub(crate) directory: &'a Path,
    /// A process in whose mount namespace the program runs; `None` for the caller's namespace.
    pub(crate) mounts: Option<BorrowedFd<'a>>,
    /// The content of its standard input.
    pub(crate) input: &'a [u8],
    /// How long it may run; `None` for no limit.
    pub(crate) timeout: Option<Duration>,
}

impl HostProgram<'_> {
    /// Runs the program and waits for its end.
    ///
    /// # Errors
    /// [`Code::SystemError`] if it cannot be executed, does not exit with status 0, or exceeds its
    /// time limit.
    pub(crate) fn run(&self) -> Result<()> {
        let input = input_file(self.input)?;
        let mut child = self.command(input)?.spawn().map_err(|error| {
            let error = Error::system(self.step, &self.name, error);
            let gone = self.mounts.is_none()
                && !self.directory.as_os_str().is_empty()
                && !self.directory.is_dir();
            if gone {
                error.with_hint(format!("no directory `{}`", self.directory.display()))
            } else {
                error
            }
        })?;
        let stderr = child.stderr.take().map(OwnedFd::from);
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => WatchedChild { pidfd, group: pid, stderr }.finish(
                self.step,
                &self.name,
                self.timeout,
            ),
            Err(errno) => {
                kill_and_reap(&mut child);
                Err(Error::system("pidfd_open", &self.name, errno))
            }
        }
    }

    /// Returns the command that executes the program.
    fn command(&self, input: OwnedFd) -> Result<Command> {
        let mut command = Command::new(self.path);
        if let Some((name, args)) = self.args.split_first() {
            command.arg0(name).args(args);
        }
        if let Some(env) = self.env {
            command.env_clear();
            command.envs(env.iter().filter_map(|variable| variable.split_once('=')));
        }
        command.stdin(Stdio::from(input)).stdout(Stdio::null()).stderr(Stdio::piped());
        // The whole group is killed when the time limit is exceeded.
        command.process_group(0);
        let namespace = self.mounts.map(|pidfd| pidfd.try_clone_to_owned()).transpose();
        let namespace = namespace.map_err(|error| Error::system("dup", &self.name, error))?;
        let directory = CString::new(self.directory.as_os_str().as_bytes())
            .map_err(|_| Error::path("chdir", self.directory, Errno::INVAL))?;
        let parent = getpid();
        let prepare = move || -> std::io::Result<()> {
            // The kernel sends this signal when the forking thread ends. That thread waits for the
            // program, so it ends early only if the whole process is killed.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() != Some(parent) {
                return Err(Errno::SRCH.into());
            }
            if let Some(namespace) = &namespace {
                setns(namespace, CloneFlags::CLONE_NEWNS)?;
            }
            // Entering a mount namespace changes the root, and the directory is meant below the new
            // one.
            if !directory.is_empty() {
                chdir(directory.as_c_str())?;
            }
            close_at_exec()
        };
        // SAFETY: the closure makes only system calls and uses only memory that was allocated
        // before the fork.
        unsafe { command.pre_exec(prepare) };
        Ok(command)
    }
}

/// Marks all descriptors except for the standard ones close-on-exec, including those that the
/// caller of this library leaks.
fn close_at_exec() -> std::io::Result<()> {
    // SAFETY: closes nothing now, and no memory is passed.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Kills a child and reaps it.
fn kill_and_reap(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Makes a file with these bytes, for use as a standard input.
///
/// It is a sealed memory file rather than a pipe: its size has no limit, and a program that does
/// not read all of it neither blocks the caller nor raises `SIGPIPE` in it.
pub(crate) fn input_file(bytes: &[u8]) -> Result<OwnedFd> {
    let file = seal("standard input", bytes, MemfdFlags::NOEXEC_SEAL)?;
    seek(&file, SeekFrom::Start(0))
        .map_err(|errno| Error::system("lseek", "standard input", errno))?;
    Ok(file)
}

/// A child whose end and standard error are watched.
#[derive(Debug)]
pub(crate) struct WatchedChild {
    /// The child.
    pub(crate) pidfd: OwnedFd,
    /// The process group that it leads.
    pub(crate) group: Pid,
    /// The reading end of its standard error.
    pub(crate) stderr: Option<OwnedFd>,
}

impl WatchedChild {
    /// Waits until the child ends, and reaps it. After `timeout` it is killed with its process
    /// group. One that the kernel does not let end then is not waited for.
    ///
    /// `step` and `name` identify it in errors.
    ///
    /// # Errors
    /// [`Code::SystemError`] if the child does not exit with status 0 or exceeds the time limit.
    /// The hint is the last line that it wrote to its standard error.
    pub(crate) fn finish(
        self,
        step: &'static str,
        name: &str,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let mut output = Vec::new();
        let in_time = self.wait_until(timeout, &mut output);
        let fail = |errno| Error::system("wait for", name, errno);
        let exit = match in_time {
            Ok(true) => exit::wait(self.pidfd.as_fd()).map_err(fail)?,
            Ok(false) | Err(_) => self.kill().map_err(fail)?,
        };
        let limit = timeout.unwrap_or_default().as_secs();
        let reason = match (in_time, exit.map(|exit| (exit.code, exit.signal))) {
            (Err(errno), _) => return Err(fail(errno)),
            (Ok(false), Some(_)) => format!("not done after {limit} s, and killed"),
            (Ok(false), None) => format!("not done after {limit} s, killed, and still there"),
            (Ok(true), Some((Some(0), _))) => return Ok(()),
            (Ok(true), Some((Some(status), _))) => format!("exited with status {status}"),
            (Ok(true), Some((None, signal))) => {
                format!("killed by signal {}", signal.unwrap_or_default())
            }
            // Its pidfd was readable, so it has ended.
            (Ok(true), None) => return Err(fail(Errno::AGAIN)),
        };
        let error = Error::reason(Code::SystemError, step, name, reason);
        Err(match last_line(&output) {
            Some(line) => error.with_hint(line),
            None => error,
        })
    }

    /// Waits for the child while reading its standard error. Returns whether it ended in time.
    ///
    /// It does not wait for the end of the standard error, which a process that the child left
    /// running may hold open forever.
    fn wait_until(&self, timeout: Option<Duration>, output: &mut Vec<u8>) -> io::Result<bool> {
        // A deadline that the clock cannot represent is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut stderr = self.stderr.as_ref();
        if let Some(stderr) = stderr {
            io::ioctl_fionbio(stderr, true)?;
        }
        loop {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            fds.extend(stderr.map(|stderr| PollFd::new(stderr, PollFlags::IN)));
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match poll(&mut fds, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.first() == Some(&true) {
                if let Some(stderr) = stderr {
                    drain(stderr.as_fd(), output);
                }
                return Ok(true);
            }
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            if ready.get(1) == Some(&true)
                && let Some(open) = stderr
                && !read_some(open.as_fd(), output)
            {
                stderr = None;
            }
        }
    }

    /// Kills the child and its process group, and reaps it. Returns `None` if it does not end
    /// within 10 seconds: it waits for a disk, or is frozen.
    fn kill(self) -> io::Result<Option<exit::Exit>> {
        // The child has not been reaped, so its number still names its group.
        let _ = kill_process_group(self.group, Signal::KILL);
        // The child may have left its group.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let pid = self.group.as_raw_nonzero().get();
        match wait_for_end(self.pidfd.as_fd(), pid) {
            Ok(()) => exit::wait(self.pidfd.as_fd()),
            Err(_) => {
                reap_later(self.pidfd, pid);
                Ok(None)
            }
        }
    }
}

/// Reads what the program wrote before it ended. At most a full pipe is read, since another process
/// may go on writing.
fn drain(stderr: BorrowedFd<'_>, output: &mut Vec<u8>) {
    for _ in 0..PIPE_SIZE / OUTPUT_KEPT {
        if !read_some(stderr, output) {
            return;
        }
    }
}

/// Reads once, and keeps the end of the output. Returns whether there may be more.
fn read_some(stderr: BorrowedFd<'_>, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0; OUTPUT_KEPT];
    match io::read(stderr, &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            output.extend_from_slice(buffer.get(..length).unwrap_or_default());
            output.drain(..output.len().saturating_sub(OUTPUT_KEPT));
            true
        }
        Err(errno) => errno == Errno::INTR,
    }
}

/// Returns the last line that is not blank, shortened to [`HINT_LENGTH`] characters.
fn last_line(output: &[u8]) -> Option<String> {
    let output = String::from_utf8_lossy(output);
    let line = output.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().take(HINT_LENGTH).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_is_trimmed_and_shortened() {
        assert_eq!(last_line(b"one\ntwo \n\n").as_deref(), Some("two"));
        assert_eq!(last_line(b" \n\n"), None);
        assert_eq!(last_line(&[b'x'; OUTPUT_KEPT]).unwrap().len(), HINT_LENGTH);
    }

    #[test]
    fn input_file_is_read_from_its_beginning() {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::from(input_file(b"state").unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "state");
    }
}
