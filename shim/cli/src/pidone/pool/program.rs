//! Runs the program of one client in a container of the pool.

use std::os::fd::{AsFd, BorrowedFd};

use pidone::Pool;
use pidone::pool::Lease;
use pidone_config::{Error, Process, Result, Stdio};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::lines::Lines;
use super::message::{Control, Program, Response, decode};
use crate::session::UNBLOCK_INTERVAL;
use crate::signals::Forwarder;

/// Runs a program for a client, and sends its exit status. The program is killed when the client
/// disconnects or `end` becomes readable.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if the request or a later message is wrong; those of
/// [`Pool::start`]; [`pidone_config::Code::ContainerNotRunning`] if the service ends.
pub(super) fn run_program(
    lines: &mut Lines,
    program: Program,
    base: Process,
    pool: &Pool,
    end: BorrowedFd<'_>,
) -> Result<()> {
    let process = requested_process(program, base, lines)?;
    let mut lease = pool.start(&process)?;
    // Close the descriptors of the client, which the program has now.
    drop(process);
    let (id, pid) = (lease.container().id().to_owned(), lease.running().pid());
    lines.send(&Response::Started { id, pid, warm: lease.is_warm() }, &[])?;
    let mut forwarder = Forwarder::default();
    if !wait_for_exit(lines, &mut lease, &mut forwarder, end)? {
        return Ok(());
    }
    let exit = lease.wait()?;
    lines.send(&Response::exited(&exit, forwarder.killed_for()), &[])
}

/// Returns the process of the bundle, overridden by the request and its descriptors.
fn requested_process(program: Program, base: Process, lines: &mut Lines) -> Result<Process> {
    let mut files = lines.take_files();
    let mut process = Process {
        stdin: Stdio::Null,
        stdout: Stdio::Null,
        stderr: Stdio::Null,
        terminal: None,
        ..base
    };
    match files.len() {
        0 => {}
        1 | 2 => {
            let reason = "must be none, or standard input, output and error and what follows them";
            return Err(Error::config("descriptors", files.len(), reason));
        }
        _ => {
            process.extra_files = files.split_off(3);
            let mut standard = files.into_iter().map(Stdio::Fd);
            for stream in [&mut process.stdin, &mut process.stdout, &mut process.stderr] {
                *stream = standard.next().unwrap_or(Stdio::Null);
            }
        }
    }
    let Program { args, env, cwd, user } = program;
    if !args.is_empty() {
        process.args = args.into_iter().map(Into::into).collect();
    }
    for variable in env {
        process.set_variable(variable);
    }
    if let Some(cwd) = cwd {
        process.cwd = cwd;
    }
    if let Some(user) = user {
        // Drop the numeric IDs, which are those of the bundle's user.
        (process.user, process.ids) = (user, None);
    }
    Ok(process)
}

/// Carries out the client's orders until the program exits. Returns false if the client disconnects
/// first. A client that has only closed its sending side gives no more orders.
fn wait_for_exit(
    lines: &mut Lines,
    lease: &mut Lease,
    forwarder: &mut Forwarder,
    end: BorrowedFd<'_>,
) -> Result<bool> {
    loop {
        // First the lines that were received together with the request.
        while let Some(line) = lines.take() {
            obey(&line, lines, lease, forwarder)?;
        }
        // From then on only the end of the connection is of interest, which poll(2) always reports.
        let wanted = if lines.has_ended() { PollFlags::empty() } else { PollFlags::IN };
        let timeout = forwarder.has_held().then_some(&UNBLOCK_INTERVAL);
        let mut fds = [
            PollFd::from_borrowed_fd(lease.running().pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(lines.as_fd(), wanted),
            PollFd::from_borrowed_fd(end, PollFlags::IN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::system("poll", "", errno)),
        }
        let gone = fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR);
        let [exited, received, service_ends] = fds.map(|fd| !fd.revents().is_empty());
        if service_ends {
            return Err(Error::reason(
                pidone_config::Code::ContainerNotRunning,
                "pool",
                "",
                "the service ends",
            ));
        }
        if exited {
            return Ok(true);
        }
        if gone {
            return Ok(false);
        }
        if received {
            lines.receive()?;
            drop(lines.take_files());
        }
        forwarder.retry_held(lease.running())?;
    }
}

/// Carries out an order. One that is wrong is answered, and changes nothing.
fn obey(line: &[u8], lines: &Lines, lease: &mut Lease, forwarder: &mut Forwarder) -> Result<()> {
    match decode::<Control>(line, "order").and_then(Control::signal) {
        Ok(0) => lines.send(&Response::Running {}, &[]),
        Ok(signal) => forwarder.send(lease.running(), signal),
        Err(error) => lines.send(&Response::refused(&error), &[]),
    }
}
