//! Commands around a mount: programs of the host that see the container's mounts.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::config::Command;
use crate::error::Result;
use crate::program::Program;

/// Runs commands in the mount namespace of a process, one behind the other.
///
/// # Errors
/// [`crate::Code::SystemError`] for the first that cannot be executed or does not exit with 0.
pub(crate) fn run(commands: &[Command], pidfd: BorrowedFd<'_>) -> Result<()> {
    commands.iter().try_for_each(|command| {
        let args = [std::slice::from_ref(&command.path), &command.args].concat();
        let program = Program {
            step: "run",
            name: command.path.clone(),
            path: &command.path,
            args: &args,
            env: &command.env,
            directory: Path::new(&command.dir),
            mounts: Some(pidfd),
            input: b"",
            timeout: None,
        };
        program.run()
    })
}
