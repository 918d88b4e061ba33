//! Commands before and after a mount: programs of the host that see the container's mounts.

use std::os::fd::BorrowedFd;
use std::path::Path;

use pidone_config::Result;
use pidone_config::config::Command;

use crate::container::hook::program::HostProgram;

/// Runs commands in the mount namespace of a process in order, until one fails.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] for the first command that cannot be executed or does not
/// exit with status 0.
pub(crate) fn run_all(commands: &[Command], pidfd: BorrowedFd<'_>) -> Result<()> {
    commands.iter().try_for_each(|command| {
        let args = [std::slice::from_ref(&command.path), &command.args].concat();
        let program = HostProgram {
            step: "run",
            name: command.path.clone(),
            path: &command.path,
            args: &args,
            env: command.env.as_deref(),
            directory: Path::new(&command.dir),
            mounts: Some(pidfd),
            input: b"",
            timeout: None,
        };
        program.run()
    })
}
