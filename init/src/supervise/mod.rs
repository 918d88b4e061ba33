//! The init as process 1 that stays: it starts processes for its clients, reaps everything, passes
//! signals on, and tells what became of whom.
//!
//! The clients are the host's. One that dies, stalls, floods or lies must not harm the others: no
//! send waits for a reader, each gets one request served at a time, and all tables have a fixed
//! size. The processes are hostile, and have nothing of this one but what the kernel gives everybody
//! in the pid namespace.

mod client;
mod process;
mod reap;
mod room;
mod serve;
pub(crate) mod stdio;

use pidone_proto::{Call, Report, Slot, limits};
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::channel::Channel;
use crate::failure::{Context, Result};
use crate::interpret::Init;
use crate::slots::Slots;
use crate::{child, signal, sys};
use client::Client;
use process::Process;
use room::Room;

/// What an event is about: the listener, the signals, or a place in one of the tables.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const CLIENTS: u64 = 0x1_0000;
const PROCESSES: u64 = 0x2_0000;

/// The state of the supervisor.
pub(crate) struct Supervisor<'a> {
    epoll: OwnedFd,
    listener: BorrowedFd<'a>,
    signals: OwnedFd,
    clients: [Option<Client>; limits::CLIENTS],
    processes: [Option<Process>; limits::PROCESSES],
    /// The number of the next process or client.
    next: u32,
    /// The process that the container ends with, by its number.
    main: Option<u32>,
    /// When everything is killed, in nanoseconds, once the end was asked for.
    deadline: Option<u64>,
    /// Where requests are received: the room of the next child, unless one has it.
    room: Option<Room>,
    slots: Slots,
}

/// Serves for ever; only a failure at the beginning returns.
pub(crate) fn run(init: &mut Init, listener: Slot) -> Result {
    let listener = init.slots.take(listener)?;
    stdio::let_go(init)?;
    init.forget();
    // Also what it does not know of: all others are the maker's.
    init.slots.put(Slot(0), listener)?;
    close_others(init);
    let listener = init.slots.take(Slot(0))?;
    // As process 1 it gets the orphans anyway.
    let _ = child::become_subreaper();
    let signals = signal::descriptor().during(Call::Supervise)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during(Call::Supervise)?;
    for (fd, data) in [(listener.as_fd(), LISTENER), (signals.as_fd(), SIGNALS)] {
        watch(&epoll, fd, data).during(Call::Supervise)?;
    }
    init.channel.send(&Report::Supervising, None)?;
    // Who made the container is the first client.
    let own = core::mem::replace(&mut init.channel, Channel::new(listener));
    let mut supervisor = Supervisor {
        epoll,
        listener: init.channel.as_fd(),
        signals,
        clients: [const { None }; limits::CLIENTS],
        processes: [const { None }; limits::PROCESSES],
        next: 1,
        main: None,
        deadline: None,
        room: None,
        slots: Slots::new(),
    };
    let _ = rustix::io::ioctl_fionbio(own.as_fd(), true);
    supervisor.admit(own);
    loop {
        supervisor.turn();
    }
}

/// Has events of a descriptor told.
fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, data: u64) -> core::result::Result<(), Errno> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN)
}

/// Closes all descriptors behind stdio but those that the interpreter has.
fn close_others(init: &Init) {
    let socket = init.channel.as_fd().as_raw_fd();
    let mut first = 3;
    while first != i32::MAX {
        let other = if socket < first { i32::MAX } else { socket };
        let kept = init.slots.lowest_from(first, other);
        // An empty range is refused, which is as well.
        sys::close_range(first.cast_unsigned(), kept.wrapping_sub(1).cast_unsigned());
        first = kept.saturating_add(1);
    }
}

impl Supervisor<'_> {
    /// Waits for something to happen, and deals with it.
    fn turn(&mut self) {
        let mut events = [const {
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }
        }; 16];
        let left = self.deadline.map(|deadline| deadline.saturating_sub(sys::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left % 1_000_000_000).unwrap_or(0),
        });
        let count = epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()).unwrap_or(0);
        for event in events.iter().take(count) {
            let data = { event.data }.u64();
            // Below the first of the next kind.
            let place = usize::try_from(data & 0xffff).unwrap_or(usize::MAX);
            match data {
                LISTENER => self.accept(),
                SIGNALS => self.signalled(),
                CLIENTS..PROCESSES => self.serve(place),
                _ => self.progressed(place),
            }
        }
        if left == Some(0) {
            // Once: whoever is left is about to end.
            self.deadline = None;
            let _ = self.signal_all(signal::KILL);
        }
    }

    /// Before a descriptor is closed: a child that was just forked may still hold a copy, which
    /// would keep it watched.
    fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Lets a client in.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = accept_with(self.listener, flags) {
            self.admit(Channel::new(socket));
        }
    }

    /// A number that nobody had before.
    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        number
    }
}
