//! Clients of the service: `pidone pool run`, `status` and `drain`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pidone_config::{Code, Error, Result};
use pidone_host::descriptor::open_null;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::directory::connect_in;
use super::lines::Lines;
use super::message::{Control, Program, Request, Response, decode};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::report::Report;
use crate::signals::{Signals, is_ignored, stop_this_process};

impl From<super::Program> for Program {
    fn from(program: super::Program) -> Self {
        let super::Program { env, cwd, user, timeout, memory, pids, cpus, args } = program;
        let memory = memory.map(|size| u64::try_from(size).unwrap_or_default());
        Self { args, env, cwd, user, timeout, memory, pids, cpus, ..Self::default() }
    }
}

/// Connects to the service and sends a request.
pub(super) fn send_request(
    directory: &Path,
    request: &Request,
    files: &[BorrowedFd<'_>],
) -> Result<Lines> {
    let lines = Lines::new(connect_in(directory)?);
    lines.send(request, files)?;
    Ok(lines)
}

/// Receives the next response.
///
/// # Errors
/// [`Code::SystemError`] if the service has closed the connection.
pub(super) fn receive_response(lines: &mut Lines) -> Result<Response> {
    match lines.next()? {
        Some(line) => decode(&line, "answer"),
        None => {
            Err(Error::system("receive", "pool", Errno::CONNRESET)
                .with_hint("the service has ended"))
        }
    }
}

/// Runs a program with the standard streams of this process, and forwards signals to it.
///
/// Returns the status of the program; 127 if it is not found, 126 if it cannot be executed, 125 for
/// another failure.
pub(super) fn run(run: super::Run, report: &mut Report) -> Outcome {
    report.set_failure_status(125);
    let signals = Signals::block()?;
    let null = open_null()?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    // The program gets the null device in place of a closed stream.
    let files = streams.map(|fd| match rustix::io::fcntl_getfd(fd) {
        Ok(_) => fd,
        Err(_) => null.as_fd(),
    });
    let request = Request::Run(run.program.into());
    let mut lines = send_request(&run.client.directory, &request, &files)?;
    loop {
        while let Some(line) = lines.take() {
            match decode(&line, "answer")? {
                Response::Started { id, warm, .. } => {
                    let how = if warm { "waited" } else { "is new" };
                    report.debug(&format_args!("container {id} {how}"));
                }
                Response::Running {} => {}
                Response::Error { message, running: true, .. } => report.warning(&message),
                Response::Exited { status, timed_out, oom_kills, .. } => {
                    if timed_out {
                        report.warning(&"the program was killed: its time is over");
                    }
                    if oom_kills > 0 {
                        report.warning(&"the container has run out of memory");
                    }
                    return Ok(u8::try_from(status).unwrap_or(255));
                }
                other => return report_refusal(other, report),
            }
        }
        if lines.has_ended() {
            // Returns the error that the service has ended.
            receive_response(&mut lines)?;
        }
        let mut fds = [
            PollFd::from_borrowed_fd(lines.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", "", errno).into()),
        }
        let [received, signalled] = fds.map(|fd| !fd.revents().is_empty());
        if received {
            lines.receive()?;
        }
        while let Some(signal) = signalled.then(|| signals.next()).transpose()?.flatten() {
            if is_ignored(signal) {
                continue;
            }
            // If the service has ended, the next iteration reports it.
            let _ = lines.send(&Control::Signal(signal.into()), &[]);
            if signal == libc::SIGTSTP {
                stop_this_process();
            }
        }
    }
}

/// Prints the status of the pool.
pub(super) fn status(client: &super::Client) -> Outcome {
    let mut lines = send_request(&client.directory, &Request::Status {}, &[])?;
    match receive_response(&mut lines)? {
        Response::Status(status) => {
            output::bytes(&output::json(&status)?)?;
            Ok(0)
        }
        other => Err(unexpected(&other)),
    }
}

/// Prints the counters of the pool in Prometheus' text format.
pub(super) fn metrics(client: &super::Client) -> Outcome {
    let mut lines = send_request(&client.directory, &Request::Metrics {}, &[])?;
    match receive_response(&mut lines)? {
        Response::Metrics(text) => {
            output::print(format_args!("{text}"))?;
            Ok(0)
        }
        other => Err(unexpected(&other)),
    }
}

/// Removes the ready containers. The service ends when all programs have exited.
pub(super) fn drain(client: &super::Client) -> Outcome {
    let mut lines = send_request(&client.directory, &Request::Drain {}, &[])?;
    match receive_response(&mut lines)? {
        Response::Drained {} => Ok(0),
        other => Err(unexpected(&other)),
    }
}

/// Reports why a program was not run, and returns the exit status.
fn report_refusal(response: Response, report: &mut Report) -> Outcome {
    if let Response::Error { message, status, .. } = response {
        report.error(&message);
        return Ok(status);
    }
    Err(unexpected(&response))
}

/// Returns the error for a response that is an error, or that does not fit the request.
pub(super) fn unexpected(response: &Response) -> Failure {
    let reason = match response {
        Response::Error { message, .. } => message.clone(),
        other => format!("answers {other:?}"),
    };
    Error::reason(Code::SystemError, "pool", "", reason).into()
}
