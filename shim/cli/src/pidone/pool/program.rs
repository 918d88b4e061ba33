//! Runs the program of one client in a container of the pool.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use pidone::Pool;
use pidone::pool::Lease;
use pidone_config::config::Cgroup;
use pidone_config::{Error, Process, Result, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::lines::Lines;
use super::message::{Control, Program, Response, decode};
use crate::session::UNBLOCK_INTERVAL;
use crate::signals::Forwarder;

/// Runs a program for a client, and sends its exit status. The program is killed when the client
/// disconnects or `end` becomes readable.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if the request or a later message is wrong; those of
/// [`Pool::start`]; [`pidone_config::Code::ContainerNotRunning`] if the service ends.
pub(super) fn run_program(
    lines: &mut Lines,
    program: Program,
    base: Process,
    pool: &Pool,
    end: BorrowedFd<'_>,
) -> Result<()> {
    program.check_limits()?;
    let (memory, pids, cpus) = (program.memory, program.pids, program.cpus);
    let (has_limits, timeout) = (program.has_limits(), program.timeout);
    let process = requested_process(program, base, lines)?;
    let mut lease = if has_limits {
        pool.start_with_limits(&process, |limits| change_limits(limits, memory, pids, cpus))?
    } else {
        pool.start(&process)?
    };
    // Close the descriptors of the client, which the program has now.
    drop(process);
    let (id, pid) = (lease.container().id().to_owned(), lease.running().pid());
    lines.send(&Response::Started { id, pid, warm: lease.is_warm() }, &[])?;
    let running = lease.running();
    let mut client = Client {
        forwarder: Forwarder::default(),
        outputs: [(1, running.stdout.take()), (2, running.stderr.take())],
        // A time that cannot be represented never comes.
        deadline: timeout
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .and_then(|timeout| Instant::now().checked_add(timeout)),
        timed_out: false,
        lines,
    };
    if !client.wait_for_exit(&mut lease, end)? {
        return Ok(());
    }
    let exit = lease.wait()?;
    // Nobody writes any more.
    while client.outputs.iter().any(|(_, pipe)| pipe.is_some()) {
        for index in 0..client.outputs.len() {
            client.forward_output(index)?;
        }
    }
    // Without a cgroup they are not counted.
    let oom_kills = lease.container().oom_kills().unwrap_or_default();
    let killed_for = client.forwarder.killed_for();
    let exited = Response::exited(&exit, killed_for, client.timed_out, oom_kills);
    client.lines.send(&exited, &[])
}

/// Returns the limits of the bundle, overridden by those of the request.
fn change_limits(
    mut limits: Cgroup,
    memory: Option<u64>,
    pids: Option<u64>,
    cpus: Option<f64>,
) -> Cgroup {
    if let Some(memory) = memory {
        // A limit of the bundle for memory and swap must not be below that for memory.
        limits = limits.max_memory(memory).max_memory_and_swap(memory);
    }
    if let Some(pids) = pids {
        limits = limits.max_pids(pids);
    }
    cpus.map_or(limits.clone(), |cpus| limits.max_cpus(cpus))
}

/// Returns the process of the bundle, overridden by the request and its descriptors.
fn requested_process(program: Program, base: Process, lines: &mut Lines) -> Result<Process> {
    let mut files = lines.take_files();
    let mut process = Process {
        stdin: Stdio::Null,
        stdout: Stdio::Null,
        stderr: Stdio::Null,
        terminal: None,
        ..base
    };
    match files.len() {
        0 => {}
        1 | 2 => {
            let reason = "must be none, or standard input, output and error and what follows them";
            return Err(Error::config("descriptors", files.len(), reason));
        }
        _ => {
            process.extra_files = files.split_off(3);
            let mut standard = files.into_iter().map(Stdio::Fd);
            for stream in [&mut process.stdin, &mut process.stdout, &mut process.stderr] {
                *stream = standard.next().unwrap_or(Stdio::Null);
            }
        }
    }
    let Program { args, env, cwd, user, output, .. } = program;
    if output {
        if !matches!(process.stdout, Stdio::Null) {
            return Err(Error::config("output", true, "and descriptors exclude each other"));
        }
        (process.stdout, process.stderr) = (Stdio::Pipe, Stdio::Pipe);
    }
    if !args.is_empty() {
        process.args = args.into_iter().map(Into::into).collect();
    }
    for variable in env {
        process.set_variable(variable);
    }
    if let Some(cwd) = cwd {
        process.cwd = cwd;
    }
    if let Some(user) = user {
        // Drop the numeric IDs, which are those of the bundle's user.
        (process.user, process.ids) = (user, None);
    }
    Ok(process)
}

/// A client whose program runs.
struct Client<'a> {
    lines: &'a mut Lines,
    forwarder: Forwarder,
    /// The pipes of standard output and error, if the client gets what comes through them.
    outputs: [(u8, Option<File>); 2],
    deadline: Option<Instant>,
    timed_out: bool,
}

