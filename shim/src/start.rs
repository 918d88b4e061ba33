//! From a container's configuration and a process to a launch.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::cgroup::{Cgroups, Mode as CgroupMode};
use crate::config::{Config, NamespaceType, capability};
use crate::error::{Error, Result};
use crate::factory::{Options, Strategy};
use crate::journal::{Entry, Journal};
use crate::launch::image::{Codec, EMBEDDED, Sealed};
use crate::launch::{Child, Host, Launch, Maps, Place, Started, TEMPLATE_ROOT, has_template};
use crate::plan::container::{Facts, has_commands, mount_of_barrier};
use crate::plan::{self, Capabilities, Plan, Terminal};
use crate::process::{Process, Running, Timing};
use crate::state::Identity;
use crate::stdio::Descriptors;
use crate::{child, label, mount_command, net, privilege, seccomp, user};

/// The start of a container's first process.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    /// The directory of the container's state.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) network: &'a net::Plan,
}

impl Start<'_> {
    /// Starts the process.
    pub(crate) fn run(&self) -> Result<(Running, Identity)> {
        let config = self.config;
        let (new, joined) = namespaces(config);
        let new_mounts = config.has_new(NamespaceType::Mount);
        let by_path = new_mounts && !privilege::can_copy_mounts();
        let commands = config.mounts.iter().any(has_commands);
        let place = self.place(new_mounts && !by_path && !commands);
        let attaches = self.cgroups.is_some_and(|cgroups| cgroups.mode() != CgroupMode::V2);
        let facts = Facts {
            new,
            in_user_namespace: config.namespace(NamespaceType::User).is_some()
                || privilege::in_user_namespace(),
            by_path,
            sees_host: place != Place::Template,
            at: self.at(place)?,
            cgroups: self.cgroups.map(|cgroups| cgroups.paths().clone()).unwrap_or_default(),
            barrier: !self.network.is_empty() || (attaches && joined.is_empty()),
            is_directory: &is_directory,
            joined,
        };
        let root = self.user_root()?;
        let own = resolve(config, self.process, root.as_fd())?;
        let plan = plan::container::compile(config, &own, &facts)?;
        label::relabel(config)?;
        let forks = !facts.joined.is_empty();

        let directory = self.cgroups.map(Cgroups::directory).transpose()?.flatten();
        let descriptors = Descriptors::open(self.process)?;
        let mut host = Hosting { start: self, forks, identity: None, moved: net::Moved::default() };
        let started = Launch {
            plan: &plan,
            image: image(self.image, self.options)?,
            place,
            namespaces: if forks { 0 } else { new & !plan::container::CLONE_NEWCGROUP },
            forks,
            descriptors: &descriptors.all(),
            cgroup: directory.as_ref().map(AsFd::as_fd),
            container: None,
            timed: self.options.timing,
            patience: self.options.patience,
        }
        .run(&mut host);
        let started =
            started.map_err(|error| match std::mem::take(&mut host.moved).give_back() {
                Ok(()) => self.explain(error),
                Err(left) => error.with_hint(format!("not cleaned up: {left}")),
            })?;
        let identity = host
            .identity
            .take()
            .ok_or_else(|| Error::system("journal", started.child.pid.to_string(), Errno::NOENT))?;
        let mut running = running(started, &plan, descriptors);
        // Without a descriptor left for it, the process is waited for alone.
        running.first = child::First::new(running.pid).ok();
        Ok((running, identity))
    }

    /// Where the clone happens.
    fn place(&self, template_possible: bool) -> Place {
        let wanted = match self.options.strategy {
            Strategy::Host => false,
            Strategy::Auto => template_possible && has_template(),
            // Without one the clone fails with the reason.
            Strategy::Template => template_possible,
        };
        if wanted {
            Place::Template
        } else if self.config.parent_death_signal != 0 {
            Place::Thread
        } else {
            Place::Caller
        }
    }

    /// An existing directory, as the init sees it, where the root is attached.
    fn at(&self, place: Place) -> Result<PathBuf> {
        if place == Place::Template {
            return Ok(TEMPLATE_ROOT.into());
        }
        if !self.config.tmpfs_root {
            return Ok(self.config.rootfs.clone());
        }
        // Not /proc or /sys, which a user namespace must see, nor /dev, whose nodes are copied.
        ["/tmp", "/mnt", "/var", "/home"]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_dir() && !self.binds_below(path))
            .ok_or_else(|| Error::path("open", "/tmp", Errno::NOENT))
    }

    /// Whether something below a directory is bound: it must stay in sight until then, where the
    /// init opens it by its path.
    fn binds_below(&self, directory: &Path) -> bool {
        let mut mounts = self.config.mounts.iter();
        mounts.any(|mount| mount.is_bind() && Path::new(&mount.source).starts_with(directory))
    }

    /// Where users and groups are looked up: the root, or the host where the root is made of it.
    fn user_root(&self) -> Result<OwnedFd> {
        let path = if self.config.tmpfs_root { Path::new("/") } else { &self.config.rootfs };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map_err(|errno| Error::path("open", path, errno))
    }

    /// Adds what a reader could not guess.
    fn explain(&self, error: Error) -> Error {
        let killed = self.cgroups.is_some_and(|cgroups| cgroups.oom_killed());
        if killed {
            return error.with_hint("the cgroup has reached its memory limit");
        }
        privilege::explain(error)
    }
}

