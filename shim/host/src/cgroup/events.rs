//! Watching for a cgroup that runs out of memory, or is about to.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use pidone_config::{Code, Error, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd};
use rustix::fs::{OFlags, Timespec};
use rustix::io::Errno;

use super::directory::{Directory, is_gone, read_all};
use super::{Cgroups, Mode};

const OOM_CONTROL: &str = "memory.oom_control";
const EVENT_CONTROL: &str = "cgroup.event_control";
const MEMORY_EVENTS: &str = "memory.events";
const CGROUP_EVENTS: &str = "cgroup.events";
const PRESSURE: &str = "memory.pressure";

/// A level of memory pressure.
///
/// On cgroup v1 these are the levels of `memory.pressure_level`. On cgroup v2 they are triggers on
/// the time that processes wait for memory within two seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PressureLevel {
    /// The kernel reclaims memory for new allocations. On cgroup v2 some process waited for 100 ms.
    Low,
    /// Reclaim takes effort, such as swapping. On cgroup v2 some process waited for 400 ms.
    Medium,
    /// The OOM killer is near. On cgroup v2 all processes waited at once for 200 ms.
    Critical,
}

impl PressureLevel {
    fn v1(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::Critical => "critical",
        }
    }

    /// Returns the trigger. Without `CAP_SYS_RESOURCE` the kernel accepts only windows of a
    /// multiple of two seconds.
    fn v2(self) -> &'static str {
        match self {
            Self::Low => "some 100000 2000000",
            Self::Medium => "some 400000 2000000",
            Self::Critical => "full 200000 2000000",
        }
    }
}

/// The result of [`Watcher::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Nothing has happened.
    Nothing,
    /// The event happened this many times since the last notice.
    Happened(u64),
    /// The cgroup was removed, or on cgroup v2 its last process has ended. No more notices follow.
    Gone,
}

/// Watches a cgroup for one type of event, until the cgroup is removed.
///
/// [`Watcher::wait`] blocks. In an event loop, poll the descriptor for [`Watcher::poll_flags`] and
/// call [`Watcher::check`] when it is ready.
#[derive(Debug)]
pub struct Watcher {
    directory: Directory,
    fd: OwnedFd,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// `fd` is an eventfd that the kernel writes to, a last time when the cgroup is removed.
    EventFd { ended: bool },
    /// `fd` is an epoll descriptor for both files.
    Counters { memory: OwnedFd, cgroup: OwnedFd, seen: Counters, state: State },
    /// `fd` is the pressure file with a trigger.
    Trigger,
}

/// What was read from `cgroup.events`.
#[derive(Debug, Default)]
struct State {
    text: String,
    was_populated: bool,
}

impl State {
    /// Takes the text of the file, which poll reported as changed or not. Returns whether the last
    /// process has ended.
    ///
    /// A reported change without a difference means that processes entered and left meanwhile.
    fn has_ended(&mut self, text: String, announced: bool) -> bool {
        let is_populated = text.lines().any(|line| line == "populated 1");
        self.was_populated |= is_populated || (announced && text == self.text);
        self.text = text;
        self.was_populated && !is_populated
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    oom: u64,
    oom_kill: u64,
}

impl Counters {
    fn parse(text: &str) -> Self {
        let mut counters = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match key {
                "oom" => counters.oom = value.parse().unwrap_or(0),
                "oom_kill" => counters.oom_kill = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        counters
    }

    /// Returns the number of events since an earlier state.
    ///
    /// Reaching the limit increments both counters, a global lack of memory only `oom_kill`, and
    /// reaching the limit without killing a process only `oom`.
    fn since(self, seen: Self) -> u64 {
        let oom = self.oom.saturating_sub(seen.oom);
        oom.max(self.oom_kill.saturating_sub(seen.oom_kill))
    }
}

impl Cgroups {
    /// Watches for a cgroup that reaches its memory limit and has nothing left to reclaim.
    ///
    /// # Errors
    /// The controller `memory` is missing, or the cgroup does not exist.
    pub fn watch_oom(&self) -> Result<Watcher> {
        let directory = self.memory()?;
        if self.mode == Mode::V2 {
            watch_counters(directory)
        } else {
            watch_v1(directory, OOM_CONTROL, "")
        }
    }

