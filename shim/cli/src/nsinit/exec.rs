//! `nsinit exec`: a program in a new container, or in one that runs.

use std::time::Duration;

use pidone::{Container, Factory, Running, Status};
use pidone_config::config::CreateOptions;
use pidone_config::process::last_of_each_name;
use pidone_config::{Code, Config, Error, Process, Result};
use pidone_host::privilege::Caller;
use pidone_host::span::span;
use pidone_plan::fit::fit_caller;

use super::source::Request;
use super::{factory, flags};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;
use crate::session::attend;
use crate::signals::Signals;
use crate::terminal;
use crate::trace::traced;

/// Where programs are looked for if the environment does not say it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a container may be made or removed by somebody else at the moment when it is used.
const ATTEMPTS: u32 = 50;

/// How long somebody who has made a container may take to start it.
const GRACE: Duration = Duration::from_millis(5);

/// Runs the program.
///
/// # Errors
/// The container cannot be made or joined, or the program not be executed.
pub fn exec(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let mut flags: flags::Exec = invocation.parse()?;
    let factory = factory(&flags.global, &Caller::current(), report)?;
    if flags.systemd {
        let reason = "the systemd cgroup driver does not exist yet";
        return Err(Error::config("--systemd", "", reason).into());
    }
    let signals = Signals::take()?;
    let create = std::mem::take(&mut flags.create);
    let exec = Exec { options: create.into(), flags: &flags, factory: &factory };
    let mut started = traced(flags.trace.as_ref(), report, |report| exec.start(report))?;
    report.debug(&format_args!("started process {}", started.running.pid()));
    let attended = attend(&mut started.running, &signals);
    let status = started.end(attended, report)?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// What a start needs.
struct Exec<'a> {
    flags: &'a flags::Exec,
    options: CreateOptions,
    factory: &'a Factory,
}

/// A program that runs in a container.
struct Started {
    container: Container,
    running: Running,
    /// Whether the container goes with the program.
    owned: bool,
}

impl Exec<'_> {
    /// Starts the program in the container that runs with the id, or else in a new one.
    ///
    /// Others may do the same with the same id: one of them makes the container, and the others
    /// join it.
    fn start(&self, report: &mut Report) -> Result<Started> {
        for _ in 0..ATTEMPTS {
            let (mut container, created) = match self.running()? {
                Some(container) => (container, false),
                None => match self.create(report) {
                    // Somebody has made it meanwhile, or taken this one for what is left of one.
                    Err(error)
                        if matches!(error.code(), Code::IdInUse | Code::ContainerNotExists) =>
                    {
                        continue;
                    }
                    container => (container?, true),
                },
            };
            let process = self.process(container.config());
            match container.start(&process) {
                Ok(running) => {
                    // What joins a container that has just ended is its first process again.
                    let owned = created || running.is_first();
                    return Ok(Started { container, running, owned });
                }
                // Somebody has removed it before it was started.
                Err(error) if error.code() == Code::ContainerNotExists => {}
                Err(error) => {
                    if created {
                        remove(&mut container, report);
                    }
                    return Err(error);
                }
            }
        }
        let reason = "others keep making and removing a container with this id";
        Err(Error::reason(Code::IdInUse, "create", &self.flags.id, reason))
    }

    /// The container that runs with the id. One that does not is what a killed nsinit has left, or
    /// is about to be started or removed by another; it is removed if it stays like that.
    fn running(&self) -> Result<Option<Container>> {
        let find = || match self.factory.load(&self.flags.id) {
            Err(error) if error.code() == Code::ContainerNotExists => Ok(None),
            container => container.map(Some),
        };
        let Some(container) = find()? else { return Ok(None) };
        if container.status()? != Status::Destroyed {
            return Ok(Some(container));
        }
        std::thread::sleep(GRACE);
        let Some(mut container) = find()? else { return Ok(None) };
        if container.status()? != Status::Destroyed {
            return Ok(Some(container));
        }
        match container.destroy() {
            Ok(()) => Ok(None),
            Err(error) => match error.code() {
                Code::ContainerNotExists => Ok(None),
                Code::ContainerNotStopped => find(),
                _ => Err(error),
            },
        }
    }

    /// Makes the container.
    fn create(&self, report: &mut Report) -> Result<Container> {
        let flags = self.flags;
        let request = Request {
            file: flags.config.as_deref(),
            options: &self.options,
            program: flags.args.first().map_or("", String::as_str),
            search: variable(&flags.env, "PATH").unwrap_or(PATH),
            id: &flags.id,
            default_root: flags.global.root.is_none(),
        };
        let (mut config, source) = span("read the configuration", || request.config())?;
        report.debug(&format_args!("configuration: {source}"));
        fit_caller(&mut config)?;
        self.factory.create(&flags.id, &config)
    }

    /// The process, as the options say.
    fn process(&self, config: &Config) -> Process {
        let flags = self.flags;
        let hostname = match config.hostname.as_str() {
            "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            name => name.to_owned(),
        };
        Process {
            args: flags.args.clone(),
            env: environment(&flags.env, &hostname),
            cwd: flags.cwd.clone().unwrap_or_default(),
            user: flags.user.clone().unwrap_or_default(),
            terminal: flags.tty.then(|| terminal::size().unwrap_or_default()),
            ..Process::default()
        }
    }
}

impl Started {
    /// Removes the container if it was made for the program, and answers the program's status.
    fn end(&mut self, attended: Result<i32>, report: &mut Report) -> Result<i32> {
        if attended.is_err() {
            // Nobody attends it any more. It may have ended by itself.
            let _ = self.running.signal(libc::SIGKILL);
            let _ = self.running.wait();
        }
        let removed = if self.owned { removal(&mut self.container) } else { Ok(()) };
        match (attended, removed) {
            // The program's own failure says more than what is left of it.
            (Ok(status), Err(error)) if status != 0 => {
                report.error(&error);
                Ok(status)
            }
            (Err(error), Err(left)) => {
                report.aside(&left);
                Err(error)
            }
            (attended, removed) => removed.and(attended),
        }
    }
}

/// Removes a container. It is as good that somebody else has done it, or runs a program in it.
fn removal(container: &mut Container) -> Result<()> {
    match container.destroy() {
        Err(error)
            if matches!(error.code(), Code::ContainerNotExists | Code::ContainerNotStopped) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

/// Removes a container after a failure, which is what is told.
fn remove(container: &mut Container, report: &mut Report) {
    if let Err(error) = removal(container) {
        report.aside(&error);
    }
}

/// The environment: what every program has, and what was given.
fn environment(given: &[String], hostname: &str) -> Vec<String> {
    let defaults = [("PATH", PATH), ("HOSTNAME", hostname), ("TERM", "xterm")];
    let mut all: Vec<String> = defaults
        .into_iter()
        .filter(|(name, _)| variable(given, name).is_none())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.extend(last_of_each_name(given));
    all
}

/// The value of a variable.
fn variable<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().rev().find_map(|variable| {
        let (own, value) = variable.split_once('=')?;
        (own == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_variables_take_the_place_of_defaults() {
        let given = ["TERM=vt100", "A=1", "B=", "A=2", "bad"].map(str::to_owned);
        assert_eq!(
            environment(&given, "box"),
            [&format!("PATH={PATH}"), "HOSTNAME=box", "TERM=vt100", "B=", "A=2", "bad"]
        );
        assert_eq!(variable(&given, "A"), Some("2"));
        assert_eq!(variable(&given, "bad"), None);
    }
}
