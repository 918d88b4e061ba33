//! Requests of clients.

use pidone_proto::{Codec, FrameType, Report, Request, Words, limits};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::Supervisor;
use super::process::Spawn;
use super::room::Room;
use crate::channel::Wire;
use crate::failure::Failure;
use crate::interpret::map_sealed;
use crate::slots::Slots;
use crate::{signal, sys};

impl Supervisor<'_> {
    /// Serves one request of a client; the next comes after those of the others.
    pub(super) fn serve(&mut self, place: usize) {
        let Ok(mut room) = self.room.take().map_or_else(Room::new, Ok) else {
            return self.dismiss(place);
        };
        let message = room.message();
        self.room = Some(room);
        let Some(Some(client)) = self.clients.get_mut(place) else { return };
        let number = client.number;
        self.slots = Slots::new();
        let received = client.channel.receive(message, &mut self.slots);
        let known = match received.map(|(header, body)| (header.frame_type, body)) {
            Ok((FrameType::Request, body)) => self.request(number, body, &[]),
            Ok((FrameType::RequestInMemfd, b"")) => {
                let mapped = self.slots.take_first().and_then(|file| map_sealed(&file));
                mapped.is_ok_and(|body| self.request(number, b"", body))
            }
            Err(Failure { errno: Errno::AGAIN, .. }) => true,
            _ => false,
        };
        let room = self.room.take();
        self.give_back(room);
        self.slots = Slots::new();
        // There is no way to go on behind what is no request.
        if !known {
            self.dismiss(place);
        }
    }

    /// Does what a request asks for; answers whether it was one. It is in the room, or mapped.
    fn request(&mut self, client: u32, body: &'static [u8], mapped: &'static [u8]) -> bool {
        if let Some(room) = &mut self.room {
            room.received(body.len(), mapped);
        }
        let body = if mapped.is_empty() { body } else { mapped };
        let Ok((request, length)) = Wire::decode::<Request<'_>>(body) else { return false };
        if body.len() != length {
            return false;
        }
        let done = match request {
            Request::Spawn { tag, main, operations, plan } => {
                let spawn = Spawn { client, tag, main, operations };
                if let Err(Failure { call, detail, errno }) = self.spawn(spawn, plan) {
                    let errno = u16::try_from(errno.raw_os_error()).unwrap_or(0);
                    let report = Report::NotSpawned { tag, step: 0, call, detail, errno };
                    self.tell(client, &report, None);
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
                self.deadline = Some(sys::now() + u64::from(patience) * 1_000_000);
                match known(signal).and_then(|signal| self.signal_all(signal)) {
                    // Nobody is left to be told.
                    Err(Errno::SRCH) => sys::exit(0),
                    sent => sent,
                }
            }
            _ => return false,
        };
        let errno = done.err().map_or(0, |errno| u16::try_from(errno.raw_os_error()).unwrap_or(0));
        self.tell(client, &Report::Done { errno }, None);
        true
    }

    fn signal(&self, process: u32, signal: u32, group: bool) -> Result<(), Errno> {
        let pid = self.find(Some(process)).ok_or(Errno::SRCH)?.pid;
        // It leads its group, if it leads any.
        signal::send(if group { -pid } else { pid }, known(signal)?)
    }

    fn resize(&self, process: u32, rows: u16, columns: u16) -> Result<(), Errno> {
        let process = self.find(Some(process)).ok_or(Errno::SRCH)?;
        let terminal = process.terminal.as_ref().ok_or(Errno::NOTTY)?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal, size)
    }

    /// Lists the processes, some in each report.
    fn list(&mut self, client: u32) {
        let mut words = [0; 8 * limits::PROCESSES_PER_REPORT];
        let mut length = 0;
        for place in 0..=limits::PROCESSES {
            let last = place == limits::PROCESSES;
            let process = self.processes.get(place).and_then(Option::as_ref);
            if let Some(process) = process.filter(|process| process.spawned) {
                let number = process.number.to_le_bytes();
                let pid = process.pid.to_le_bytes();
                for (to, from) in words.iter_mut().skip(length).zip(number.into_iter().chain(pid)) {
                    *to = from;
                }
                length += 8;
            }
            if last || length == words.len() {
                let processes = words.get(..length).and_then(Words::new).unwrap_or_default();
                self.tell(client, &Report::Processes { more: !last, processes }, None);
                length = 0;
            }
        }
    }
}

/// A number that may be a signal's: the kernel refuses those that are none.
fn known(signal: u32) -> Result<u8, Errno> {
    u8::try_from(signal).map_err(|_| Errno::INVAL)
}
