//! `pidone create` and `pidone run`: a container from a bundle.

use super::around::Receivers;
use super::flags::{self, CgroupManager, Global, Rootless};
use super::{begin, notify};
use crate::cgroup;
use crate::cli::arguments::Invocation;
use crate::cli::caller::Caller;
use crate::cli::report::{Outcome, Report};
use crate::cli::session::attend;
use crate::cli::signals::Signals;
use crate::cli::timing::Waterfall;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::oci::Bundle;
use crate::{Container, Factory, Process, Running};

/// Makes a container, whose program waits for `pidone start`.
///
/// # Errors
/// The bundle is wrong, or the container cannot be made; nothing is left then.
pub fn create(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Create, _) = begin(invocation, report)?;
    let factory = global.factory(global.options(report))?;
    make(&flags, &global, &factory, true, report)?;
    Ok(0)
}

/// Makes and starts a container; removes it when its process has ended.
///
/// # Errors
/// As for [`create`], or the program cannot be executed.
pub fn run(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Run, _) = begin(invocation, report)?;
    let signals = if flags.detach { None } else { Some(Signals::take()?) };
    let factory = global.factory(global.options(report))?;
    let (mut container, mut running) =
        make(&flags.create, &global, &factory, flags.detach, report)?;
    let released = match &signals {
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
        (Ok(status), Err(error)) if status == 0 => Err(error.into()),
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

/// Makes a container up to the point where its program waits, and tells of it.
fn make(
    flags: &flags::Create,
    global: &Global,
    factory: &Factory,
    detach: bool,
    report: &mut Report,
) -> Result<(Container, Running)> {
    let bundle = Bundle::open(&flags.bundle)?;
    for warning in bundle.warnings() {
        report.warning(&warning);
    }
    let mut config = bundle.config()?;
    let mut process = bundle.process()?;
    config.no_pivot_root |= flags.no_pivot;
    config.new_keyring &= !flags.no_new_keyring;
    global.fit_cgroup(&mut config, &flags.id.id)?;
    let notify = notify::configure(factory.root(), &flags.id.id, &mut config, &mut process)?;
    let receivers = flags.around.prepare(&mut process, detach, "standard")?;
    let mut container = factory.create(&flags.id.id, &config)?;
    let made = notify.map_or(Ok(()), |notify| notify.make_directory());
    match made.and_then(|()| prepare(&mut container, &process, receivers)) {
        Ok(running) => {
            if report.is_debug() {
                report.debug(&format_args!("process {} waits", running.pid()));
                report.debug(&Waterfall(&running.times));
            }
            Ok((container, running))
        }
        Err(error) => {
            remove(&mut container, report);
            Err(error)
        }
    }
}

fn prepare(
    container: &mut Container,
    process: &Process,
    receivers: Receivers<'_>,
) -> Result<Running> {
    let mut running = container.prepare(process)?;
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
    container.kill()?;
    container.destroy()?;
    for error in container.poststop_failures() {
        report.warning(&error);
    }
    Ok(())
}

impl Global {
    /// Decides about the container's cgroup.
    fn fit_cgroup(&self, config: &mut Config, id: &str) -> Result<()> {
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
        if !may_do_without || Caller::can_make(own) {
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
