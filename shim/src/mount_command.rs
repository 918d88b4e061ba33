//! Commands around a mount: programs of the host that see the container's mounts.
#![allow(unsafe_code, reason = "a child that enters a mount namespace before exec")]

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Stdio};

use nix::sched::{CloneFlags, setns};
use rustix::io::Errno;
use rustix::process::chdir;

use crate::config::Command;
use crate::error::{Error, Result};

/// Runs commands in the mount namespace of a process, one behind the other.
///
/// # Errors
/// [`crate::Code::SystemError`] for the first that cannot be executed or does not exit with 0.
pub(crate) fn run(commands: &[Command], pidfd: BorrowedFd<'_>) -> Result<()> {
    for command in commands {
        one(command, pidfd)?;
    }
    Ok(())
}

fn one(command: &Command, pidfd: BorrowedFd<'_>) -> Result<()> {
    let mut host = process::Command::new(&command.path);
    host.args(&command.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Exactly what is configured; nothing of the caller's.
    host.env_clear();
    host.envs(command.env.iter().filter_map(|variable| variable.split_once('=')));
    let directory = CString::new(command.dir.as_str())
        .map_err(|_| Error::config("premount_cmds.dir", &command.dir, "has a NUL byte"))?;
    let namespace = pidfd
        .try_clone_to_owned()
        .map_err(|error| Error::system("dup", "the init's pidfd", error))?;
    let enter = move || -> std::io::Result<()> {
        setns(&namespace, CloneFlags::CLONE_NEWNS)?;
        // The namespace has a root of its own: the directory is meant below that one.
        if !directory.is_empty() {
            chdir(directory.as_c_str())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, on what was allocated before.
    unsafe { host.pre_exec(enter) };
    let status = host.status().map_err(|error| Error::system("exec", &command.path, error))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::system("run", &command.path, Errno::CANCELED).with_hint(status.to_string()))
}