impl Client<'_> {
    /// Carries out the client's orders until the program exits. Returns false if the client
    /// disconnects first. A client that has only closed its sending side gives no more orders.
    fn wait_for_exit(&mut self, lease: &mut Lease, end: BorrowedFd<'_>) -> Result<bool> {
        loop {
            // First the lines that were received together with the request.
            while let Some(line) = self.lines.take() {
                self.obey(&line, lease)?;
            }
            self.check_time(lease)?;
            // After its end only the connection itself is of interest, whose end poll(2) always
            // reports.
            let wanted = if self.lines.has_ended() { PollFlags::empty() } else { PollFlags::IN };
            let mut fds = vec![
                PollFd::from_borrowed_fd(lease.running().pidfd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.lines.as_fd(), wanted),
                PollFd::from_borrowed_fd(end, PollFlags::IN),
            ];
            let open: Vec<usize> =
                (0..self.outputs.len()).filter(|index| self.outputs[*index].1.is_some()).collect();
            let pipes = self.outputs.iter().filter_map(|(_, pipe)| pipe.as_ref());
            fds.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            match poll(&mut fds, self.timeout().as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::system("poll", "", errno)),
            }
            let gone = fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR);
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[2] {
                return Err(Error::reason(
                    pidone_config::Code::ContainerNotRunning,
                    "pool",
                    "",
                    "the service ends",
                ));
            }
            if ready[0] {
                return Ok(true);
            }
            if gone {
                return Ok(false);
            }
            if ready[1] {
                self.lines.receive()?;
                drop(self.lines.take_files());
            }
            for (index, _) in open.iter().zip(&ready[3..]).filter(|(_, ready)| **ready) {
                self.forward_output(*index)?;
            }
            self.forwarder.retry_held(lease.running())?;
        }
    }

    /// Carries out an order. One that is wrong is answered, and changes nothing.
    fn obey(&mut self, line: &[u8], lease: &mut Lease) -> Result<()> {
        match decode::<Control>(line, "order").and_then(Control::signal) {
            Ok(0) => self.lines.send(&Response::Running {}, &[]),
            Ok(signal) => self.forwarder.send(lease.running(), signal),
            Err(error) => self.lines.send(&Response::refused(&error), &[]),
        }
    }

    /// Kills the program if its time is over.
    fn check_time(&mut self, lease: &mut Lease) -> Result<()> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            (self.deadline, self.timed_out) = (None, true);
            lease.running().kill()?;
        }
        Ok(())
    }

    /// Returns how long to wait for an event.
    fn timeout(&self) -> Option<Timespec> {
        let left = self.deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the time is over afterwards.
            Timespec::try_from(left + Duration::from_millis(1)).unwrap_or(UNBLOCK_INTERVAL)
        });
        if self.forwarder.has_held() { Some(UNBLOCK_INTERVAL) } else { left }
    }

    /// Sends what is in a pipe to the client, and waits if nothing is.
    fn forward_output(&mut self, index: usize) -> Result<()> {
        let (fd, slot) = &mut self.outputs[index];
        let Some(pipe) = slot else { return Ok(()) };
        let mut bytes = [0; 16 * 1024];
        let length =
            pipe.read(&mut bytes).map_err(|error| Error::system("read the output", "", error))?;
        if length == 0 {
            *slot = None;
            return Ok(());
        }
        let base64 = base64(bytes.get(..length).unwrap_or_default());
        self.lines.send(&Response::Output { fd: *fd, base64 }, &[])
    }
}

/// Encodes bytes as base64, with padding: RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let padding = place > chunk.len();
            text.push(if padding { '=' } else { ALPHABET[digit as usize].into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_the_vectors_of_its_specification() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("foob", "Zm9vYg=="),
        ];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
