//! The end of processes, and signals.

use pidone_proto::Report;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::Supervisor;
use super::process::Process;
use crate::children::{self, Ended, Waited};
use crate::sys;

impl Supervisor {
    /// Deals with the signals that came.
    pub(super) fn signalled(&mut self) {
        while let Some(signal) = children::next_signal(self.signals.as_fd()) {
            if signal == children::SIGCHLD {
                self.reap();
            } else if let Some(main) = self.find(self.main) {
                // What somebody sends to process 1 is meant for the container's program.
                let _ = children::kill(main.pid, signal);
            }
        }
    }

    /// Reaps everything that has ended, and the init ends with the last.
    fn reap(&mut self) {
        loop {
            match children::wait() {
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
        let Process { number, client, terminal, spawned, .. } = process;
        drop(terminal);
        if !spawned {
            // Who asked for it was told why it did not come.
            self.main = self.main.filter(|&main| main != number);
            return;
        }
        self.tell(
            client,
            &Report::Exited {
                process: number,
                code: ended.code,
                signal: ended.signal,
                core: ended.core,
                user: ended.user,
                system: ended.system,
                max_rss: ended.max_rss,
                minor_faults: ended.minor_faults,
                major_faults: ended.major_faults,
            },
            None,
        );
        if self.main == Some(number) {
            // The kernel kills the others.
            let status = if ended.signal == 0 { ended.code } else { 128 + ended.signal };
            sys::exit(u8::try_from(status).unwrap_or(u8::MAX));
        }
    }

    /// Sends a signal to every process of the container. Where the init has no pid namespace of its
    /// own, those that it spawned are all that it may touch.
    pub(super) fn signal_all(&self, signal: i32) -> Result<(), Errno> {
        if getpid() == Pid::INIT {
            return children::kill(-1, signal);
        }
        let mut outcome = Err(Errno::SRCH);
        for process in self.processes.iter().flatten() {
            outcome = children::kill(process.pid, signal);
        }
        outcome
    }

    /// The process with a number.
    pub(super) fn find(&self, number: Option<u32>) -> Option<&Process> {
        self.processes.iter().flatten().find(|process| Some(process.number) == number)
    }
}
