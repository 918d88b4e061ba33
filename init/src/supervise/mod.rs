//! Process 1 that stays: it starts processes for its clients, reaps everything, passes signals on,
//! and reports how processes end.
//!
//! The clients are the host's. One that dies, stalls, floods or sends garbage must not affect the
//! others: no send waits for a reader, each client gets one request served at a time, and all
//! tables have a fixed size. The processes are hostile; they have no more access to this one than
//! the kernel gives every process in the pid namespace.
#![allow(unsafe_code, reason = "closes descriptors by their numbers")]

mod client;
mod process;
mod reap;
mod serve;
mod workspace;

use core::convert::Infallible;
use core::ffi::CStr;

use pidone_proto::{Call, Report, Slot, limits};
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Pid, set_child_subreaper};

use crate::channel::Channel;
use crate::failure::{Context, Result};
use crate::interpret::Next;
use crate::kernel::descriptor::{close_range, duplicate_to_stdio};
use crate::kernel::{now, signal};
use crate::ops::terminal::is_null;
use crate::slots::Slots;
use crate::state::Init;
use client::Client;
use process::Process;
use workspace::Workspace;

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
    /// The number of the process whose end is the container's end.
    main: Option<u32>,
    /// When everything is killed, in nanoseconds, once a client has requested the end.
    deadline: Option<u64>,
    /// Where requests are received: the workspace of the next child, unless a child has it.
    workspace: Option<Workspace>,
    slots: Slots,
}

/// Becomes a supervisor, which serves for ever.
pub(crate) fn run(init: &mut Init, Next::Supervisor { listener }: Next) -> ! {
    let Err(failure) = serve(init, listener);
    init.fail(failure)
}

/// Serves for ever; only a failure at the beginning returns.
fn serve(init: &mut Init, listener: Slot) -> Result<Infallible> {
    let listener = init.slots.take(listener)?;
    release_stdio(init)?;
    init.close_all();
    // Also descriptors that the init does not know: all others belong to the creator.
    init.slots.put(Slot(0), listener)?;
    close_others(init);
    let listener = init.slots.take(Slot(0))?;
    // As process 1 it gets the orphans anyway.
    let _ = set_child_subreaper(Some(Pid::INIT));
    let signals = signal::open().during(Call::Supervise)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).during(Call::Supervise)?;
    for (fd, data) in [(listener.as_fd(), LISTENER), (signals.as_fd(), SIGNALS)] {
        watch(&epoll, fd, data).during(Call::Supervise)?;
    }
    init.channel.send(&Report::Supervising, None)?;
    // The creator of the container is the first client.
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
        workspace: None,
        slots: Slots::new(),
    };
    let _ = rustix::io::ioctl_fionbio(own.as_fd(), true);
    supervisor.admit(own);
    loop {
        supervisor.handle_events();
    }
}

/// Replaces stdio with the container's null device: this process outlives the creator of the
/// container and must not keep its files open. Without a null device stdio is kept.
fn release_stdio(init: &mut Init) -> Result {
    const PATH: &CStr = c"/dev/null";
    match init.open(PATH, OFlags::RDWR | OFlags::NONBLOCK, false) {
        Ok(null) if is_null(null.as_fd()) => {
            duplicate_to_stdio(null.as_fd()).during(Call::Duplicate)
        }
        _ => Ok(()),
    }
}

/// Watches a descriptor for input; `data` identifies its events.
fn watch(epoll: &OwnedFd, fd: BorrowedFd<'_>, data: u64) -> core::result::Result<(), Errno> {
    epoll::add(epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN)
}

/// Closes all descriptors above stdio that the interpreter does not own.
fn close_others(init: &Init) {
    let socket = init.channel.as_fd().as_raw_fd();
    let mut first = 3;
    while first != i32::MAX {
        let other = if socket < first { i32::MAX } else { socket };
        let kept = init.slots.lowest_from(first, other);
        // SAFETY: these are the numbers between two descriptors that the interpreter owns, and this
        // process uses no others at this point. The kernel refuses an empty range.
        unsafe { close_range(first.cast_unsigned(), kept.wrapping_sub(1).cast_unsigned()) };
        first = kept.saturating_add(1);
    }
}

impl Supervisor<'_> {
    /// Waits for events and handles them.
    fn handle_events(&mut self) {
        let mut events = [const {
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }
        }; 16];
        let left = self.deadline.map(|deadline| deadline.saturating_sub(now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left % 1_000_000_000).unwrap_or(0),
        });
        let count = epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()).unwrap_or(0);
        for event in events.iter().take(count) {
            let data = { event.data }.u64();
            // The place is below the first value of the next kind.
            let place = usize::try_from(data & 0xffff).unwrap_or(usize::MAX);
            match data {
                LISTENER => self.accept(),
                SIGNALS => self.handle_signals(),
                // What a client that is gone has requested is not served: it has not waited for it.
                CLIENTS..PROCESSES if { event.flags }.contains(epoll::EventFlags::HUP) => {
                    self.dismiss(place);
                }
                CLIENTS..PROCESSES => self.serve(place),
                _ => self.receive_all(place),
            }
        }
        if left == Some(0) {
            // Only once: all processes that are left are about to end.
            self.deadline = None;
            let _ = self.signal_all(signal::KILL);
        }
    }

    /// Stops watching a descriptor that is about to be closed: a child that was just cloned may
    /// still have a copy of it, which would keep it watched.
    fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Accepts a client.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = accept_with(self.listener, flags) {
            self.admit(Channel::new(socket));
        }
    }

    /// Returns a number that was not used before.
    fn next_number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        number
    }
}