    /// Watches for memory pressure.
    ///
    /// # Errors
    /// Those of [`Cgroups::watch_oom`]; on cgroup v2 a kernel without pressure stall information.
    pub fn watch_memory_pressure(&self, level: PressureLevel) -> Result<Watcher> {
        let directory = self.memory()?;
        if self.mode != Mode::V2 {
            return watch_v1(directory, "memory.pressure_level", level.v1());
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        let fd = directory.file(PRESSURE, flags).map_err(|errno| {
            directory
                .error("open", PRESSURE, errno)
                .with_hint("the kernel has no pressure stall information")
        })?;
        // The trigger lives as long as the descriptor. The kernel expects a terminating zero.
        let trigger = level.v2();
        rustix::io::write(&fd, format!("{trigger}\0").as_bytes())
            .map_err(|errno| directory.write_error(PRESSURE, trigger, errno))?;
        Ok(Watcher { directory, fd, source: Source::Trigger })
    }

    fn memory(&self) -> Result<Directory> {
        self.controller("memory")?.ok_or_else(|| {
            let reason = "the cgroup controller `memory` is not mounted, or the cgroup is gone";
            Error::reason(Code::SystemError, "watch memory", "", reason)
        })
    }
}

/// Registers an eventfd for a file of cgroup v1: the kernel's `cgroup-v1/memory`, section 9.
fn watch_v1(directory: Directory, file: &str, arguments: &str) -> Result<Watcher> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|errno| Error::system("eventfd", "", errno))?;
    let watched = directory
        .file(file, OFlags::RDONLY)
        .map_err(|errno| directory.error("open", file, errno))?;
    let line = format!("{} {} {arguments}", fd.as_raw_fd(), watched.as_raw_fd());
    directory.write(EVENT_CONTROL, line.trim_end())?;
    Ok(Watcher { directory, fd, source: Source::EventFd { ended: false } })
}

fn watch_counters(directory: Directory) -> Result<Watcher> {
    let open = |file: &str| {
        directory.file(file, OFlags::RDONLY).map_err(|errno| directory.error("open", file, errno))
    };
    let memory = open(MEMORY_EVENTS).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => {
            error.with_hint("the controller memory is not enabled for this cgroup")
        }
        _ => error,
    })?;
    let cgroup = open(CGROUP_EVENTS)?;
    let fd = epoll::create(epoll::CreateFlags::CLOEXEC)
        .map_err(|errno| Error::system("epoll_create", "", errno))?;
    for file in [&memory, &cgroup] {
        epoll::add(&fd, file, epoll::EventData::new_u64(0), epoll::EventFlags::PRI)
            .map_err(|errno| Error::path("epoll_ctl", directory.path(), errno))?;
    }
    let (seen, state) = (Counters::default(), State::default());
    let source = Source::Counters { memory, cgroup, seen, state };
    let mut watcher = Watcher { directory, fd, source };
    // Skips earlier events. Reading also makes poll report later changes of the files.
    while let Notice::Happened(_) = watcher.check()? {}
    Ok(watcher)
}

