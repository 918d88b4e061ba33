//! `pidone create` and `pidone run`: a container from a bundle.

use pidone::{Container, Factory, Running};
use pidone_config::oci::Bundle;
use pidone_config::{Code, Config, Error, Process, Result};
use pidone_host::cgroup;
use pidone_host::privilege::Caller;
use pidone_host::span::span_of;

use super::console_setup::ExtraFds;
use super::flags::{self, CgroupManager, Global, Rootless};
use super::{begin, notify};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;
use crate::session::attend;
use crate::signals::Signals;
use crate::trace::traced;

/// Makes a container, whose program waits for `pidone start`.
///
/// # Errors
/// The bundle is wrong, or the container cannot be made; nothing is left then.
pub fn create(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Create, _) = begin(invocation, report)?;
    let factory = global.factory(Global::options())?;
    traced(flags.around.trace.as_ref(), report, |report| {
        make(&flags, &global, &factory, Way::Create, report)
    })?;
    Ok(0)
}

/// Makes and starts a container; removes it when its process has ended.
///
/// # Errors
/// As for [`create`], or the program cannot be executed.
pub fn run(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Run, _) = begin(invocation, report)?;
    let signals = if flags.detach { None } else { Some(Signals::take()?) };
    let factory = global.factory(Global::options())?;
    let way = if flags.detach { Way::RunDetached } else { Way::Run };
    let Made { mut container, mut running, waits } =
        traced(flags.create.around.trace.as_ref(), report, |report| {
            make(&flags.create, &global, &factory, way, report)
        })?;
    let released = match &signals {
        _ if !waits => Ok(None),
        None => notify::release(&mut container, factory.root()).map(|()| None),
        Some(_) => notify::listen(factory.root(), container.id()).and_then(|listening| {
            container.release()?;
            listening.map(|listening| notify::forward(listening, &running)).transpose()
        }),
    };
    let notify = match released {
        Ok(notify) => notify,
        Err(error) => {
            remove(&mut container, report);
            return Err(error.into());
        }
    };
    let Some(signals) = signals else { return Ok(0) };
    let attended = attend(&mut running, &signals);
    if let Some(Err(error)) = notify.and_then(notify::Forwarding::end) {
        report.warning(&error);
    }
    if flags.keep && attended.is_ok() {
        return Ok(status(attended?));
    }
    let removed = match destroy(&mut container, report) {
        // It is as good that somebody else has done it.
        Err(error) if error.code() == Code::ContainerNotExists => Ok(()),
        removed => removed,
    };
    match (attended, removed) {
        (Ok(0), Err(error)) => Err(error.into()),
        (attended, Err(left)) => {
            report.aside(&left);
            Ok(status(attended?))
        }
        (attended, Ok(())) => Ok(status(attended?)),
    }
}

/// A status as this process's own.
pub(super) fn status(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(u8::MAX)
}

/// How a container is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Up to the point where its program waits.
    Create,
    /// With its program.
    Run,
    /// With its program, which nobody here waits for.
    RunDetached,
}

/// A container that was made.
struct Made {
    container: Container,
    running: Running,
    /// Whether its program waits.
    waits: bool,
}

/// Makes a container and tells of it.
fn make(
    flags: &flags::Create,
    global: &Global,
    factory: &Factory,
    way: Way,
    report: &mut Report,
) -> Result<Made> {
    let path = || flags.bundle.display().to_string();
    let (bundle, mut config, mut process) = span_of("read the bundle", path, || {
        let bundle = Bundle::open(&flags.bundle)?;
        let (config, process) = (bundle.config()?, bundle.process()?);
        Ok((bundle, config, process))
    })?;
    for warning in bundle.warnings() {
        report.warning(&warning);
    }
    config.no_pivot_root |= flags.no_pivot;
    config.new_keyring &= !flags.no_new_keyring;
    config.supervise |= flags.init;
    global.fit_cgroup(&mut config, &flags.id.id)?;
    let notify = notify::configure(factory.root(), &flags.id.id, &mut config, &mut process)?;
    // Who passes readiness on must listen before the program can be ready.
    let waits = way == Way::Create || notify.is_some();
    let receivers = flags.around.prepare(&mut process, way != Way::Run, "standard")?;
    let mut container = factory.create(&flags.id.id, &config)?;
    let made = notify.map_or(Ok(()), |notify| notify.make_directory());
    match made.and_then(|()| start(&mut container, &process, waits, receivers)) {
        Ok(running) => {
            let what = if waits { "waits" } else { "runs" };
            report.debug(&format_args!("process {} {what}", running.pid()));
            Ok(Made { container, running, waits })
        }
        Err(error) => {
            remove(&mut container, report);
            Err(error)
        }
    }
}

fn start(
    container: &mut Container,
    process: &Process,
    waits: bool,
    receivers: ExtraFds<'_>,
) -> Result<Running> {
    let mut running = if waits { container.prepare(process) } else { container.start(process) }?;
    receivers.tell(&mut running)?;
    Ok(running)
}

/// Removes a container after a failure, which is what is told.
fn remove(container: &mut Container, report: &mut Report) {
    if let Err(left) = destroy(container, report)
        && left.code() != Code::ContainerNotExists
    {
        report.aside(&left);
    }
}

/// Ends and removes a container.
pub(super) fn destroy(container: &mut Container, report: &mut Report) -> Result<()> {
    match container.destroy() {
        Err(error) if error.code() == Code::ContainerNotStopped => {
            container.kill()?;
            container.destroy()?;
        }
        removed => removed?,
    }
    for error in container.poststop_failures() {
        report.warning(&error);
    }
    Ok(())
}

impl Global {
    /// Decides about the container's cgroup.
    pub(super) fn fit_cgroup(&self, config: &mut Config, id: &str) -> Result<()> {
        let systemd = self.cgroup_manager == CgroupManager::Systemd;
        if self.systemd_cgroup || systemd {
            let option = if systemd { "--cgroup-manager" } else { "--systemd-cgroup" };
            let reason = "the systemd cgroup driver does not exist yet";
            return Err(Error::config(option, "", reason)
                .with_hint("set the client's cgroup driver to cgroupfs"));
        }
        if self.cgroup_manager == CgroupManager::Disabled {
            config.cgroups = None;
            return Ok(());
        }
        let Some(own) = &mut config.cgroups else { return Ok(()) };
        if own.name.is_empty() {
            id.clone_into(&mut own.name);
        }
        let may_do_without = match self.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => !Caller::current().is_privileged(),
        };
        if !may_do_without || cgroup::can_create(own) {
            return Ok(());
        }
        match cgroup::asks_for(own)? {
            None => {
                config.cgroups = None;
                Ok(())
            }
            Some(field) => {
                let reason = "needs a cgroup, and this user can make none";
                Err(Error::config(format!("linux.resources.{field}"), "", reason))
            }
        }
    }
}
