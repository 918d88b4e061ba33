//! Lines with descriptors, over a stream socket.
//!
//! The other side may send anything at any pace: lines have a length, descriptors a number, and
//! both are the receiver's until they are used.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::{Error, Result};
use pidone_host::unix;
use rustix::io::{Errno, IoSlice};
use rustix::net::ReturnFlags;
use serde::Serialize;

use super::message::{DESCRIPTORS, LONGEST};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Lines {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// Descriptors that have come.
    files: Vec<OwnedFd>,
    /// Whether the other side has closed its end.
    ended: bool,
}

impl Lines {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Vec::new(), files: Vec::new(), ended: false }
    }

    /// A line that has come, without its end.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.pop();
        Some(line)
    }

    /// The descriptors that have come.
    pub(super) fn take_files(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.files)
    }

    /// Whether nothing can come any more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits for a line.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.receive()?;
        }
    }

    /// Receives what is there, or waits for something.
    ///
    /// # Errors
    /// A line or descriptors beyond the limits; the time-out of the socket.
    pub(super) fn receive(&mut self) -> Result<()> {
        const AT_ONCE: usize = 4096;
        let mut bytes = [0; AT_ONCE];
        let mut space = [MaybeUninit::uninit(); unix::space_for(DESCRIPTORS)];
        let received = match unix::receive(&self.socket, &mut bytes, &mut space) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Err(failed("receive", Errno::TIMEDOUT)),
            Err(Errno::CONNRESET) => {
                self.ended = true;
                return Ok(());
            }
            Err(errno) => return Err(failed("receive", errno)),
        };
        self.files.extend(received.files);
        if self.files.len() > DESCRIPTORS || received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Error::config("descriptors", self.files.len(), "more than 64"));
        }
        self.ended = received.length == 0;
        self.buffer.extend_from_slice(bytes.get(..received.length).unwrap_or_default());
        if self.buffer.len() > LONGEST {
            let size = format!("{} bytes", self.buffer.len());
            return Err(Error::config("line", size, "longer than 1 MiB"));
        }
        Ok(())
    }

    /// Sends a value as a line, with descriptors.
    pub(super) fn send(&self, value: &impl Serialize, files: &[BorrowedFd<'_>]) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|_| failed("encode", Errno::INVAL))?;
        line.push(b'\n');
        if line.len() > LONGEST {
            let size = format!("{} bytes", line.len());
            return Err(Error::config("line", size, "longer than 1 MiB"));
        }
        let mut rest = line.as_slice();
        let mut files = files;
        while !rest.is_empty() {
            match unix::send_parts(&self.socket, &[IoSlice::new(rest)], files) {
                Ok(sent) => {
                    files = &[];
                    rest = rest.get(sent..).unwrap_or_default();
                }
                Err(Errno::AGAIN) => return Err(failed("send", Errno::TIMEDOUT)),
                // What the other side has said last tells why.
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                Err(errno) => return Err(failed("send", errno)),
            }
        }
        Ok(())
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(verb: &'static str, errno: Errno) -> Error {
    Error::system(verb, "pool", errno)
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (Lines, Lines) {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (Lines::new(one), Lines::new(other))
    }

    #[test]
    fn lines_come_as_they_were_sent() {
        let (one, mut other) = pair();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        one.send(&"first", &[file.as_fd(), file.as_fd()]).unwrap();
        one.send(&2, &[]).unwrap();
        drop(one);
        assert_eq!(other.next().unwrap().unwrap(), b"\"first\"");
        assert_eq!(other.take_files().len(), 2);
        assert_eq!(other.next().unwrap().unwrap(), b"2");
        assert_eq!(other.next().unwrap(), None);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let (one, mut other) = pair();
        let flood = std::thread::spawn(move || {
            while rustix::net::send(&one, &[b'x'; 65536], SendFlags::NOSIGNAL).is_ok() {}
        });
        let error = other.next().unwrap_err().to_string();
        assert!(error.contains("longer than 1 MiB"), "{error}");
        drop(other);
        flood.join().unwrap();

        let (one, mut other) = pair();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        for _ in 0..2 {
            one.send(&"", &[file.as_fd(); 40]).unwrap();
        }
        drop(one);
        let error = std::iter::from_fn(|| other.next().transpose()).find_map(Result::err);
        assert!(error.is_some_and(|error| error.to_string().contains("more than 64")));
    }
}
