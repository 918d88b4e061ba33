//! Processes that were spawned, from the fork to the program.

use pidone_proto::{Call, Codec, Part, Report, Slot, limits};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

use super::{PROCESSES, Supervisor, watch};
use crate::channel::{Channel, Wire};

use crate::failure::{Context, Failure, Result};
use crate::interpret::Init;
use crate::{child, signal, sys};

/// A process that was forked and not yet reaped.
pub(super) struct Process {
    pub(super) number: u32,
    pub(super) pid: i32,
    /// Who started it, and calls it what.
    pub(super) client: u32,
    pub(super) tag: u32,
    /// Until its program runs.
    pub(super) start: Option<Start>,
    /// Whether its program came, so that its end is told.
    pub(super) spawned: bool,
    /// Its terminal, as whose size it may change.
    pub(super) terminal: Option<OwnedFd>,
}

/// A start that is under way.
pub(super) struct Start {
    /// What the child tells.
    status: Channel,
    pidfd: OwnedFd,
    /// Whether its program comes next.
    executing: bool,
}

/// What is spawned.
#[derive(Clone, Copy)]
pub(super) struct Spawn {
    pub(super) client: u32,
    pub(super) tag: u32,
    pub(super) main: bool,
    pub(super) operations: u32,
}

impl Supervisor<'_> {
    /// Forks a child that runs operations. `plan` finds them in the child's own copy of what was
    /// received.
    pub(super) fn spawn(
        &mut self,
        spawn: Spawn,
        plan: impl FnOnce(&mut Self) -> Option<&'static [u8]>,
    ) -> Result {
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
        let Some((pid, pidfd)) = child::fork_with_pidfd().during(Call::Clone)? else {
            drop(ours);
            self.become_process(theirs, spawn.operations, plan)
        };
        drop(theirs);
        let number = self.number();
        let data = PROCESSES + u64::try_from(place).unwrap_or(0);
        let _ = rustix::io::ioctl_fionbio(&ours, true);
        // If it cannot be watched, its end is seen all the same.
        let _ = watch(&self.epoll, ours.as_fd(), data);
        let Spawn { client, tag, .. } = spawn;
        let start = Some(Start { status: Channel::new(ours), pidfd, executing: false });
        if let Some(free) = self.processes.get_mut(place) {
            *free =
                Some(Process { number, pid, client, tag, start, spawned: false, terminal: None });
        }
        if spawn.main {
            self.main = Some(number);
        }
        Ok(())
    }

    /// The child: it becomes the program, or tells why not and ends.
    fn become_process(
        &mut self,
        status: OwnedFd,
        operations: u32,
        plan: impl FnOnce(&mut Self) -> Option<&'static [u8]>,
    ) -> ! {
        signal::unblock();
        // A limit of the program's may leave no room for them.
        for fd in [self.epoll.as_fd(), self.listener, self.signals.as_fd()] {
            sys::close_in_child(fd);
        }
        self.clients = [const { None }; limits::CLIENTS];
        self.processes = [const { None }; limits::PROCESSES];
        let mut init = Init::new(Channel::new(status));
        let plan = plan(self).unwrap_or_default();
        core::mem::swap(&mut init.slots, &mut self.slots);
        let part = Part { first: 1, operations, more: false, timed: false };
        let outcome = init.operations(part, plan);
        init.fail(outcome)
    }

    /// Hears what children that are being started have to tell.
    pub(super) fn progressed(&mut self, place: usize) {
        while self.hear(place) {}
    }

    /// Hears one thing; answers whether there may be more.
    fn hear(&mut self, place: usize) -> bool {
        let Some(Some(process)) = self.processes.get_mut(place) else { return false };
        let (number, pid, client, tag) = (process.number, process.pid, process.client, process.tag);
        let Some(start) = &mut process.start else { return false };
        let mut buffer = [0; 128];
        let received = start.status.receive(&mut buffer, &mut self.slots);
        let report = match &received {
            Ok((_, body)) => Wire::decode::<Report<'_>>(body).ok().map(|(report, _)| report),
            Err(failure) if failure.errno == Errno::AGAIN => return false,
            // The end: exec has closed it, or the child is gone.
            Err(_) => None,
        };
        match report {
            Some(Report::Console) => self.console(place),
            // One that waits for its start tells the rest to who starts it.
            Some(Report::Executing | Report::Waiting) => start.executing = true,
            Some(Report::Failed { step, call, detail, errno }) => {
                self.settle(place);
                self.tell(client, &Report::NotSpawned { tag, step, call, detail, errno }, None);
                return false;
            }
            None if received.is_err() && start.executing => {
                process.spawned = true;
                let Some(Start { pidfd, .. }) = self.settle(place) else { return false };
                let pid = pid.unsigned_abs();
                let report = Report::Spawned { tag, process: number, pid };
                self.tell(client, &report, Some(pidfd.as_fd()));
                return false;
            }
            _ => {
                // It died on the way, or was asked for what cannot be done here.
                let _ = signal::send(pid, signal::KILL);
                self.settle(place);
                let errno = u16::try_from(Errno::CHILD.raw_os_error()).unwrap_or(0);
                let (step, call, detail) = (0, Call::Supervise, 0);
                self.tell(client, &Report::NotSpawned { tag, step, call, detail, errno }, None);
                return false;
            }
        }
        true
    }

    /// The start of a process is over, in whatever way.
    fn settle(&mut self, place: usize) -> Option<Start> {
        let start = self.processes.get_mut(place)?.as_mut()?.start.take()?;
        self.unwatch(start.status.as_fd());
        Some(start)
    }

    /// Passes the master of a new terminal on, and keeps the other end for its size.
    fn console(&mut self, place: usize) {
        let Ok(master) = self.slots.take(Slot(0)) else { return };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let Some(Some(process)) = self.processes.get_mut(place) else { return };
        process.terminal = ioctl_tiocgptpeer(&master, flags).ok();
        let (client, tag) = (process.client, process.tag);
        self.tell(client, &Report::SpawnConsole { tag }, Some(master.as_fd()));
    }
}
