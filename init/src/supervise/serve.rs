//! Requests of clients.
#![allow(unsafe_code, reason = "requests are received in the memory of a child")]

use pidone_proto::{Codec, FrameType, Report, Request, Words, limits};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::Supervisor;
use super::process::Spawn;
use super::workspace::Workspace;
use crate::channel::Wire;
use crate::failure::Failure;
use crate::kernel::memory::Mapping;
use crate::kernel::process::exit;
use crate::kernel::{now, signal};
use crate::slots::Slots;

impl Supervisor<'_> {
    /// Serves one request of a client. Its next request is served after those of the others.
    pub(super) fn serve(&mut self, place: usize) {
        let Ok(mut workspace) = self.workspace.take().map_or_else(Workspace::new, Ok) else {
            return self.dismiss(place);
        };
        // SAFETY: the last request is done, and a workspace that a child uses is in its `Process`.
        // This one stays while the request is served, or becomes that of the child.
        let message = unsafe { workspace.message() };
        self.workspace = Some(workspace);
        let Some(Some(client)) = self.clients.get_mut(place) else { return };
        let number = client.number;
        self.slots = Slots::new();
        let received = client.channel.receive(message, &mut self.slots);
        let valid = match received.map(|(header, body)| (header.frame_type, body)) {
            Ok((FrameType::Request, body)) => {
                if let Some(workspace) = &mut self.workspace {
                    workspace.set_length(body.len());
                }
                // SAFETY: the body is in the workspace.
                unsafe { self.handle_request(number, body) }
            }
            Ok((FrameType::RequestInMemfd, b"")) => {
                let file = self.slots.take_first();
                let mapping = file.and_then(|file| Mapping::sealed(&file, limits::PLAN));
                match (mapping, &mut self.workspace) {
                    (Ok(mapping), Some(workspace)) => {
                        // SAFETY: the workspace keeps the plan until the request is served, or
                        // until the child no longer uses it.
                        let body = unsafe { workspace.keep_plan(mapping) };
                        // SAFETY: as above.
                        unsafe { self.handle_request(number, body) }
                    }
                    _ => false,
                }
            }
            Err(Failure { errno: Errno::AGAIN, .. }) => true,
            _ => false,
        };
        let workspace = self.workspace.take();
        self.give_back(workspace);
        self.slots = Slots::new();
        // After an invalid request the connection cannot be used any more.
        if !valid {
            self.dismiss(place);
        }
    }

    /// Handles a request; returns whether it is valid.
    ///
    /// # Safety
    /// The body must be in the workspace, or in the mapping that the workspace keeps.
    unsafe fn handle_request(&mut self, client: u32, body: &'static [u8]) -> bool {
        let Ok((request, length)) = Wire::decode::<Request<'_>>(body) else { return false };
        if body.len() != length {
            return false;
        }
        let outcome = match request {
            Request::Spawn { tag, main, operations, plan } => {
                let spawn = Spawn { client, tag, main, operations };
                // SAFETY: the plan is a part of the body.
                let outcome = unsafe { self.spawn(spawn, plan) };
                if let Err(Failure { call, detail, errno }) = outcome {
                    let errno = u16::try_from(errno.raw_os_error()).unwrap_or(0);
                    let report = Report::NotSpawned { tag, step: 0, call, detail, errno };
                    self.report(client, &report, None);
                }
                return true;
            }
            Request::List => {
                self.list(client);
                return true;
            }
            Request::Signal { process, signal, group } => self.signal(process, signal, group),
            Request::Resize { process, rows, columns } => self.resize(process, rows, columns),
            Request::Shutdown { signal, patience } => {
                self.deadline = Some(now() + u64::from(patience) * 1_000_000);
                match signal_number(signal).and_then(|signal| self.signal_all(signal)) {
                    // No process is left.
                    Err(Errno::SRCH) => exit(0),
                    sent => sent,
                }
            }
            _ => return false,
        };
        let errno =
            outcome.err().map_or(0, |errno| u16::try_from(errno.raw_os_error()).unwrap_or(0));
        self.report(client, &Report::Done { errno }, None);
        true
    }

    fn signal(&self, process: u32, signal: u32, group: bool) -> Result<(), Errno> {
        let pid = self.find(Some(process)).ok_or(Errno::SRCH)?.pid;
        // A process group of it has its number, if there is one.
        signal::send(if group { -pid } else { pid }, signal_number(signal)?)
    }

    fn resize(&self, process: u32, rows: u16, columns: u16) -> Result<(), Errno> {
        let process = self.find(Some(process)).ok_or(Errno::SRCH)?;
        let terminal = process.terminal.as_ref().ok_or(Errno::NOTTY)?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal, size)
    }

    /// Lists the processes, a fixed number in each report.
    fn list(&mut self, client: u32) {
        let mut words = [0; 8 * limits::PROCESSES_PER_REPORT];
        let mut length = 0;
        for place in 0..=limits::PROCESSES {
            let last = place == limits::PROCESSES;
            let process = self.processes.get(place).and_then(Option::as_ref);
            if let Some(process) = process.filter(|process| process.spawned) {
                // The number, then the pid, both little-endian.
                let pair = u64::from(process.pid.cast_unsigned()) << 32 | u64::from(process.number);
                if let Some(to) = words.get_mut(length..).and_then(<[u8]>::first_chunk_mut) {
                    *to = pair.to_le_bytes();
                    length += 8;
                }
            }
            if last || length == words.len() {
                let processes = words.get(..length).and_then(Words::new).unwrap_or_default();
                self.report(client, &Report::Processes { more: !last, processes }, None);
                length = 0;
            }
        }
    }
}

/// Converts the number of a signal; the kernel refuses numbers that are not signals.
fn signal_number(signal: u32) -> Result<u8, Errno> {
    u8::try_from(signal).map_err(|_| Errno::INVAL)
}
