//! Processes that were spawned, from the clone to the program.

use pidone_proto::{Call, Codec, Report, Slot};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};

use super::room::Room;
use super::{PROCESSES, Supervisor, watch};
use crate::channel::{Channel, Wire};

use crate::failure::{Context, Failure, Result};
use crate::signal;

/// A process that was made and not yet reaped.
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
    /// The memory that it uses until its program runs.
    pub(super) room: Option<Room>,
}

/// A start that is under way.
pub(super) struct Start {
    /// What the child tells.
    status: Channel,
    pidfd: OwnedFd,
    /// Whether it has told that it waits for its start.
    waits: bool,
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
    /// Makes a child that runs operations of a plan, in the room where the request was received.
    pub(super) fn spawn(&mut self, spawn: Spawn, plan: &'static [u8]) -> Result {
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
        let room = self.room.as_ref().ok_or(full)?;
        let child = room.clone_child((theirs.as_raw_fd(), &self.slots), (operations, plan));
        let (pid, pidfd) = child.during(Call::Clone)?;
        drop(theirs);
        let number = self.number();
        let data = PROCESSES + u64::try_from(place).unwrap_or(0);
        let _ = rustix::io::ioctl_fionbio(&ours, true);
        // If it cannot be watched, its end is seen all the same.
        let _ = watch(&self.epoll, ours.as_fd(), data);
        let start = Some(Start { status: Channel::new(ours), pidfd, waits: false });
        let (spawned, terminal, room) = (false, None, self.room.take());
        if let Some(free) = self.processes.get_mut(place) {
            *free = Some(Process { number, pid, client, tag, start, spawned, terminal, room });
        }
        if main {
            self.main = Some(number);
        }
        Ok(())
    }

    /// Takes back what a child no longer uses, for the next message unless there is room for it.
    pub(super) fn give_back(&mut self, room: Option<Room>) {
        match room {
            Some(room) if self.room.is_none() && room.is_small() => self.room = Some(room),
            Some(room) => room.raze(),
            None => {}
        }
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
        let waits = start.waits;
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
            Some(Report::Waiting) => start.waits = true,
            Some(Report::Failed { step, call, detail, errno }) => {
                self.settle(place);
                self.tell(client, &Report::NotSpawned { tag, step, call, detail, errno }, None);
                return false;
            }
            None if received.is_err()
                && (waits || process.room.as_ref().is_some_and(Room::was_executing)) =>
            {
                process.spawned = true;
                // One that waits still uses it.
                let room = if waits { None } else { process.room.take() };
                let Some(Start { pidfd, .. }) = self.settle(place) else { return false };
                self.give_back(room);
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
