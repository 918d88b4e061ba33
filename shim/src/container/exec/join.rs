//! Starting a further process, by the container's init or as a process that joins the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pidone_config::config::NamespaceType;
use pidone_config::oci::Status;
use pidone_config::seccomp::flag::NEW_LISTENER;
use pidone_config::{Config, Error, Process, Result};
use pidone_host::cgroup::{Cgroups, Entrance};
use pidone_host::proc;
use pidone_host::resctrl::Group;
use pidone_host::unix::path_in;
use pidone_plan as plan;
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::resolve::{Filter, cached_filter, resolve_with_filter};
use rustix::io::Errno;

use crate::container::children;
use crate::container::exec::running_init::RunningInit;
use crate::container::exec::supervised::SpawnRequest;
use crate::container::hook::Hooks;
use crate::container::running::Running;
use crate::container::start::users::root_of;
use crate::container::start::{adjust_oom_score, reset_affinity};
use crate::container::state::sockets::SUPERVISOR;
use crate::launch::channel::Channel;
use crate::launch::image::Sealed;
use crate::launch::options::{Options, image};
use crate::launch::stdio::Descriptors;
use crate::launch::{Child, Host, Launch, Lent, Owner, Place};
use crate::trace;

/// The limit of extra files for a process that the init starts. A request can carry more, but it
/// also carries the files of cgroups.
const SPAWNED_FILES: usize = 200;

/// The start of a further process.
pub(crate) struct Join<'a> {
    pub(crate) config: &'a Config,
    pub(crate) filter: &'a Filter,
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    pub(crate) hooks: Hooks<'a>,
    /// The container's first process.
    pub(crate) pid: i32,
    /// A handle for it, with caches.
    pub(crate) init: &'a RunningInit,
    /// The privileges that a supervising init has dropped.
    pub(crate) dropped: DroppedPrivileges,
    /// The directory of the container's state.
    pub(crate) directory: BorrowedFd<'a>,
}