/// What the host does while a first process starts.
struct Hosting<'a> {
    start: &'a Start<'a>,
    forks: bool,
    identity: Option<Identity>,
    /// Interfaces of the host that are in the container.
    moved: net::Moved,
}

impl Host for Hosting<'_> {
    fn cloned(&mut self, child: &Child) -> Result<()> {
        // Before it forks: its child is then born in the cgroup.
        match self.start.cgroups {
            Some(cgroups) if self.forks => cgroups.attach_v1(child.pid),
            _ => Ok(()),
        }
    }

    fn born(&mut self, child: &Child) -> Result<()> {
        let identity = Identity::of(child.pid)?;
        Journal::append(self.start.directory, &[Entry::Process(identity.clone())])?;
        self.identity = Some(identity);
        let config = self.start.config;
        if config.has_new(NamespaceType::User) {
            let maps = Maps { users: &config.uid_mappings, groups: &config.gid_mappings };
            maps.write(child.pid)?;
        }
        Ok(())
    }

    fn meanwhile(&mut self, child: &Child) -> Result<()> {
        if let Some(cgroups) = self.start.cgroups.filter(|_| !self.forks) {
            cgroups.attach_v1(child.pid)?;
        }
        if self.start.network.is_empty() {
            return Ok(());
        }
        self.moved = self.start.network.apply(child.pidfd.as_fd())?;
        Ok(())
    }

    fn barrier(&mut self, id: u32, child: &Child) -> Result<()> {
        if let Some((index, behind)) = mount_of_barrier(id)
            && let Some(mount) = self.start.config.mounts.get(index)
        {
            let commands = if behind { &mount.postmount_cmds } else { &mount.premount_cmds };
            return mount_command::run(commands, child.pidfd.as_fd());
        }
        // What the host does beside the init is done by now.
        Ok(())
    }
}

/// The start of a further process.
pub(crate) struct Join<'a> {
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    /// The container's first process.
    pub(crate) pid: i32,
    /// Its pidfd.
    pub(crate) init: OwnedFd,
}

impl Join<'_> {
    /// Starts the process.
    pub(crate) fn run(&self) -> Result<Running> {
        let path = PathBuf::from(format!("/proc/{}/root", self.pid));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty())
            .map_err(|errno| Error::path("open", &path, errno))?;
        let mut own = resolve(self.config, self.process, root.as_fd())?;
        // It is the container that must not outlive its maker.
        own.parent_death_signal = 0;
        drop(root);
        let plan: Plan = plan::join::compile(self.config, &own, different_namespaces(self.pid)?)?;
        let directory = self.cgroups.map(Cgroups::directory).transpose()?.flatten();
        let descriptors = Descriptors::open(self.process)?;
        let started = Launch {
            plan: &plan,
            image: image(self.image, self.options)?,
            place: Place::Caller,
            namespaces: 0,
            forks: true,
            descriptors: &descriptors.all(),
            cgroup: directory.as_ref().map(AsFd::as_fd),
            container: Some(self.init.as_fd()),
            timed: self.options.timing,
            patience: self.options.patience,
        }
        .run(&mut Joining(self.cgroups))?;
        let running = running(started, &plan, descriptors);
        child::joined(self.pid, &running.child);
        Ok(running)
    }
}

/// What the host does while a further process starts.
struct Joining<'a>(Option<&'a Cgroups>);

impl Host for Joining<'_> {
    fn cloned(&mut self, child: &Child) -> Result<()> {
        self.0.map_or(Ok(()), |cgroups| cgroups.attach_v1(child.pid))
    }

    fn born(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn meanwhile(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn barrier(&mut self, _: u32, _: &Child) -> Result<()> {
        Ok(())
    }
}

/// The image to execute and how it is spoken to.
fn image<'a>(own: Option<&'a Sealed>, options: &Options) -> Result<(&'a Sealed, Codec)> {
    match (own, &options.image) {
        (Some(sealed), Some(image)) => Ok((sealed, image.codec())),
        _ => Ok((Sealed::embedded()?, EMBEDDED.codec())),
    }
}

