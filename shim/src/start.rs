//! From a container's configuration and a process to a launch.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::cgroup::Cgroups;
use crate::compile::{Compilation, Compiled};
use crate::config::{Config, NamespaceType};
use crate::error::{Error, Result};
use crate::factory::Options;
use crate::hooks::Hooks;
use crate::journal::{Entry, Journal};
use crate::launch::image::{Codec, EMBEDDED, Sealed};
use crate::launch::{Child, Host, Launch, Lent, Maps, Place, Started};
use crate::oci::Status;
use crate::plan::container::{BARRIER_CREATE, BARRIER_START, mount_of_barrier};
use crate::plan::{self, Plan};
use crate::process::{Process, Running, Timing};
use crate::resolve::resolve;
use crate::state::Identity;
use crate::stdio::Descriptors;
use crate::{child, label, mount_command, net, privilege};

/// The start of a container's first process.
pub(crate) struct Start<'a> {
    pub(crate) id: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    /// The directory of the container's state.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) network: &'a net::Plan,
    /// The socket on which the program waits for the start; none if it comes at once.
    pub(crate) listener: Option<BorrowedFd<'a>>,
}

/// A first process that was started, or waits.
pub(crate) struct First {
    pub(crate) running: Running,
    pub(crate) identity: Identity,
    /// The operations behind the wait, and the number of the first.
    pub(crate) rest: Option<(u32, Vec<u8>)>,
}

impl Start<'_> {
    /// Starts the process.
    pub(crate) fn run(&self) -> Result<First> {
        let Compiled { mut plan, place, namespaces, forks } = Compilation {
            config: self.config,
            process: self.process,
            strategy: self.options.strategy,
            cgroups: self.cgroups,
            network: self.network,
            keyring: self.hooks().keyring(),
            waits: self.listener.is_some(),
        }
        .run()?;
        label::relabel(self.config)?;
        if self.listener.is_none() {
            plan.set_last_apart();
        }

        let entrance = self.cgroups.map(Cgroups::entrance).transpose()?.unwrap_or_default();
        let descriptors = Descriptors::open(self.process)?;
        let moved = net::Moved::default();
        let mut host = Hosting { start: self, plan: &plan, identity: None, moved };
        let started = Launch {
            plan: &plan,
            image: image(self.image, self.options)?,
            place,
            namespaces,
            forks,
            descriptors: &descriptors.all(),
            cgroup: &entrance,
            lent: Lent { listener: self.listener, ..Lent::default() },
            timed: self.options.timing,
            early: self.early(&plan),
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
        let rest = plan.behind_wait().map(|(first, bytes)| (first, bytes.to_owned()));
        Ok(First { running, identity, rest })
    }

    /// How many parts of the plan the init may have before it is written down, has its ids and its
    /// likelihood to be killed: all but the one that ends with the program.
    fn early(&self, plan: &Plan) -> usize {
        let score = self.process.oom_score_adj.is_some() && !rustix::process::geteuid().is_root();
        // Who may not dump the init, which has operations, may not write its files either.
        if self.config.has_new(NamespaceType::User) || score {
            return 0;
        }
        plan.parts().len() - 1
    }

    /// The hooks of the container.
    fn hooks(&self) -> Hooks<'_> {
        Hooks {
            config: self.config,
            id: self.id,
            options: self.options,
            image: self.image,
            cgroups: self.cgroups,
        }
    }

    /// Adds what a reader could not guess.
    fn explain(&self, error: Error) -> Error {
        let killed = self.cgroups.is_some_and(|cgroups| cgroups.oom_killed());
        // Who is about to execute the init is not killed, since its memory is the caller's.
        let limited = self.config.cgroups.as_ref().is_some_and(|cgroups| cgroups.memory > 0);
        if killed || (limited && error.errno() == Some(Errno::NOMEM)) {
            return error.with_hint("the cgroup has reached its memory limit");
        }
        privilege::explain(error)
    }
}

/// What the host does while a first process starts.
struct Hosting<'a> {
    start: &'a Start<'a>,
    plan: &'a Plan,
    identity: Option<Identity>,
    /// Interfaces of the host that are in the container.
    moved: net::Moved,
}

impl Host for Hosting<'_> {
    fn born(&mut self, child: &Child) -> Result<()> {
        let identity = Identity::of(child.pid)?;
        Journal::append(self.start.directory, &[Entry::Process(identity.clone())])?;
        self.identity = Some(identity);
        let config = self.start.config;
        if config.has_new(NamespaceType::User) {
            let maps = Maps { users: &config.uid_mappings, groups: &config.gid_mappings };
            maps.write(child.pid)?;
        }
        adjust_oom_score(child.pid, self.start.process.oom_score_adj)
    }

    fn meanwhile(&mut self, child: &Child) -> Result<()> {
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
        match id {
            BARRIER_CREATE => self.start.hooks().create(child),
            BARRIER_START => self.start.hooks().start(child, self.plan),
            // What the host does beside the init is done by now.
            _ => Ok(()),
        }
    }

    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()> {
        // With a wait the filter comes behind it, and without one nobody else starts it.
        let hooks = self.start.hooks();
        let state = hooks.state_object(Status::Creating, child.pid);
        hooks.listener(listener.as_fd(), child.pid, state)
    }
}