impl Watcher {
    /// Blocks until the event happens, and returns how often it did. Returns `None` at the end of
    /// the cgroup, as for [`Notice::Gone`].
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn wait(&mut self) -> Result<Option<u64>> {
        loop {
            // cgroup v2 reports the end of the last process, but not the removal of a cgroup that
            // never had one.
            let once_a_second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let timeout = match self.source {
                Source::Counters { state: State { was_populated: false, .. }, .. } => {
                    Some(&once_a_second)
                }
                _ => None,
            };
            let mut poll = [PollFd::new(&self.fd, self.poll_flags())];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, timeout))
                .map_err(|errno| Error::path("poll", self.directory.path(), errno))?;
            match self.check()? {
                Notice::Nothing => {}
                Notice::Happened(times) => return Ok(Some(times)),
                Notice::Gone => return Ok(None),
            }
        }
    }

    /// Returns the events to poll the descriptor for.
    #[must_use]
    pub fn poll_flags(&self) -> PollFlags {
        match self.source {
            Source::EventFd { .. } | Source::Counters { .. } => PollFlags::IN,
            Source::Trigger => PollFlags::PRI,
        }
    }

    /// Returns what has happened since the last call, without blocking.
    ///
    /// A trigger of memory pressure on cgroup v2 has no counter. For such a watcher, call this only
    /// when the descriptor is ready.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn check(&mut self) -> Result<Notice> {
        match &mut self.source {
            Source::EventFd { ended: true } => Ok(Notice::Gone),
            Source::EventFd { ended } => {
                *ended = !self.directory.has(EVENT_CONTROL);
                let mut count = [0; 8];
                let times = match rustix::io::read(&self.fd, &mut count) {
                    Ok(_) => u64::from_ne_bytes(count),
                    Err(Errno::AGAIN) => 0,
                    Err(errno) => return Err(Error::system("read eventfd", "", errno)),
                };
                if *ended {
                    // The read may have consumed the notice of the removal, so restore it.
                    rustix::io::write(&self.fd, &1_u64.to_ne_bytes())
                        .map_err(|errno| Error::system("write eventfd", "", errno))?;
                }
                Ok(match times {
                    // The kernel reports the removal as one more event.
                    0 | 1 if *ended => Notice::Gone,
                    0 => Notice::Nothing,
                    times => Notice::Happened(times - u64::from(*ended)),
                })
            }
            Source::Counters { memory, cgroup, seen, state } => {
                let read = |file: &OwnedFd, name| match read_all(file.as_fd()) {
                    Ok(text) => Ok(Some(text)),
                    Err(errno) if is_gone(errno) => Ok(None),
                    Err(errno) => Err(self.directory.error("read", name, errno)),
                };
                let Some(events) = read(memory, MEMORY_EVENTS)? else { return Ok(Notice::Gone) };
                let counters = Counters::parse(&events);
                let times = counters.since(*seen);
                *seen = counters;
                if times > 0 {
                    // The other file is not read, so that poll still reports its change.
                    return Ok(Notice::Happened(times));
                }
                let mut poll = [PollFd::new(cgroup, PollFlags::PRI)];
                let now = Timespec::default();
                rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, Some(&now)))
                    .map_err(|errno| self.directory.error("poll", CGROUP_EVENTS, errno))?;
                let announced = poll[0].revents().contains(PollFlags::PRI);
                let Some(text) = read(cgroup, CGROUP_EVENTS)? else { return Ok(Notice::Gone) };
                let ended = state.has_ended(text, announced);
                Ok(if ended { Notice::Gone } else { Notice::Nothing })
            }
            Source::Trigger if self.directory.has(PRESSURE) => Ok(Notice::Happened(1)),
            Source::Trigger => Ok(Notice::Gone),
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_since_the_last_state() {
        let text = "low 0\nhigh 4\nmax 9\noom 2\noom_kill 1\noom_group_kill 7\n";
        let counters = Counters::parse(text);
        assert_eq!(counters, Counters { oom: 2, oom_kill: 1 });
        assert_eq!(counters.since(Counters::default()), 2);
        assert_eq!(counters.since(counters), 0);
        assert_eq!(counters.since(Counters { oom: 2, oom_kill: 0 }), 1);
        assert_eq!(Counters::parse("garbage\noom x\n"), Counters::default());
    }

    #[test]
    fn counters_of_cgroup_v2_become_notices() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(root.path().join(file), text).unwrap();
        let file = |name: &str| OwnedFd::from(std::fs::File::open(root.path().join(name)).unwrap());
        write(MEMORY_EVENTS, "oom 1\noom_kill 1\n");
        write(CGROUP_EVENTS, "populated 0\n");
        let source = Source::Counters {
            memory: file(MEMORY_EVENTS),
            cgroup: file(CGROUP_EVENTS),
            seen: Counters { oom: 1, oom_kill: 1 },
            state: State::default(),
        };
        let directory = Directory::existing(root.path()).unwrap();
        let mut watcher = Watcher { directory, fd: file(CGROUP_EVENTS), source };

        assert_eq!(watcher.check().unwrap(), Notice::Nothing);
        write(CGROUP_EVENTS, "populated 1\n");
        assert_eq!(watcher.check().unwrap(), Notice::Nothing);
        write(MEMORY_EVENTS, "oom 4\noom_kill 2\n");
        write(CGROUP_EVENTS, "populated 0\n");
        assert_eq!(watcher.check().unwrap(), Notice::Happened(3));
        assert_eq!(watcher.check().unwrap(), Notice::Gone);
    }

    #[test]
    fn the_end_of_the_last_process_is_noticed() {
        let populated = "populated 1\nfrozen 0\n".to_owned();
        let empty = "populated 0\nfrozen 0\n".to_owned();
        let frozen = "populated 0\nfrozen 1\n".to_owned();
        let mut state = State::default();
        assert!(!state.has_ended(empty.clone(), true));
        assert!(!state.has_ended(frozen.clone(), true));
        assert!(!state.has_ended(empty.clone(), true));
        assert!(!state.has_ended(populated, true));
        assert!(state.has_ended(empty.clone(), true));

        let mut missed = State::default();
        assert!(!missed.has_ended(empty.clone(), true));
        assert!(!missed.has_ended(empty.clone(), false));
        assert!(missed.has_ended(empty, true));
    }

    #[test]
    fn the_end_is_reported_after_the_last_event() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(EVENT_CONTROL), "").unwrap();
        let directory = Directory::existing(root.path()).unwrap();
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let kernel = fd.try_clone().unwrap();
        let signal = || rustix::io::write(&kernel, &1_u64.to_ne_bytes()).unwrap();
        let mut watcher = Watcher { directory, fd, source: Source::EventFd { ended: false } };

        assert_eq!(watcher.check().unwrap(), Notice::Nothing);
        signal();
        assert_eq!(watcher.wait().unwrap(), Some(1));
        // Two events and the removal before the next read.
        signal();
        signal();
        std::fs::remove_file(root.path().join(EVENT_CONTROL)).unwrap();
        signal();
        assert_eq!(watcher.wait().unwrap(), Some(2));
        assert_eq!(watcher.wait().unwrap(), None);
        assert_eq!(watcher.wait().unwrap(), None);
    }

    #[test]
    fn watching_without_the_memory_controller_is_an_error() {
        assert!(Cgroups::default().watch_oom().is_err());
        assert!(Cgroups::default().watch_memory_pressure(PressureLevel::Low).is_err());
    }
}
