//! Cgroups that systemd makes: transient scopes, on cgroup v2.
//!
//! systemd makes the cgroup of a scope when it moves the scope's first process there, which the
//! kernel may take many milliseconds for. So [`Scope::begin`] connects before the process exists,
//! [`Starting::start`] asks for the scope as soon as it does, and [`Starting::finish`] waits: in
//! between the process is set up.
//!
//! Limits are properties of the scope, so that systemd knows them and keeps them, and are also
//! written as files, for those that systemd has no property for.

mod properties;

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use pidone_config::{Code, Error, Result, config};

use super::directory::Directory;
use super::knob::Knob;
use super::{Cgroups, Mode, controllers, device, v2};
use crate::systemd::{Client, Job, Manager, Property, Value};

pub(super) use properties::round;

const SLICE: &str = ".slice";

/// The properties that the driver sets itself and that decide what the scope is.
const OWN: [&str; 3] = [PIDS, PIDFDS, "Slice"];

/// The properties with the processes of a new scope: by their numbers, and by descriptors.
const PIDS: &str = "PIDs";
const PIDFDS: &str = "PIDFDs";

/// The scope of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    manager: Manager,
    slice: String,
    unit: String,
}

impl Scope {
    /// Returns the scope of a configuration, `None` if systemd does not make its cgroup.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` for a name that no unit can have.
    pub fn of(config: &config::Cgroup) -> Result<Option<Self>> {
        if config.systemd { Self::by(config, Manager::of_caller()).map(Some) } else { Ok(None) }
    }

    fn by(config: &config::Cgroup, manager: Manager) -> Result<Self> {
        let default = match manager {
            Manager::System => "system.slice",
            Manager::User => "user.slice",
        };
        let slice = match config.slice.as_str() {
            "" => default,
            "-" => "-.slice",
            slice => slice,
        };
        // An invalid one is refused before systemd sees it.
        slice_path(slice)?;
        let unit = unit(&format!("{}-{}", config.parent, config.name))?;
        Ok(Self { manager, slice: slice.into(), unit })
    }

    /// Returns the scope with a unit's name, to end it.
    #[must_use]
    pub fn from_unit(unit: &str) -> Self {
        Self { manager: Manager::of_caller(), slice: String::new(), unit: unit.to_owned() }
    }

    /// Returns the name of the unit.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Returns the cgroup, below that of the service manager.
    fn path(&self) -> Result<PathBuf> {
        Ok(slice_path(&self.slice)?.join(&self.unit))
    }

