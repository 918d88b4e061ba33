//! `nsinit exec`: runs a program in a new container, or in a running one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
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
use crate::session::attach;
use crate::signals::Signals;
use crate::terminal;
use crate::trace::traced;

/// The default search path for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often to try again if another process creates or removes the container at the same time.
const ATTEMPTS: u32 = 50;

/// How long another process may take to start a container that it has created.
const GRACE: Duration = Duration::from_millis(5);

/// Runs the program.
///
/// # Errors
/// [`Code::ConfigInvalid`] if an option or the configuration is wrong, and [`Code::SystemError`] if
/// the container cannot be created or joined, or the program cannot be executed.
pub(super) fn exec(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let mut flags: flags::Exec = invocation.parse()?;
    let factory = factory(&flags.global, &Caller::current(), report)?;
    let signals = Signals::block()?;
    let create = std::mem::take(&mut flags.create);
    let exec = Exec { options: create.into(), flags: &flags, factory: &factory };
    let mut started = traced(flags.trace.as_ref(), report, |report| exec.start(report))?;
    report.debug(&format_args!("started process {}", started.running.pid()));
    let attached = attach(&mut started.running, &signals);
    let status = started.finish(attached, report)?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// The arguments of a start.
struct Exec<'a> {
    flags: &'a flags::Exec,
    options: CreateOptions,
    factory: &'a Factory,
}

/// A running program and its container.
struct Started {
    container: Container,
    running: Running,
    /// Whether the container is removed when the program exits.
    owned: bool,
}

impl Exec<'_> {
    /// Starts the program in the running container with the ID, or in a new one.
    ///
    /// Several processes may do this with the same ID at the same time. One of them creates the
    /// container, and the others join it.
    ///
    /// # Errors
    /// [`Code::IdInUse`] after [`ATTEMPTS`], and those of a start.
    fn start(&self, report: &mut Report) -> Result<Started> {
        for _ in 0..ATTEMPTS {
            let (mut container, created, lost_sysfs) = match self.find_running()? {
                Some(container) => (container, false, false),
                None => match self.create(report) {
                    // Another process has created it meanwhile, or removed the new one as stale.
                    Err(error)
                        if matches!(error.code(), Code::IdInUse | Code::ContainerNotExists) =>
                    {
                        continue;
                    }
                    created => {
                        let (container, lost_sysfs) = created?;
                        (container, true, lost_sysfs)
                    }
                },
            };
            let process = self.process(&container.config());
            match container.start(&process) {
                Ok(running) => {
                    // A process that joins a container that has just stopped is its first process.
                    let owned = created || running.is_first();
                    if lost_sysfs {
                        // Only the owner of a network namespace may mount its sysfs.
                        report.warning(&"nothing is mounted on /sys: the network is shared");
                    }
                    return Ok(Started { container, running, owned });
                }
                // Another process has removed it before it was started.
                Err(error) if error.code() == Code::ContainerNotExists => {}
                Err(error) => {
                    if created {
                        discard(&mut container, report);
                    }
                    return Err(error);
                }
            }
        }
        let reason = "others keep making and removing a container with this id";
        Err(Error::reason(Code::IdInUse, "create", &self.flags.id, reason))
    }

    /// Returns the running container with the ID.
    ///
    /// A container that does not run was left by a killed nsinit, or is about to be started or
    /// removed by another process. It is removed if it still does not run after [`GRACE`].
    fn find_running(&self) -> Result<Option<Container>> {
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

    /// Creates the container. Returns too whether it is without the `/sys` of its configuration.
    fn create(&self, report: &mut Report) -> Result<(Container, bool)> {
        let flags = self.flags;
        let request = Request {
            file: flags.config.as_deref(),
            options: &self.options,
            program: flags.args.first().and_then(|name| name.to_str()).unwrap_or(""),
            search: variable(&flags.env, "PATH").and_then(OsStr::to_str).unwrap_or(PATH),
            id: &flags.id,
            default_root: flags.global.root.is_none(),
        };
        let (mut config, source) = span("read the configuration", || request.config())?;
        report.debug(&format_args!("configuration: {source}"));
        let has_sysfs = |config: &Config| config.mounts.iter().any(|mount| mount.device == "sysfs");
        let had_sysfs = has_sysfs(&config);
        fit_caller(&mut config)?;
        let lost_sysfs = had_sysfs && !has_sysfs(&config);
        let container = self.factory.create(&flags.id, &config)?;
        Ok((container, lost_sysfs))
    }

    /// Returns the process of the options.
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
            keep_newlines: flags.tty && terminal::keeps_newlines(),
            ..Process::default()
        }
    }
}

impl Started {
    /// Removes the container if it was created for the program, and returns the program's status.
    fn finish(&mut self, attached: Result<i32>, report: &mut Report) -> Result<i32> {
        if attached.is_err() {
            // No process waits for it any more. It may have exited by itself.
            let _ = self.running.signal(libc::SIGKILL);
            let _ = self.running.wait();
        }
        let removed = if self.owned { destroy_if_unused(&mut self.container) } else { Ok(()) };
        match (attached, removed) {
            // Return the failure of the program rather than that of the removal.
            (Ok(status), Err(error)) if status != 0 => {
                report.error(&error);
                Ok(status)
            }
            (Err(error), Err(left)) => {
                report.secondary(&left);
                Err(error)
            }
            (attached, removed) => removed.and(attached),
        }
    }
}

/// Removes a container, unless another process has removed it or runs a program in it.
fn destroy_if_unused(container: &mut Container) -> Result<()> {
    match container.destroy() {
        Err(error)
            if matches!(error.code(), Code::ContainerNotExists | Code::ContainerNotStopped) =>
        {
            Ok(())
        }
        removed => removed,
    }
}

/// Removes a container after a failure. That failure is reported, not one of the removal.
fn discard(container: &mut Container, report: &mut Report) {
    if let Err(error) = destroy_if_unused(container) {
        report.secondary(&error);
    }
}

/// Returns the environment: the defaults, and the variables of the options.
fn environment(given: &[OsString], hostname: &str) -> Vec<OsString> {
    let defaults = [("PATH", PATH), ("HOSTNAME", hostname), ("TERM", "xterm")];
    let mut all: Vec<OsString> = defaults
        .into_iter()
        .filter(|(name, _)| variable(given, name).is_none())
        .map(|(name, value)| format!("{name}={value}").into())
        .collect();
    all.extend(last_of_each_name(given));
    all
}

/// Returns the value of a variable. The last one counts.
fn variable<'a>(environment: &'a [OsString], name: &str) -> Option<&'a OsStr> {
    environment.iter().rev().find_map(|variable| {
        let value = variable.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(OsStr::from_bytes(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_variables_replace_defaults_and_the_last_value_counts() {
        let given = ["TERM=vt100", "A=1", "B=", "A=2", "bad"].map(OsString::from);
        assert_eq!(
            environment(&given, "box"),
            [&format!("PATH={PATH}")[..], "HOSTNAME=box", "TERM=vt100", "B=", "A=2", "bad"]
        );
        assert_eq!(variable(&given, "A"), Some(OsStr::new("2")));
        assert_eq!(variable(&given, "bad"), None);
    }
}
