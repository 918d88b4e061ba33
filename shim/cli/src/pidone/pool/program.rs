//! Runs the program of one client in a container of the pool.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use pidone::{Exit, Factory, Running};
use pidone_config::config::Cgroup;
use pidone_config::{Code, Error, Process, Result, Stdio, TerminalSize};
use pidone_host::descriptor::any_readable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::bundles::{Bundles, Served};
use super::lines::{Lines, service_ends};
use super::message::{Control, Program, Response, decode};
use crate::session::UNBLOCK_INTERVAL;
use crate::signals::Forwarder;

/// Runs a program for a client, and sends its exit status. The program is killed when the client
/// disconnects or `end` becomes readable.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] if the request is wrong or names an unknown bundle; those
/// of [`pidone::Pool::start`]; [`pidone_config::Code::ContainerNotRunning`] if the service ends.
pub(super) fn run_program(
    lines: &mut Lines,
    program: Program,
    bundles: &Bundles,
    end: BorrowedFd<'_>,
) -> Result<()> {
    program.check_limits()?;
    if let Some(id) = &program.id {
        return Err(Error::config("id", id, "is of a request to exec"));
    }
    let (place, Served { bundle, pool, .. }) = bundles.find(program.bundle.as_deref())?;
    let (memory, pids, cpus) = (program.memory, program.pids, program.cpus);
    let (has_limits, timeout) = (program.has_limits(), program.timeout);
    let process = requested_process(program, bundle.process()?, lines)?;
    let mut lease = if has_limits {
        pool.start_with_limits(&process, |limits| change_limits(limits, memory, pids, cpus))?
    } else {
        pool.start(&process)?
    };
    // Close the descriptors of the client, which the program has now.
    drop(process);
    let (id, warm) = (lease.container().id().to_owned(), lease.is_warm());
    let _listed = bundles.list(&id, place);
    let mut client = Client::new(lines, lease.running(), timeout);
    client.report_start(lease.running(), id, warm)?;
    if !client.wait_for_exit(lease.running(), end)? {
        return Ok(());
    }
    let exit = lease.wait()?;
    // Without a cgroup they are not counted.
    let oom_kills = lease.container().oom_kills().unwrap_or_default();
    client.report_exit(&exit, oom_kills)
}

/// Runs a further program in a container whose program runs. It ends as that of [`run_program`],
/// and with the container.
///
/// # Errors
/// [`pidone_config::Code::ContainerNotExists`] if no client's program runs in a container of this
/// name; otherwise as [`run_program`].
pub(super) fn exec_program(
    lines: &mut Lines,
    program: Program,
    (factory, bundles): (&Factory, &Bundles),
    end: BorrowedFd<'_>,
) -> Result<()> {
    program.check_limits()?;
    if program.has_limits() {
        return Err(Error::config("exec", "", "has the limits of its container"));
    }
    if let Some(bundle) = &program.bundle {
        return Err(Error::config("bundle", bundle, "is of a request to run"));
    }
    let id = program.id.clone().ok_or_else(|| Error::config("id", "", "is missing"))?;
    if program.args.is_empty() {
        return Err(Error::config("args", "", "names no program"));
    }
    let Some(Served { bundle, .. }) = bundles.of_running(&id) else {
        let reason = "no client has a program in this container";
        return Err(Error::reason(Code::ContainerNotExists, "exec", id, reason));
    };
    let timeout = program.timeout;
    let process = requested_process(program, bundle.further_process()?, lines)?;
    let container = factory.load(&id)?;
    let mut running = container.exec(&process)?;
    running.kill_on_drop(true);
    drop(process);
    let mut client = Client::new(lines, &mut running, timeout);
    client.report_start(&mut running, id, false)?;
    if !client.wait_for_exit(&mut running, end)? {
        return Ok(());
    }
    let exit = running.wait()?;
    let oom_kills = container.oom_kills().unwrap_or_default();
    client.report_exit(&exit, oom_kills)
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
    let Program { args, env, cwd, user, output, terminal, keep_newlines, .. } = program;
    if let Some([rows, columns]) = terminal {
        if output || !matches!(process.stdout, Stdio::Null) {
            return Err(Error::config("terminal", "", "takes the place of 0, 1 and 2"));
        }
        process.terminal = Some(TerminalSize { rows, columns });
        process.keep_newlines = keep_newlines;
    } else if keep_newlines {
        return Err(Error::config("keep_newlines", true, "is of a terminal"));
    }
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

impl<'a> Client<'a> {
    fn new(lines: &'a mut Lines, running: &mut Running, timeout: Option<f64>) -> Self {
        Self {
            lines,
            forwarder: Forwarder::default(),
            outputs: [(1, running.stdout.take()), (2, running.stderr.take())],
            // A time that cannot be represented never comes.
            deadline: timeout
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            timed_out: false,
        }
    }

    /// Reports that the program runs, with the master of its terminal.
    fn report_start(&self, running: &mut Running, id: String, warm: bool) -> Result<()> {
        let console = running.console.take();
        let files: Vec<BorrowedFd<'_>> = console.iter().map(AsFd::as_fd).collect();
        self.lines.send(&Response::Started { id, pid: running.pid(), warm }, &files)
    }

    /// Sends what is left of the output, and how the program has exited.
    fn report_exit(&mut self, exit: &Exit, oom_kills: u64) -> Result<()> {
        // What is left in the pipes, and not what other processes may still write.
        for index in 0..self.outputs.len() {
            while self.outputs[index]
                .1
                .as_ref()
                .is_some_and(|pipe| any_readable([pipe.as_fd()]) == Ok(true))
            {
                self.forward_output(index)?;
            }
        }
        let killed_for = self.forwarder.killed_for();
        self.lines.send(&Response::exited(exit, killed_for, self.timed_out, oom_kills), &[])
    }

    /// Carries out the client's orders until the program exits. Returns false if the client
    /// disconnects first. A client that has only closed its sending side gives no more orders.
    fn wait_for_exit(&mut self, running: &mut Running, end: BorrowedFd<'_>) -> Result<bool> {
        loop {
            // First the lines that were received together with the request.
            while let Some(line) = self.lines.take_last() {
                self.obey(&line, running)?;
            }
            self.check_time(running)?;
            // After its end only the connection itself is of interest, whose end poll(2) always
            // reports.
            let wanted = if self.lines.has_ended() { PollFlags::empty() } else { PollFlags::IN };
            let mut fds = vec![
                PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
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
                return Err(service_ends());
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
            self.forwarder.retry_held(running)?;
        }
    }

    /// Carries out an order. One that is wrong is answered, and changes nothing.
    fn obey(&mut self, line: &[u8], running: &Running) -> Result<()> {
        match decode::<Control>(line, "order").and_then(Control::signal) {
            Ok(0) => self.lines.send(&Response::Running {}, &[]),
            Ok(signal) => self.forwarder.send(running, signal),
            Err(error) => self.lines.send(&Response::refused(&error), &[]),
        }
    }

    /// Kills the program if its time is over.
    fn check_time(&mut self, running: &Running) -> Result<()> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            (self.deadline, self.timed_out) = (None, true);
            running.kill()?;
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
