//! Processes that were spawned, from the clone to the exec of the program.
#![allow(unsafe_code, reason = "clones a child that shares the memory")]

use pidone_proto::{Call, Codec, Report, Slot};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

use super::workspace::Workspace;
use super::{PROCESSES, Supervisor, watch};
use crate::channel::{Channel, Wire};
use crate::failure::{Context, Failure, Result};
use crate::kernel::signal;

/// A process that was made and not yet reaped.
pub(super) struct Process {
    pub(super) number: u32,
    pub(super) pid: i32,
    /// The client that started it, and that client's name for it.
    pub(super) client: u32,
    pub(super) tag: u32,
    /// Until its program runs.
    pub(super) start: Option<Start>,
    /// Whether its program was executed, so that its end is reported.
    pub(super) spawned: bool,
    /// Its terminal, whose size may be changed.
    pub(super) terminal: Option<OwnedFd>,
    /// The memory that it uses until its program runs.
    pub(super) workspace: Option<Workspace>,
}

/// A start that is in progress.
pub(super) struct Start {
    /// Where the child's reports come from.
    status: Channel,
    pidfd: OwnedFd,
    /// Whether the child has reported that it waits for its start.
    waits: bool,
}

/// What to spawn.
#[derive(Clone, Copy)]
pub(super) struct Spawn {
    pub(super) client: u32,
    pub(super) tag: u32,
    pub(super) main: bool,
    pub(super) operations: u32,
}

impl Supervisor<'_> {
    /// Makes a child that runs operations of a plan, in the workspace that received the request.
    ///
    /// # Safety
    /// The plan must be in that workspace, or in the mapping that the workspace keeps.
    pub(super) unsafe fn spawn(&mut self, spawn: Spawn, plan: &'static [u8]) -> Result {
        let full = Failure::new(Call::Limit, Errno::AGAIN);
        if spawn.main && self.main.is_some() {
            return Err(Failure::new(Call::Supervise, Errno::BUSY));
        }
        if self.deadline.is_some() {
            return Err(Failure::new(Call::Supervise, Errno::SHUTDOWN));
        }
        let place = self.processes.iter().position(Option::is_none).ok_or(full)?;
        let (type_, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, type_, flags, None).during(Call::Socket)?;
        let Spawn { client, tag, main, operations } = spawn;
        let workspace = self.workspace.as_ref().ok_or(full)?;
        let status = theirs.as_raw_fd();
        // SAFETY: the plan is where the caller says. The process keeps the workspace below, until
        // its program was executed or it has ended. If the clone fails, there is no child.
        let child = unsafe { workspace.clone_child((status, &self.slots), (operations, plan)) };
        let (pid, pidfd) = child.during(Call::Clone)?;
        drop(theirs);
        let number = self.next_number();
        let data = PROCESSES + u64::try_from(place).unwrap_or(0);
        let _ = rustix::io::ioctl_fionbio(&ours, true);
        // If it cannot be watched, its end is still noticed by SIGCHLD.
        let _ = watch(&self.epoll, ours.as_fd(), data);
        let start = Some(Start { status: Channel::new(ours), pidfd, waits: false });
        let (spawned, terminal, workspace) = (false, None, self.workspace.take());
        if let Some(free) = self.processes.get_mut(place) {
            *free = Some(Process { number, pid, client, tag, start, spawned, terminal, workspace });
        }
        if main {
            self.main = Some(number);
        }
        Ok(())
    }

    /// Takes back the workspace of a child that no longer uses it: for the next message, unless
    /// there is one already or its pages are not worth keeping.
    pub(super) fn give_back(&mut self, workspace: Option<Workspace>) {
        if self.workspace.is_none() && workspace.as_ref().is_some_and(Workspace::is_small) {
            self.workspace = workspace;
        }
    }

    /// Receives all reports of a child that is being started.
    pub(super) fn receive_all(&mut self, place: usize) {
        while self.receive(place) {}
    }

    /// Receives one report of such a child; returns whether there may be more.
    fn receive(&mut self, place: usize) -> bool {
        let Some(Some(process)) = self.processes.get_mut(place) else { return false };
        let (number, pid, client, tag) = (process.number, process.pid, process.client, process.tag);
        let Some(start) = &mut process.start else { return false };
        let waits = start.waits;
        let mut buffer = [0; 128];
        let received = start.status.receive(&mut buffer, &mut self.slots);
        let report = match &received {
            Ok((_, body)) => Wire::decode::<Report<'_>>(body).ok().map(|(report, _)| report),
            Err(failure) if failure.errno == Errno::AGAIN => return false,
            // End-of-file: exec has closed the socket, or the child has ended.
            Err(_) => None,
        };
        match report {
            Some(Report::Console) => self.forward_console(place),
            // Later reports of it go to the process that starts it.
            Some(Report::Waiting) => start.waits = true,
            Some(Report::Failed { step, call, detail, errno }) => {
                self.finish_start(place);
                self.report(client, &Report::NotSpawned { tag, step, call, detail, errno }, None);
                return false;
            }
            None if received.is_err()
                && (waits || process.workspace.as_ref().is_some_and(Workspace::was_executing)) =>
            {
                // A child that waits still uses its workspace.
                let workspace = if waits { None } else { process.workspace.take() };
                let Some(Start { pidfd, .. }) = self.finish_start(place) else { return false };
                self.give_back(workspace);
                let pid = pid.unsigned_abs();
                let report = Report::Spawned { tag, process: number, pid };
                // If it cannot be reported, its client is dismissed, and it is killed.
                self.report(client, &report, Some(pidfd.as_fd()));
                if let Some(Some(process)) = self.processes.get_mut(place) {
                    process.spawned = true;
                }
                return false;
            }
            _ => {
                // It ended too early, or its plan contains what is not possible here.
                let _ = signal::send(pid, signal::KILL);
                self.finish_start(place);
                let errno = u16::try_from(Errno::CHILD.raw_os_error()).unwrap_or(0);
                let (step, call, detail) = (0, Call::Supervise, 0);
                self.report(client, &Report::NotSpawned { tag, step, call, detail, errno }, None);
                return false;
            }
        }
        true
    }

    /// Ends the start of a process, whether it has succeeded or not.
    fn finish_start(&mut self, place: usize) -> Option<Start> {
        let start = self.processes.get_mut(place)?.as_mut()?.start.take()?;
        self.unwatch(start.status.as_fd());
        Some(start)
    }

    /// Passes the master of a new terminal to the client. Keeps the other end, by which the size of
    /// the terminal is changed.
    fn forward_console(&mut self, place: usize) {
        let Ok(master) = self.slots.take(Slot(0)) else { return };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let Some(Some(process)) = self.processes.get_mut(place) else { return };
        process.terminal = ioctl_tiocgptpeer(&master, flags).ok();
        let (client, tag) = (process.client, process.tag);
        self.report(client, &Report::SpawnConsole { tag }, Some(master.as_fd()));
    }
}
