//! Clients of the service: `pidone pool run`, `exec`, `status`, `metrics` and `drain`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pidone_config::{Code, Error, Result};
use pidone_host::descriptor::open_null;
use rustix::io::Errno;

use super::directory::connect_in;
use super::lines::Lines;
use super::message::{Control, Program, Request, Response, decode};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::report::Report;
use crate::session::{Attached, attach_to};
use crate::signals::{Signals, is_ignored};
use crate::terminal;

impl From<super::Program> for Program {
    fn from(program: super::Program) -> Self {
        let super::Program { bundle, settings, limits, args } = program;
        let super::Limits { memory, pids, cpus } = limits;
        let memory = memory.map(|size| u64::try_from(size).unwrap_or_default());
        Self { bundle, args, memory, pids, cpus, ..settings.into() }
    }
}

impl From<super::Settings> for Program {
    fn from(settings: super::Settings) -> Self {
        let super::Settings { env, cwd, user, timeout } = settings;
        Self { env, cwd, user, timeout, ..Self::default() }
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

/// Runs a program with the standard streams of this process or a terminal, and forwards signals to
/// it.
///
/// Returns the status of the program; 127 if it is not found, 126 if it cannot be executed, 125 for
/// another failure.
pub(super) fn run(run: super::Run, report: &mut Report) -> Outcome {
    let super::Run { client, tty, program } = run;
    attach(&client, program.into(), Request::Run, tty, report)
}

/// Runs a further program in the container of another client, as [`run`].
pub(super) fn exec(exec: super::Exec, report: &mut Report) -> Outcome {
    let super::Exec { client, id, tty, settings, args } = exec;
    let program = Program { id: Some(id), args, ..settings.into() };
    attach(&client, program, Request::Exec, tty, report)
}

/// Sends the request for a program, and attaches this process to it.
fn attach(
    client: &super::Client,
    mut program: Program,
    request: fn(Program) -> Request,
    tty: bool,
    report: &mut Report,
) -> Outcome {
    report.set_failure_status(125);
    let signals = Signals::block()?;
    let null = open_null()?;
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    // The program gets the null device in place of a closed stream.
    let files = streams.map(|fd| match rustix::io::fcntl_getfd(fd) {
        Ok(_) => fd,
        Err(_) => null.as_fd(),
    });
    if tty {
        program.terminal = Some(terminal::size().map_or([0; 2], |size| [size.rows, size.columns]));
        program.keep_newlines = terminal::keeps_newlines();
    }
    let files = if tty { &[][..] } else { &files };
    let mut lines = send_request(&client.directory, &request(program), files)?;
    match receive_response(&mut lines)? {
        Response::Started { id, warm, .. } => {
            let how = if warm { "waited" } else { "is new" };
            report.debug(&format_args!("container {id} {how}"));
        }
        other => return report_refusal(other, report),
    }
    let master = lines.take_files().into_iter().next();
    if tty && master.is_none() {
        let reason = "the service has sent none";
        return Err(Error::reason(Code::SystemError, "receive", "terminal", reason).into());
    }
    let mut remote = Remote { lines, report, last: None };
    let failure = attach_to(&mut remote, master, &signals)?;
    let Remote { last, report, .. } = remote;
    let Some(Response::Exited { status, timed_out, oom_kills, .. }) = last else {
        return last.map_or(Ok(125), |last| report_refusal(last, report));
    };
    if timed_out {
        report.warning(&"the program was killed: its time is over");
    }
    if oom_kills > 0 {
        report.warning(&"the container has run out of memory");
    }
    failure.map_or(Ok(u8::try_from(status).unwrap_or(255)), |error| Err(error.into()))
}

/// A program that the service runs for this process.
struct Remote<'a> {
    lines: Lines,
    report: &'a mut Report,
    /// The last response.
    last: Option<Response>,
}

impl Attached for Remote<'_> {
    fn events(&self) -> BorrowedFd<'_> {
        self.lines.as_fd()
    }

    fn read_events(&mut self) -> Result<bool> {
        self.lines.receive()?;
        // Also what came together with the first response: the end of the connection follows it.
        while let Some(line) = self.lines.take() {
            match decode(&line, "answer")? {
                Response::Running {} => {}
                Response::Error { message, running: true, .. } => self.report.warning(&message),
                last => {
                    self.last = Some(last);
                    return Ok(true);
                }
            }
        }
        if self.lines.has_ended() {
            // Returns the error that the service has ended.
            receive_response(&mut self.lines)?;
        }
        Ok(false)
    }

    fn forward(&mut self, signal: i32) -> Result<()> {
        if !is_ignored(signal) {
            // If the service has ended, reading from it reports that.
            let _ = self.lines.send(&Control::Signal(signal.into()), &[]);
        }
        Ok(())
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