/// Writes how readily a process is killed for want of memory: `proc_pid_oom_score_adj(5)`.
fn adjust_oom_score(pid: i32, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    let Err(error) = std::fs::write(&path, score.to_string()) else { return Ok(()) };
    // Who may not lower it keeps what is there if that is as low.
    let there = std::fs::read_to_string(&path).ok().and_then(|score| score.trim().parse().ok());
    if there.is_some_and(|there: i32| there == score) {
        return Ok(());
    }
    Err(Error::path("write", path, error).with_hint("a lower score needs CAP_SYS_RESOURCE"))
}

/// The start of a first process that waits for it.
pub(crate) struct Release<'a> {
    pub(crate) hooks: Hooks<'a>,
    /// What is left of the plan.
    pub(crate) plan: &'a Plan,
}

impl Host for Release<'_> {
    fn born(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn meanwhile(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn barrier(&mut self, id: u32, child: &Child) -> Result<()> {
        if id == BARRIER_START { self.hooks.start(child, self.plan) } else { Ok(()) }
    }

    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()> {
        let state = self.hooks.state_object(Status::Created, child.pid);
        self.hooks.listener(listener.as_fd(), child.pid, state)
    }
}

/// The start of a further process.
pub(crate) struct Join<'a> {
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) hooks: Hooks<'a>,
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
        let joined = self.hooks.joined(self.pid)?;
        let plan = plan::join::compile(self.config, &own, &joined)?;
        let below = match self.cgroups {
            Some(cgroups) if !self.process.sub_cgroups.is_empty() => {
                Some(cgroups.below(&self.process.sub_cgroups)?)
            }
            _ => None,
        };
        let cgroups = below.as_ref().or(self.cgroups);
        let entrance = cgroups.map(Cgroups::entrance).transpose()?.unwrap_or_default();
        let descriptors = Descriptors::open(self.process)?;
        let started = Launch {
            plan: &plan,
            image: image(self.image, self.options)?,
            place: Place::Caller,
            namespaces: 0,
            forks: true,
            descriptors: &descriptors.all(),
            cgroup: &entrance,
            lent: Lent { container: Some(self.init.as_fd()), ..Lent::default() },
            timed: self.options.timing,
            early: usize::MAX,
            patience: self.options.patience,
        }
        .run(&mut Joining {
            oom_score_adj: self.process.oom_score_adj,
            container: Some((&self.hooks, self.pid)),
        })?;
        let running = running(started, &plan, descriptors);
        child::joined(self.pid, &running.child);
        Ok(running)
    }
}

/// What the host does while a further process starts.
pub(crate) struct Joining<'a> {
    pub(crate) oom_score_adj: Option<i32>,
    /// What the agent of a seccomp filter is told of: the container, and its first process.
    pub(crate) container: Option<(&'a Hooks<'a>, i32)>,
}

impl Host for Joining<'_> {
    fn born(&mut self, child: &Child) -> Result<()> {
        adjust_oom_score(child.pid, self.oom_score_adj)
    }

    fn meanwhile(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn barrier(&mut self, _: u32, _: &Child) -> Result<()> {
        Ok(())
    }

    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()> {
        match self.container {
            Some((hooks, first)) => {
                let state = hooks.state_object(Status::Running, first);
                hooks.listener(listener.as_fd(), child.pid, state)
            }
            // A hook is not the container's program, and is not held up.
            None => Ok(()),
        }
    }
}

/// The image to execute and how it is spoken to.
pub(crate) fn image<'a>(own: Option<&'a Sealed>, options: &Options) -> Result<(&'a Sealed, Codec)> {
    match (own, &options.image) {
        (Some(sealed), Some(image)) => Ok((sealed, image.codec())),
        _ => Ok((Sealed::embedded()?, EMBEDDED.codec())),
    }
}

/// A started process with the caller's ends of its pipes.
pub(crate) fn running(started: Started, plan: &Plan, descriptors: Descriptors<'_>) -> Running {
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

/// The flags of the namespaces in which a process of a container differs from the caller.
pub(crate) fn different_namespaces(config: &Config, pid: i32) -> Result<u32> {
    let mut flags = 0;
    for kind in NamespaceType::ALL {
        // Nobody can join the user namespace that it is in, and a new time namespace is entered by
        // exec; the other new ones need no look.
        let by_clone = !matches!(kind, NamespaceType::User | NamespaceType::Time);
        if by_clone && config.has_new(kind) {
            flags |= kind.clone_flag();
            continue;
        }
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
