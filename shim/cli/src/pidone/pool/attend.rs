//! One client of the service: what it asks for, and the container that it has.

use std::os::fd::{AsFd, BorrowedFd};

use pidone::Pool;
use pidone::pool::Lease;
use pidone_config::{Error, Process, Result, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::lines::Lines;
use super::message::{Answer, Order, Program, decode};
use crate::signals::Forwarder;

/// How soon signals that the program blocks are looked at again.
const UNBLOCKED: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Runs a program for a client, and tells it how it ended. When the client goes, or `end` becomes
/// readable, the program is killed.
pub(super) fn run(
    lines: &mut Lines,
    program: Program,
    base: Process,
    pool: &Pool,
    end: BorrowedFd<'_>,
) -> Result<()> {
    let process = process(program, base, lines)?;
    let mut lease = pool.start(&process)?;
    // What the client has passed is the program's alone from here on.
    drop(process);
    let (id, pid) = (lease.container().id().to_owned(), lease.running().pid());
    lines.send(&Answer::Started { id, pid, warm: lease.is_warm() }, &[])?;
    let mut forwarder = Forwarder::default();
    if !attend(lines, &mut lease, &mut forwarder, end)? {
        return Ok(());
    }
    let exit = lease.wait()?;
    lines.send(&Answer::exited(&exit, forwarder.killed_for()), &[])
}

/// The process that a client asks for: the bundle's, as far as it does not say.
fn process(program: Program, base: Process, lines: &mut Lines) -> Result<Process> {
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
            for place in [&mut process.stdin, &mut process.stdout, &mut process.stderr] {
                *place = standard.next().unwrap_or(Stdio::Null);
            }
        }
    }
    let Program { args, env, cwd, user } = program;
    if !args.is_empty() {
        process.args = args;
    }
    for variable in env {
        process.set_variable(variable);
    }
    if let Some(cwd) = cwd {
        process.cwd = cwd;
    }
    if let Some(user) = user {
        // The bundle's numbers are those of its own user.
        (process.user, process.ids) = (user, None);
    }
    Ok(process)
}

/// Does what the client orders until the program has ended; answers whether it has, and the client
/// is still there.
fn attend(
    lines: &mut Lines,
    lease: &mut Lease,
    forwarder: &mut Forwarder,
    end: BorrowedFd<'_>,
) -> Result<bool> {
    loop {
        // What came with the request, first.
        while let Some(line) = lines.take() {
            let order: Order = decode(&line, "order")?;
            forwarder.send(lease.running(), order.signal()?)?;
        }
        if lines.has_ended() {
            return Ok(false);
        }
        let again = forwarder.is_unsettled().then_some(&UNBLOCKED);
        let mut fds = [
            PollFd::from_borrowed_fd(lease.running().pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(lines.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(end, PollFlags::IN),
        ];
        match poll(&mut fds, again) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::system("poll", "", errno)),
        }
        let [ended, said, ends] = fds.map(|fd| !fd.revents().is_empty());
        if ends {
            return Err(Error::reason(
                pidone_config::Code::ContainerNotRunning,
                "pool",
                "",
                "the service ends",
            ));
        }
        if ended {
            return Ok(true);
        }
        if said {
            lines.receive()?;
            drop(lines.take_files());
        }
        forwarder.settle(lease.running())?;
    }
}