impl Join<'_> {
    /// Starts the process.
    pub(crate) fn start(self) -> Result<Running> {
        // Connecting wakes up the init, which gets ready while this resolves the process.
        let channel = if self.can_be_spawned() { self.connect()? } else { None };
        let root = root_of(self.pid)?;
        match channel {
            Some(channel) => self.spawn(channel, root.as_fd()),
            None => self.join(root.as_fd()),
        }
    }

    /// Resolves the process: users, groups and capabilities to numbers, by the files in `root`.
    fn resolve(&self, root: BorrowedFd<'_>) -> Result<plan::Process> {
        trace::span("resolve the process", || {
            let filter = cached_filter(self.filter, self.config)?;
            let mut process = resolve_with_filter(self.config, self.process, root, filter)?;
            // The parent-death signal is for the container, not for further processes.
            process.parent_death_signal = 0;
            // `/dev/console` is the terminal of the first process, as in runc. A mount would
            // outlive this process, and a file could be made in a directory of the host.
            if let Some(terminal) = &mut process.terminal {
                terminal.console = false;
            }
            Ok(process)
        })
    }

    /// Whether the init can start the process, as far as its fields say. The init cannot do what
    /// has to be done from outside the container.
    fn can_be_spawned(&self) -> bool {
        self.config.supervise
            && !self.process.as_child
            && !self.process.keep_newlines
            && self.process.oom_score_adj.is_none()
            && self.process.extra_files.len() < SPAWNED_FILES
            && self.process.closed_numbers.is_empty()
            && !self.config.keep_groups
    }

    /// Connects to the init. Returns `None` if it does not listen.
    fn connect(&self) -> Result<Option<Channel>> {
        if let Some(channel) = self.init.connection.take() {
            return Ok(Some(channel));
        }
        let (_, codec) = image(self.image, self.options, true)?;
        match Channel::connect(&path_in(self.directory, SUPERVISOR), codec) {
            Ok(channel) => Ok(Some(channel)),
            // The socket does not exist, or nobody listens on it. If the container is gone, joining
            // it fails with the reason.
            // Nor does an init accept more while it is stopped.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::NOENT | Errno::CONNREFUSED | Errno::TIMEDOUT)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the cgroups below the container's that the process has to enter, if it names any.
    fn sub_cgroups(&self) -> Result<Option<Cgroups>> {
        let names = &self.process.sub_cgroups;
        let below = |cgroups: &Cgroups| cgroups.sub_cgroups(names);
        self.cgroups.filter(|_| !names.is_empty()).map(below).transpose()
    }

    /// Has the init start the process.
    ///
    /// Joins the container instead if the process needs a privilege that the init has dropped, if
    /// the listener of its seccomp filter has to be handed to an agent, or if the init is full or
    /// stopped.
    fn spawn(self, mut channel: Channel, root: BorrowedFd<'_>) -> Result<Running> {
        let sub_cgroups = self.sub_cgroups()?;
        let request = SpawnRequest {
            descriptors: Descriptors::open(self.process)?,
            cgroups: sub_cgroups.map_or_else(|| Ok(Vec::new()), |cgroups| cgroups.entry_files())?,
            main: false,
            listener: None,
            keep_newlines: self.process.keep_newlines,
            timeout: self.options.timeout,
        };
        // The plan depends on the number of cgroup files, which is not part of the cache's key.
        let users = self.init.users(root).filter(|_| request.cgroups.is_empty());
        let plan = self.init.plans.get(self.process, users, || {
            let process = self.resolve(root)?;
            let listens =
                process.seccomp.as_ref().is_some_and(|(flags, _)| flags & NEW_LISTENER != 0);
            if listens || !self.dropped.fits(self.config, &process) {
                return Ok(None);
            }
            request
                .compile_plan(self.config, &process, self.dropped)
                .map(|plan| Some(Arc::new(plan)))
        })?;
        let Some(plan) = plan else {
            self.init.connection.keep(channel);
            drop(request);
            return self.join(root);
        };
        let init = (self.pid, self.init.pidfd());
        let uid = plan.user().unwrap_or_default();
        Owner { descriptors: &request.descriptors, config: self.config, uid }.take(init)?;
        match request.spawn(&plan, init, &mut channel) {
            Ok(Some(spawned)) => {
                Ok(request.running(spawned, channel, self.init.connection.clone()))
            }
            Ok(None) => {
                drop((request, channel));
                self.join(root)
            }
            // The init is at the limit of processes, which a process from outside is not.
            Err(error) if error.errno() == Some(Errno::AGAIN) => {
                self.init.connection.keep(channel);
                drop(request);
                self.join(root)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a child of the caller that joins the container's namespaces.
    fn join(&self, root: BorrowedFd<'_>) -> Result<Running> {
        let users = self.init.users(root);
        let process =
            self.init.joining.get(self.process, users, || self.resolve(root).map(Arc::new))?;
        let plan = trace::span("compile the plan", || {
            let joined = self.hooks.joined(self.pid)?;
            plan::join::compile(self.config, &process, &joined)
        })?;
        let sub_cgroups = self.sub_cgroups()?;
        let cgroups = sub_cgroups.as_ref().or(self.cgroups);
        let descriptors = trace::span("open descriptors", || Descriptors::open(self.process))?;
        let owner = Owner { descriptors: &descriptors, config: self.config, uid: process.uid };
        let start = |entrance: &Entrance<'_>| {
            Launch {
                plan: &plan,
                rest: None,
                image: image(self.image, self.options, false)?,
                place: Place::Caller,
                namespaces: 0,
                forks: true,
                descriptors: &descriptors.all(),
                closed: &self.process.closed_numbers,
                cgroup: entrance,
                lent: Lent { container: Some(self.init.pidfd()), ..Lent::default() },
                early: usize::MAX,
                timeout: self.options.timeout,
            }
            .start(&mut JoinHostSide(Some(Further {
                process: self.process,
                owner,
                hooks: &self.hooks,
                first: self.pid,
                container: self.init.pidfd(),
            })))
        };
        let entrance = cgroups.map(Cgroups::entrance).transpose()?.unwrap_or_default();
        let started = match (start(&entrance), cgroups) {
            // The limit of processes has no room for this one and the init that forks it. As in
            // runc, the process then enters when it exists.
            (Err(error), Some(cgroups)) if error.errno() == Some(Errno::AGAIN) => {
                start(&cgroups.late_entrance())?
            }
            (started, _) => started?,
        };
        let running = Running::from_started(started, descriptors);
        children::register_joined(self.pid, &running.child);
        Ok(running)
    }
}

/// The host's side of the start of a process that joins a container; `None` for a hook.
pub(crate) struct JoinHostSide<'a>(pub(crate) Option<Further<'a>>);

/// A further process of a container.
pub(crate) struct Further<'a> {
    process: &'a Process,
    /// Who gets its descriptors.
    owner: Owner<'a>,
    hooks: &'a Hooks<'a>,
    /// The pid of the first process, which the seccomp agent gets to know.
    first: i32,
    /// The pidfd of the first process.
    container: BorrowedFd<'a>,
}

impl Host for JoinHostSide<'_> {
    fn on_cloned(&mut self, child: &Child) -> Result<()> {
        let Some(Further { process, owner, hooks, first, container }) = &self.0 else {
            return Ok(());
        };
        owner.take((*first, *container))?;
        if let Some(rdt) = &hooks.config.intel_rdt {
            Group::locate(rdt, hooks.id)?.add(child.pid)?;
        }
        reset_affinity(child.pid, process);
        adjust_oom_score(child.pid, process.oom_score_adj)
    }

    fn while_running(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn at_barrier(&mut self, _: u32, _: &Child) -> Result<()> {
        Ok(())
    }

    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()> {
        match &self.0 {
            Some(Further { hooks, first, .. }) => {
                let state = hooks.state_object(Status::Running, *first);
                hooks.hand_over_listener(listener.as_fd(), child.pid, state)
            }
            // A hook is not the container's program, and does not wait for an agent.
            None => Ok(()),
        }
    }
}

/// Returns the `CLONE_NEW*` flags of the namespaces in which a process of a container differs from
/// the caller.
pub(crate) fn different_namespaces(config: &Config, pid: i32) -> Result<u32> {
    let mut flags = 0;
    for kind in NamespaceType::ALL {
        // Namespaces that the container's clone made need no comparison. A user namespace does,
        // since `setns` to the caller's own one fails, and so does a time namespace, which a
        // process enters only by exec.
        let by_clone = !matches!(kind, NamespaceType::User | NamespaceType::Time);
        if by_clone && config.has_new(kind) {
            flags |= kind.clone_flag();
            continue;
        }
        let name = kind.file();
        let theirs = match proc::namespace(&pid.to_string(), name) {
            Ok(theirs) => theirs,
            // The kernel does not have this kind of namespace.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Error::path("read", format!("/proc/{pid}/ns/{name}"), error));
            }
        };
        if proc::namespace("self", name).is_ok_and(|ours| ours != theirs) {
            flags |= kind.clone_flag();
        }
    }
    Ok(flags)
}
