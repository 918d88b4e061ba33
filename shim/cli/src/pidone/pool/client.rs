//! Clients: `pidone pool run`, `status` and `drain`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pidone_config::{Code, Error, Result};
use pidone_host::descriptor::null;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::directory::connect_in;
use super::lines::Lines;
use super::message::{Answer, Order, Program, Request, decode};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::report::Report;
use crate::signals::{Signals, stop_here};

impl From<super::Program> for Program {
    fn from(program: super::Program) -> Self {
        let super::Program { env, cwd, user, args } = program;
        Self { args, env, cwd, user }
    }
}

/// A connection with a request that was sent.
pub(super) fn ask(directory: &Path, request: &Request, files: &[BorrowedFd<'_>]) -> Result<Lines> {
    let lines = Lines::new(connect_in(directory)?);
    lines.send(request, files)?;
    Ok(lines)
}

/// The next answer.
pub(super) fn answer(lines: &mut Lines) -> Result<Answer> {
    match lines.next()? {
        Some(line) => decode(&line, "answer"),
        None => {
            Err(Error::system("receive", "pool", Errno::CONNRESET)
                .with_hint("the service has ended"))
        }
    }
}

/// Runs a program with this one's stdio.
pub(super) fn run(run: super::Run, report: &mut Report) -> Outcome {
    report.fails_with(125);
    let signals = Signals::take()?;
    let null = null()?;
    let own = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    // A descriptor that was closed is the null device inside.
    let files = own.map(|fd| match rustix::io::fcntl_getfd(fd) {
        Ok(_) => fd,
        Err(_) => null.as_fd(),
    });
    let request = Request::Run(run.program.into());
    let mut lines = ask(&run.client.directory, &request, &files)?;
    loop {
        while let Some(line) = lines.take() {
            match decode(&line, "answer")? {
                Answer::Started { id, warm, .. } => {
                    let how = if warm { "waited" } else { "is new" };
                    report.debug(&format_args!("container {id} {how}"));
                }
                Answer::Exited { status, .. } => return Ok(u8::try_from(status).unwrap_or(255)),
                other => return refused(other, report),
            }
        }
        if lines.has_ended() {
            // For the error.
            answer(&mut lines)?;
        }
        let mut fds = [
            PollFd::from_borrowed_fd(lines.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system("poll", "", errno).into()),
        }
        let [said, signalled] = fds.map(|fd| !fd.revents().is_empty());
        if said {
            lines.receive()?;
        }
        while let Some(signal) = signalled.then(|| signals.next()).transpose()?.flatten() {
            // If the service has gone, that is told by the other end of the loop.
            let _ = lines.send(&Order::Signal(signal.to_string()), &[]);
            if signal == libc::SIGTSTP {
                stop_here();
            }
        }
    }
}

/// Prints what the pool has.
pub(super) fn status(client: &super::Client) -> Outcome {
    let mut lines = ask(&client.directory, &Request::Status {}, &[])?;
    match answer(&mut lines)? {
        Answer::Status(status) => {
            output::bytes(&output::json(&status)?)?;
            Ok(0)
        }
        other => Err(unexpected(&other)),
    }
}

/// Drains the pool.
pub(super) fn drain(client: &super::Client) -> Outcome {
    let mut lines = ask(&client.directory, &Request::Drain {}, &[])?;
    match answer(&mut lines)? {
        Answer::Drained {} => Ok(0),
        other => Err(unexpected(&other)),
    }
}

/// Tells why a program was not run.
fn refused(answer: Answer, report: &mut Report) -> Outcome {
    if let Answer::Error { message, status } = answer {
        report.error(&message);
        return Ok(status);
    }
    Err(unexpected(&answer))
}

/// An answer that is an error, or has no place.
pub(super) fn unexpected(answer: &Answer) -> Failure {
    let reason = match answer {
        Answer::Error { message, .. } => message.clone(),
        other => format!("answers {other:?}"),
    };
    Error::reason(Code::SystemError, "pool", "", reason).into()
}
