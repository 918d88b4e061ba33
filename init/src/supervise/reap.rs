//! The end of processes, and signals.

use pidone_proto::Report;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::Supervisor;
use super::process::Process;
use crate::kernel::process::{Ended, Waited, exit, reap};
use crate::kernel::signal;

impl Supervisor<'_> {
    /// Handles the signals that are pending.
    pub(super) fn handle_signals(&mut self) {
        while let Some(signal) = signal::next(self.signals.as_fd()) {
            if signal == signal::CHLD {
                self.reap_all();
            } else if let Some(main) = self.find(self.main) {
                // A signal to process 1 is meant for the container's program.
                let _ = signal::send(main.pid, signal);
            }
        }
    }

    /// Reaps everything that has ended. During a shutdown the init exits with the last process.
    fn reap_all(&mut self) {
        loop {
            match reap() {
                Waited::Ended(ended) => self.report_exit(&ended),
                Waited::Running => return,
                Waited::Nobody => {
                    if self.deadline.is_some() {
                        exit(0);
                    }
                    return;
                }
            }
        }
    }

    /// Removes a process that has ended from the table, and reports its end to its client.
    fn report_exit(&mut self, ended: &Ended) {
        let is_it = |process: &Option<Process>| {
            process.as_ref().is_some_and(|process| process.pid == ended.pid)
        };
        // A process that is not in the table is an orphan.
        let Some(place) = self.processes.iter().position(is_it) else { return };
        // Its reports come before its end.
        self.receive_all(place);
        let Some(process) = self.processes.get_mut(place).and_then(Option::take) else { return };
        let Process { number, client, terminal, spawned, workspace, .. } = process;
        drop(terminal);
        self.give_back(workspace);
        if !spawned {
            // The client has a report of why it was not spawned.
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
        self.report(client, &report, None);
        if self.main == Some(number) {
            // The kernel kills the others when process 1 exits.
            exit(ended.shell_status());
        }
    }

    /// Sends a signal to every process of the container. If the init is not process 1 of a pid
    /// namespace, only to those that it spawned.
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

    /// Finds the process with a number.
    pub(super) fn find(&self, number: Option<u32>) -> Option<&Process> {
        self.processes.iter().flatten().find(|process| Some(process.number) == number)
    }
}