/// A started process with the caller's ends of its pipes.
fn running(started: Started, plan: &Plan, descriptors: Descriptors<'_>) -> Running {
    let times = plan.operations().zip(started.times);
    let [stdin, stdout, stderr] = descriptors.kept;
    Running {
        pid: started.child.pid,
        child: child::Child::new(started.child.pidfd),
        stdin,
        stdout,
        stderr,
        console: started.console,
        times: times
            .map(|(op, nanoseconds)| Timing {
                operation: op.name(),
                took: Duration::from_nanos(nanoseconds.into()),
            })
            .collect(),
        cgroups: None,
        first: None,
    }
}

/// The flags of new namespaces, and the files of those that are joined, the user namespace
/// first: it gives the rights over the others.
fn namespaces(config: &Config) -> (u32, Vec<(u32, PathBuf)>) {
    let mut new = 0;
    let mut joined = Vec::new();
    for namespace in &config.namespaces {
        if namespace.path.is_empty() {
            new |= namespace.kind.clone_flag();
        } else {
            joined.push((namespace.kind.clone_flag(), PathBuf::from(&namespace.path)));
        }
    }
    joined.sort_by_key(|(flag, _)| *flag != NamespaceType::User.clone_flag());
    (new, joined)
}

/// The flags of the namespaces in which a process differs from the caller.
fn different_namespaces(pid: i32) -> Result<u32> {
    let mut flags = 0;
    for kind in NamespaceType::ALL {
        let name = kind.file();
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}"));
        let theirs = match of(&pid.to_string()) {
            Ok(theirs) => theirs,
            // A kernel without this kind of namespace.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::path("read", format!("/proc/{pid}/ns/{name}"), error));
            }
        };
        if of("self").is_ok_and(|own| own != theirs) {
            flags |= kind.clone_flag();
        }
    }
    Ok(flags)
}

/// Whether a file of the host is a directory.
fn is_directory(path: &Path) -> Result<bool> {
    std::fs::metadata(path)
        .map(|metadata| metadata.is_dir())
        .map_err(|error| Error::path("stat", path, error))
}

/// A process with names made numbers.
fn resolve(config: &Config, process: &Process, root: BorrowedFd<'_>) -> Result<plan::Process> {
    let user = user::resolve(&process.user, root)?;
    let mut groups = user.groups;
    groups.extend(user::groups(&config.additional_groups, root)?);
    let mut env = process.env.clone();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    let names = process.capabilities.as_ref().unwrap_or(&config.capabilities);
    let mask = capability::mask(names)?;
    let fixed_groups =
        config.namespace(NamespaceType::User).is_some() && !privilege::may_set_groups();
    if fixed_groups && !config.additional_groups.is_empty() {
        let names = config.additional_groups.join(", ");
        return Err(Error::config(
            "additional_groups",
            names,
            "an ordinary user cannot set groups in a user namespace",
        ));
    }
    let filter = config
        .seccomp
        .as_ref()
        .map(|list| seccomp::seed::profile(list).and_then(|profile| seccomp::compile(&profile)))
        .transpose()?;
    Ok(plan::Process {
        args: process.args.clone(),
        env,
        cwd: if process.cwd.is_empty() { "/".into() } else { process.cwd.clone() },
        uid: user.uid,
        gid: user.gid,
        groups: (!fixed_groups).then_some(groups),
        capabilities: Capabilities {
            bounding: mask,
            effective: mask,
            permitted: mask,
            // Inheritable ones would let files of the image regain capabilities
            // (CVE-2022-24769).
            inheritable: 0,
            ambient: 0,
        },
        rlimits: config.rlimits.iter().map(|limit| (limit.kind, limit.soft, limit.hard)).collect(),
        terminal: process.terminal.map(|size| Terminal {
            rows: size.rows,
            columns: size.columns,
            console: config.has_new(NamespaceType::Mount),
        }),
        preserved: u32::try_from(process.extra_files.len()).unwrap_or(u32::MAX),
        // As libcontainer did: the filter is the last thing before exec then, and need not allow
        // what the init still has to do.
        no_new_privileges: process.no_new_privileges || config.seccomp.is_some(),
        seccomp: filter.map(|filter| (filter.flags(), filter.bytes())),
        umask: 0o022,
        parent_death_signal: config.parent_death_signal.unsigned_abs(),
        labels: label::of_processes(config),
    })
}
