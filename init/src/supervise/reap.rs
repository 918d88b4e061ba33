//! The end of processes, and signals.

use pidone_proto::Report;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::Supervisor;
use super::process::Process;
use crate::child::{self, Ended, Waited};
use crate::{signal, sys};

impl Supervisor<'_> {
    /// Deals with the signals that came.
    pub(super) fn signalled(&mut self) {
        while let Some(signal) = signal::next(self.signals.as_fd()) {
            if signal == signal::CHLD {
                self.reap();
            } else if let Some(main) = self.find(self.main) {
                // What somebody sends to process 1 is meant for the container's program.
                let _ = signal::send(main.pid, signal);
            }
        }
    }

    /// Reaps everything that has ended, and the init ends with the last.
    fn reap(&mut self) {
        loop {
            match child::reap() {
                Waited::Ended(ended) => self.ended(&ended),
                Waited::Running => return,
                Waited::Nobody => {
                    if self.deadline.is_some() {
                        sys::exit(0);
                    }
                    return;
                }
            }
        }
    }

    fn ended(&mut self, ended: &Ended) {
        let is_it = |process: &Option<Process>| {
            process.as_ref().is_some_and(|process| process.pid == ended.pid)
        };
        // One that nobody asked for: its parent ended before it.
        let Some(place) = self.processes.iter().position(is_it) else { return };
        // What it told before its end comes first.
        self.progressed(place);
        let Some(process) = self.processes.get_mut(place).and_then(Option::take) else { return };
        let Process { number, client, terminal, spawned, room, .. } = process;
        drop(terminal);
        self.give_back(room);
        if !spawned {
            // Who asked for it was told why it did not come.
            self.main = self.main.filter(|&main| main != number);
            return;
        }
        let ([user, system], [minor_faults, major_faults]) = (ended.times(), ended.faults());
        let report = Report::Exited {
            process: number,
            code: u32::from(ended.code()),
            signal: u32::from(ended.signal()),
            core: ended.core(),
            user,
            system,
            max_rss: ended.max_rss(),
            minor_faults,
            major_faults,
        };
        self.tell(client, &report, None);
        if self.main == Some(number) {
            // The kernel kills the others.
            sys::exit(ended.shell_status());
        }
    }

    /// Sends a signal to every process of the container. Where the init has no pid namespace of its
    /// own, those that it spawned are all that it may touch.
    pub(super) fn signal_all(&self, signal: u8) -> Result<(), Errno> {
        if getpid() == Pid::INIT {
            return signal::send(-1, signal);
        }
        let mut outcome = Err(Errno::SRCH);
        for process in self.processes.iter().flatten() {
            outcome = signal::send(process.pid, signal);
        }
        outcome
    }

    /// The process with a number.
    pub(super) fn find(&self, number: Option<u32>) -> Option<&Process> {
        self.processes.iter().flatten().find(|process| Some(process.number) == number)
    }
}
