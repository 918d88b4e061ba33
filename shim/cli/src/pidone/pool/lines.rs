//! Lines with file descriptors, over a stream socket.
//!
//! The peer may send anything at any pace. The length of a line and the number of descriptors are
//! limited, and both are kept until they are used.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use pidone_config::{Code, Error, Result};
use pidone_host::unix;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, IoSlice};
use rustix::net::ReturnFlags;
use serde::Serialize;

use super::message::{DESCRIPTORS, LONGEST};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Lines {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// The descriptors that have been received and not yet taken.
    files: Vec<OwnedFd>,
    /// Whether the peer has closed its end.
    ended: bool,
}

impl Lines {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Vec::new(), files: Vec::new(), ended: false }
    }

    /// Takes a line that has been received, without its newline.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.pop();
        Some(line)
    }

    /// Takes a line as [`Lines::take`], or what has been received after the last newline if the
    /// peer has closed its end.
    pub(super) fn take_last(&mut self) -> Option<Vec<u8>> {
        let rest = |lines: &mut Self| {
            let is_last = lines.ended && !lines.buffer.is_empty();
            is_last.then(|| std::mem::take(&mut lines.buffer))
        };
        self.take().or_else(|| rest(self))
    }

    /// Takes the descriptors that have been received.
    pub(super) fn take_files(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.files)
    }

    /// Returns whether the peer has closed its end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the next line, and waits for it if necessary. Returns `None` at the end.
    ///
    /// # Errors
    /// As [`Lines::receive`].
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

    /// Returns the next line as [`Lines::next`], which may lack its newline if nothing follows. All
    /// of it has to arrive before the deadline, and before `closing` is readable.
    ///
    /// # Errors
    /// As [`Lines::receive`]; [`pidone_config::Code::ContainerNotRunning`] if the service ends.
    pub(super) fn next_before(
        &mut self,
        deadline: Instant,
        closing: BorrowedFd<'_>,
    ) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take_last() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(closing, PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Err(failed("receive", Errno::TIMEDOUT)),
                // A request that has arrived comes first.
                Ok(_) if fds[0].revents().is_empty() => return Err(service_ends()),
                Ok(_) => self.receive()?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("poll", errno)),
            }
        }
    }

    /// Receives what is available, and waits if nothing is.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] if a line or the number of descriptors exceeds its
    /// limit, and [`pidone_config::Code::SystemError`] with `ETIMEDOUT` after the timeout of the
    /// socket.
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

    /// Sends a value as a line, with descriptors. A peer that has closed its end is no error.
    ///
    /// # Errors
    /// As [`Lines::receive`].
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
                // The last line from the peer says why it has closed its end.
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

/// Returns the error for clients of a service that ends.
pub(super) fn service_ends() -> Error {
    Error::reason(Code::ContainerNotRunning, "pool", "", "the service ends")
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
    fn lines_and_descriptors_are_received_in_order() {
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
    fn long_lines_and_many_descriptors_are_refused() {
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
