//! Requests of clients.

use pidone_proto::frame::HEADER;
use pidone_proto::{Codec, FrameType, Report, Request, Words, limits};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::Supervisor;
use super::process::Spawn;
use crate::channel::Wire;
use crate::failure::Failure;
use crate::interpret::map_sealed;
use crate::slots::Slots;
use crate::{signal, sys};

impl Supervisor<'_> {
    /// Serves one request of a client; the next comes after those of the others.
    pub(super) fn serve(&mut self, place: usize) {
        let Some(Some(client)) = self.clients.get_mut(place) else { return };
        let number = client.number;
        let Some(buffer) = self.buffer.take() else { return };
        self.slots = Slots::new();
        let received = client.channel.receive(buffer, &mut self.slots);
        let received = received.map(|(header, body)| (header.frame_type, body.len()));
        self.buffer = Some(buffer);
        let mut mapped = None;
        let known = match received {
            Ok((FrameType::Request, length)) => self.request(number, Ok(length)),
            Ok((FrameType::RequestInMemfd, 0)) => {
                mapped = self.slots.take_first().and_then(|file| map_sealed(&file)).ok();
                mapped.is_some_and(|body| self.request(number, Err(body)))
            }
            Err(Failure { errno: Errno::AGAIN, .. }) => true,
            _ => false,
        };
        if let Some(body) = mapped {
            sys::unmap(body);
        }
        self.slots = Slots::new();
        // There is no way to go on behind what is no request.
        if !known {
            self.dismiss(place);
        }
    }

    /// Does what a request asks for; answers whether it was one. The body is as many bytes of the
    /// buffer, or mapped.
    fn request(&mut self, client: u32, body: Result<usize, &'static [u8]>) -> bool {
        let bytes = match body {
            Ok(length) => {
                self.buffer.as_deref().and_then(|buffer| buffer.get(HEADER..HEADER + length))
            }
            Err(body) => Some(body),
        };
        let Some(Ok((request, length))) = bytes.map(Wire::decode::<Request<'_>>) else {
            return false;
        };
        if bytes.map(<[u8]>::len) != Some(length) {
            return false;
        }
        let done = match request {
            Request::Spawn { tag, main, operations, plan } => {
                let (start, end) = place(bytes.unwrap_or_default(), plan);
                let spawn = Spawn { client, tag, main, operations };
                let spawned = self.spawn(spawn, |child| match body {
                    // The copy of the child is the child's for good.
                    Ok(_) => {
                        let buffer: &'static [u8] = child.buffer.take()?;
                        buffer.get(HEADER + start..HEADER + end)
                    }
                    Err(body) => body.get(start..end),
                });
                if let Err(Failure { call, detail, errno }) = spawned {
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

/// Where a part of some bytes begins and ends in them.
fn place(whole: &[u8], part: &[u8]) -> (usize, usize) {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    (start, start + part.len())
}