    /// Connects to systemd, for a process that does not exist yet.
    ///
    /// # Errors
    /// `Code::SystemError` if systemd cannot be reached; `Code::ConfigInvalid` for a property that
    /// is not text of a value, or a limit that cannot be expressed.
    pub fn begin(&self, config: &config::Cgroup) -> Result<Starting> {
        let mut limits = Limits::of(config)?;
        let yes = || Value::Bool(true);
        let mut all: Vec<Property> = [
            ("Description", Value::text(format!("pidone container {}", config.name))),
            ("Slice", Value::text(&self.slice)),
            ("Delegate", yes()),
            ("MemoryAccounting", yes()),
            ("CPUAccounting", yes()),
            ("IOAccounting", yes()),
            ("TasksAccounting", yes()),
            ("DefaultDependencies", Value::Bool(false)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.append(&mut limits.properties);
        for (name, text) in &config.systemd_properties {
            all.push(properties::of_text(name, text)?);
        }
        let client = Client::connect(self.manager, &self.unit)?;
        let asked = config.systemd_properties.keys().cloned().collect();
        Ok(Starting {
            client,
            properties: all,
            asked,
            limits,
            process: None,
            by_number: false,
            is_second: false,
        })
    }

    /// Changes the properties that the limits of a configuration are.
    ///
    /// Rules about devices are those of the start: an update that changes them writes a program of
    /// its own.
    ///
    /// # Errors
    /// `Code::SystemError` if systemd cannot be reached or refuses.
    fn set(&self, limits: &Limits) -> Result<()> {
        let is_limit = |(name, _): &&Property| !name.starts_with("Device");
        let mut properties: Vec<Property> =
            limits.properties.iter().filter(is_limit).cloned().collect();
        let mut client = Client::connect(self.manager, &self.unit)?;
        while !properties.is_empty() {
            let Err(refusal) = client.set_properties(&properties)? else { return Ok(()) };
            let before = properties.len();
            properties.retain(|(name, _)| !is_unknown(&refusal.text, name));
            if properties.len() == before {
                return Err(client.error("SetUnitProperties", &refusal));
            }
        }
        Ok(())
    }

    /// Ends the scope with everything in it, and frees its name. One that does not exist has ended.
    ///
    /// # Errors
    /// `Code::SystemError` if systemd cannot be reached, or the scope does not end in 30 seconds.
    pub fn stop(&self) -> Result<()> {
        Client::connect(self.manager, &self.unit)?.stop()
    }

    /// Ends the scope after the death of the program that asked for it, if it exists at `path` and
    /// has no processes: systemd does not see the end of a process that died on its way into a
    /// scope. One elsewhere, or with processes, is another's and stays.
    ///
    /// # Errors
    /// `Code::SystemError` if systemd cannot be reached or refuses, or the cgroup cannot be read.
    pub fn stop_abandoned(&self, path: &Path) -> Result<()> {
        let mut client = Client::connect(self.manager, &self.unit)?;
        let group = client.scope_group()?;
        let below = group.strip_prefix("/").unwrap_or(&group);
        let is_here = !below.as_os_str().is_empty() && path.ends_with(below);
        let is_empty = match Directory::open(path)? {
            Some(directory) => super::tree::processes(&directory)?.is_empty(),
            None => true,
        };
        if is_here && is_empty { client.stop() } else { client.reset_failed() }
    }

    /// Whether processes enter the cgroup through systemd: a user may not move a process out of a
    /// cgroup that belongs to the host.
    pub(super) fn attaches(&self) -> bool {
        self.manager == Manager::User
    }

    /// Moves a process into the cgroup of the scope at `path`, or into one below it.
    pub(super) fn attach(&self, path: &Path, pid: i32) -> Result<()> {
        let mut below = PathBuf::from("/");
        below.extend(path.components().skip_while(|part| part.as_os_str() != &*self.unit).skip(1));
        Client::connect(self.manager, &self.unit)?.attach(&below.to_string_lossy(), number(pid)?)
    }
}

/// The limits of a configuration, as properties and as files.
struct Limits {
    properties: Vec<Property>,
    knobs: Vec<Knob>,
    devices: device::Policy,
}

impl Limits {
    fn of(config: &config::Cgroup) -> Result<Self> {
        let mut knobs = v2::knobs(config)?;
        round(&mut knobs)?;
        let devices = device::Policy::from_config(config)?;
        let mut properties = properties::of_knobs(&knobs)?;
        properties.extend(device::properties(&devices));
        Ok(Self { properties, knobs, devices })
    }
}

/// The start of a scope.
pub struct Starting {
    client: Client,
    properties: Vec<Property>,
    /// The names of the properties that the configuration asks for.
    asked: Vec<String>,
    limits: Limits,
    /// The process, and the serial of the request.
    process: Option<(i32, u32)>,
    /// Whether systemd has refused a pidfd, which it knows since version 255. The number then names
    /// the process: it cannot be another's, since the process is a child of this program.
    by_number: bool,
    /// Whether a failed unit of this name was in the way.
    is_second: bool,
}

impl std::fmt::Debug for Starting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Starting").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Starting {
    /// Asks for the scope with a process of the caller, which is not yet reaped. Nothing is waited
    /// for but the greeting of the bus.
    ///
    /// # Errors
    /// `Code::SystemError` if systemd cannot be reached.
    pub fn start(&mut self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        // A pidfd names the process in every pid namespace.
        let (name, value, files) = if self.client.passes_descriptors()? && !self.by_number {
            (PIDFDS, Value::Array("h".into(), vec![Value::Descriptor(0)]), &[pidfd][..])
        } else {
            (PIDS, Value::Array("u".into(), vec![Value::Uint32(number(pid)?)]), &[][..])
        };
        // That of an earlier attempt.
        self.properties.retain(|(name, _)| ![PIDS, PIDFDS].contains(&name.as_str()));
        self.properties.push((name.to_owned(), value));
        let serial = self.client.send_start(&self.properties, files)?;
        self.process = Some((pid, serial));
        Ok(())
    }

    /// Waits until the process is in the cgroup of the scope, and writes the limits that systemd
    /// has no property for. `accepted` is called once the scope is known to be this caller's, and
    /// must be ended if anything fails: systemd does not notice every process that ends at once.
    ///
    /// # Errors
    /// `Code::SystemError` with systemd's error, or if the process is not in the cgroup afterwards;
    /// as for [`Cgroups::create`] for a limit that cannot be written; those of `accepted`.
    pub fn finish(
        mut self,
        cgroups: &Cgroups,
        pidfd: BorrowedFd<'_>,
        accepted: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let job = self.job(pidfd)?;
        accepted()?;
        let result = self.client.result_of(&job)?;
        if result != "done" {
            return Err(Error::reason(
                Code::SystemError,
                "StartTransientUnit",
                self.client.unit(),
                format!("the job of systemd ended as `{result}`"),
            ));
        }
        let Some(path) = cgroups.v2() else { return Ok(()) };
        let directory = Directory::existing(path)?;
        let pid = self.process.map_or(0, |(pid, _)| pid);
        // Not only has systemd once had a fault that ended a scope at once: the unit could also be
        // in another tree than this program's.
        if !super::tree::processes(&directory)?.contains(&pid) {
            let reason = format!("systemd has not moved process {pid} there");
            let path = path.to_string_lossy();
            return Err(Error::reason(Code::SystemError, "enter cgroup", path, reason));
        }
        controllers::enable(&directory, &self.limits.knobs)?;
        super::knob::apply(&directory, &self.limits.knobs)?;
        device::apply(cgroups, &self.limits.devices)
    }

    /// Waits until systemd has accepted the scope. What it does not know is left out, and a failed
    /// unit of the same name is cleared away once.
    fn job(&mut self, pidfd: BorrowedFd<'_>) -> Result<Job> {
        loop {
            let (pid, serial) = self.process.unwrap_or_default();
            let refusal = match self.client.started(serial)? {
                Ok(job) => return Ok(job),
                Err(refusal) => refusal,
            };
            let known = self.properties.len();
            if !self.by_number && is_unknown(&refusal.text, PIDFDS) {
                self.by_number = true;
            } else if refusal.is("UnitExists") && !self.is_second {
                self.is_second = true;
                self.client.reset_failed()?;
            } else {
                let leave_out =
                    |name: &str| properties::has_file(name) && is_unknown(&refusal.text, name);
                self.properties.retain(|(name, _)| !leave_out(name));
                if self.properties.len() == known {
                    let error = self.client.error("StartTransientUnit", &refusal);
                    return Err(if refusal.is("UnitExists") {
                        error.with_hint("another container or unit has this name")
                    } else if self.asked.is_empty() {
                        error
                    } else {
                        // systemd does not say which property has a wrong value.
                        error.with_hint(format!("asked for by name: {}", self.asked.join(", ")))
                    });
                }
            }
            self.start(pid, pidfd)?;
        }
    }
}

/// Returns a pid as systemd takes it.
fn number(pid: i32) -> Result<u32> {
    u32::try_from(pid).map_err(|_| Error::config("pid", pid, "is not the id of a process"))
}

/// Whether systemd says that it does not know a property: `Cannot set property NAME, or unknown
/// property.`
fn is_unknown(text: &str, name: &str) -> bool {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    text.contains("unknown property") && words.into_iter().any(|word| word == name)
}

/// Computes the cgroup of a scope. Creates nothing.
pub(super) fn locate(config: &config::Cgroup, mode: Mode, point: &Path) -> Result<Cgroups> {
    if mode != Mode::V2 {
        let reason = "the systemd cgroup driver needs cgroup v2 without controllers of cgroup v1";
        return Err(Error::config("cgroups.systemd", true, reason));
    }
    if let Some(name) = config.systemd_properties.keys().find(|name| OWN.contains(&name.as_str())) {
        let reason = "is set by the driver";
        return Err(Error::config("cgroups.systemd_properties", name, reason));
    }
    let scope = Scope::by(config, Manager::of_caller())?;
    let above = match scope.manager {
        Manager::System => PathBuf::new(),
        Manager::User => Client::connect(scope.manager, &scope.unit)?.control_group()?,
    };
    let below = above.strip_prefix("/").unwrap_or(&above);
    let path = point.join(below).join(scope.path()?);
    let paths = [(String::new(), path)].into();
    Ok(Cgroups { mode, paths, made_parents: Vec::new(), scope: Some(scope) })
}

impl Cgroups {
    /// Returns the scope that systemd makes for this cgroup.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// Adds the scope that the cgroup is of.
    #[must_use]
    pub fn with_scope(mut self, scope: Option<Scope>) -> Self {
        self.scope = scope;
        self
    }

