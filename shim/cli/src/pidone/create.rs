//! `pidone create` and `pidone run`: create a container from a bundle.

use std::path::Path;

use pidone::{Container, Factory, Running};
use pidone_config::oci::{Bundle, resources, scope_properties};
use pidone_config::{Code, Config, Error, Process, Result};
use pidone_host::cgroup::{can_create, first_limit};
use pidone_host::privilege::Caller;
use pidone_host::span::span_of;

use super::console_setup::ExtraFds;
use super::flags::{self, CgroupManager, Global, Rootless};
use super::{begin, notify};
use crate::arguments::Invocation;
use crate::failure::Outcome;
use crate::report::Report;
use crate::session::attach;
use crate::signals::Signals;
use crate::trace::traced;

/// Creates a container whose program waits for `pidone start`.
///
/// # Errors
/// [`Code::ConfigInvalid`] if the bundle is wrong, [`Code::IdInUse`] if the ID exists, and
/// [`Code::SystemError`] if the container cannot be created. Nothing is left of it then.
pub(super) fn create(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Create, _) = begin(invocation, report)?;
    flags.setup.configure(report);
    let factory = global.factory(Global::options())?;
    traced(flags.setup.trace.as_ref(), report, |report| {
        create_container(&flags, &global, &factory, StartMode::Create, report)
    })?;
    Ok(0)
}

/// Creates and starts a container, and deletes it when its process has exited.
///
/// # Errors
/// As [`create`], and [`Code::SystemError`] if the program cannot be executed.
pub(super) fn run(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let (flags, global): (flags::Run, _) = begin(invocation, report)?;
    flags.create.setup.configure(report);
    let signals = if flags.detach { None } else { Some(Signals::block()?) };
    let factory = global.factory(Global::options())?;
    let mode = if flags.detach { StartMode::RunDetached } else { StartMode::Run };
    let Created { mut container, mut running, waits } =
        traced(flags.create.setup.trace.as_ref(), report, |report| {
            create_container(&flags.create, &global, &factory, mode, report)
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
            discard(&mut container, report);
            // If a hook has failed, the container was destroyed.
            for error in container.poststop_failures() {
                report.warning(&error);
            }
            return Err(error.into());
        }
    };
    let Some(signals) = signals else { return Ok(0) };
    let attached = attach(&mut running, &signals);
    if let Some(Err(error)) = notify.and_then(notify::Forwarding::result) {
        report.warning(&error);
    }
    if flags.keep && attached.is_ok() {
        return Ok(status(attached?));
    }
    let removed = match destroy(&mut container, report) {
        // Another process has deleted it.
        Err(error) if error.code() == Code::ContainerNotExists => Ok(()),
        removed => removed,
    };
    match (attached, removed) {
        (Ok(0), Err(error)) => Err(error.into()),
        (attached, Err(left)) => {
            report.secondary(&left);
            Ok(status(attached?))
        }
        (attached, Ok(())) => Ok(status(attached?)),
    }
}

/// Converts the status of a program into the exit status of this process.
pub(super) fn status(status: i32) -> u8 {
    u8::try_from(status).unwrap_or(u8::MAX)
}

/// How far a container is started, and who waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StartMode {
    /// The program waits for `pidone start`.
    Create,
    /// The program is started, and this process waits for its exit.
    Run,
    /// The program is started, and this process exits.
    RunDetached,
}

/// A new container.
struct Created {
    container: Container,
    running: Running,
    /// Whether the program waits to be released.
    waits: bool,
}

/// Creates a container from a bundle and starts its process, up to where `mode` says.
fn create_container(
    flags: &flags::Create,
    global: &Global,
    factory: &Factory,
    mode: StartMode,
    report: &mut Report,
) -> Result<Created> {
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
    // To report readiness, the socket must exist before the program runs.
    let waits = mode == StartMode::Create || notify.is_some();
    let extra_fds = flags.setup.prepare(&mut process, mode != StartMode::Run, "standard")?;
    let mut container = factory.create(&flags.id.id, &config)?;
    let prepared = notify.map_or(Ok(()), |notify| notify.make_directory());
    match prepared.and_then(|()| start(&mut container, &process, waits, extra_fds)) {
        Ok(running) => {
            let what = if waits { "waits" } else { "runs" };
            report.debug(&format_args!("process {} {what}", running.pid()));
            Ok(Created { container, running, waits })
        }
        Err(error) => {
            discard(&mut container, report);
            Err(error)
        }
    }
}

fn start(
    container: &mut Container,
    process: &Process,
    waits: bool,
    extra_fds: ExtraFds<'_>,
) -> Result<Running> {
    let mut running = if waits { container.prepare(process) } else { container.start(process) }?;
    extra_fds.send(&mut running)?;
    Ok(running)
}

/// Deletes a container after a failure. That failure is reported, not one of the deletion.
fn discard(container: &mut Container, report: &mut Report) {
    if let Err(left) = destroy(container, report)
        && left.code() != Code::ContainerNotExists
    {
        report.secondary(&left);
    }
}

/// Kills a container if it runs, and deletes it.
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
    /// Adjusts the cgroup of a configuration to the options and to what the caller may create.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] for a path that is not that of a scope with the systemd driver, or
    /// if the configuration names or needs a cgroup and the caller cannot create it.
    pub(super) fn fit_cgroup(&self, config: &mut Config, id: &str) -> Result<()> {
        let manager = match self.cgroup_manager {
            None if self.systemd_cgroup => Some(CgroupManager::Systemd),
            manager => manager,
        };
        let Some(cgroup) = &mut config.cgroups else { return Ok(()) };
        match manager {
            Some(CgroupManager::Disabled) => {
                config.cgroups = None;
                return Ok(());
            }
            Some(CgroupManager::Systemd) => resources::use_scope(cgroup)?,
            Some(CgroupManager::Cgroupfs) => resources::use_directory(cgroup),
            None => {}
        }
        if cgroup.systemd {
            if cgroup.name.is_empty() {
                id.clone_into(&mut cgroup.name);
            }
            cgroup.systemd_properties = scope_properties(&config.annotations);
            return Ok(());
        }
        let is_named = !cgroup.name.is_empty();
        if !is_named {
            id.clone_into(&mut cgroup.name);
        }
        let is_optional = match self.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => !Caller::current().is_privileged(),
        };
        if !is_optional || can_create(cgroup) {
            return Ok(());
        }
        match first_limit(cgroup)? {
            None if is_named => {
                let path = Path::new(&cgroup.parent).join(&cgroup.name);
                let reason = "this user cannot make the cgroup";
                Err(Error::config("linux.cgroupsPath", path.display(), reason)
                    .with_hint("leave it out to run without one"))
            }
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