    /// Changes the properties of the scope, if there is one.
    pub(super) fn set_scope(&self, config: &config::Cgroup) -> Result<()> {
        self.scope.as_ref().map_or(Ok(()), |scope| scope.set(&Limits::of(config)?))
    }
}

/// Returns the name of a scope unit.
fn unit(name: &str) -> Result<String> {
    const LONGEST: usize = 255;
    let unit = format!("{name}.scope");
    let known = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
    let reason = if !unit.chars().all(known) {
        "is no name of a scope of systemd, which has letters, digits and `:-_.\\`"
    } else if unit.len() > LONGEST {
        "is longer than the name of a unit of systemd, 255 bytes"
    } else if name.ends_with(SLICE) {
        "is the name of a slice, in which no process can be"
    } else {
        return Ok(unit);
    };
    Err(Error::config("cgroups.name", name, reason))
}

/// Returns the path of a slice: `a-b.slice` is in `a.slice`.
fn slice_path(slice: &str) -> Result<PathBuf> {
    let refuse = || Err(Error::config("cgroups.slice", slice, "invalid slice name"));
    let Some(name) = slice.strip_suffix(SLICE) else { return refuse() };
    if name == "-" {
        return Ok(PathBuf::new());
    }
    let known = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let mut path = PathBuf::new();
    let mut full = String::new();
    for part in name.split('-') {
        if part.is_empty() || !part.chars().all(known) {
            return refuse();
        }
        full.push_str(part);
        path.push(format!("{full}{SLICE}"));
        full.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(slice: &str, prefix: &str, name: &str) -> config::Cgroup {
        config::Cgroup {
            systemd: true,
            slice: slice.into(),
            parent: prefix.into(),
            name: name.into(),
            ..config::Cgroup::default()
        }
    }

    #[test]
    fn a_scope_is_in_the_slices_that_its_name_says() {
        for (slice, prefix, manager, path) in [
            ("", "pidone", Manager::System, "system.slice/pidone-x.scope"),
            ("", "libpod", Manager::User, "user.slice/libpod-x.scope"),
            ("-", "p", Manager::System, "p-x.scope"),
            ("-.slice", "", Manager::System, "-x.scope"),
            (
                "kubepods-besteffort-pod1_2.slice",
                "cri-containerd",
                Manager::System,
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/\
                 cri-containerd-x.scope",
            ),
        ] {
            let scope = Scope::by(&config(slice, prefix, "x"), manager).unwrap();
            assert_eq!(scope.path().unwrap(), Path::new(path));
        }
    }

    #[test]
    fn names_that_no_unit_has_are_refused() {
        for (slice, name) in [
            ("a", "x"),
            (".slice", "x"),
            ("a--b.slice", "x"),
            ("-a.slice", "x"),
            ("a/b.slice", "x"),
            ("a.slice", "x+y"),
            ("a.slice", "x.slice"),
            ("a.slice", &"x".repeat(260)),
        ] {
            let error = Scope::by(&config(slice, "p", name), Manager::System).unwrap_err();
            assert_eq!(error.code(), Code::ConfigInvalid, "{slice} {name}");
        }
    }

    #[test]
    fn an_unknown_property_is_known_by_its_name() {
        let text = "Cannot set property AllowedCPUs, or unknown property.";
        assert!(is_unknown(text, "AllowedCPUs"));
        assert!(!is_unknown(text, "CPUs") && !is_unknown("property AllowedCPUs", "AllowedCPUs"));
    }
}
