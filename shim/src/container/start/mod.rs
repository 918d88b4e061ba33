//! Starting the first process of a container: compiling its plan and launching the init.

pub(crate) mod facts;
pub(crate) mod users;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidone_config::config::NamespaceType;
use pidone_config::oci::Status;
use pidone_config::{Config, Error, Process, Result, Stdio};
use pidone_host::cgroup::{self, Cgroups, Entrance};
use pidone_host::resctrl::Group;
use pidone_host::{lsm, net, privilege, proc};
use pidone_plan::barrier::{BARRIER_CGROUP, BARRIER_CREATE, BARRIER_START, mount_of_barrier};
use pidone_plan::dropped::DroppedPrivileges;
use pidone_plan::facts::End;
use pidone_plan::late_user::compile_rest;
use pidone_plan::{self as plan, Plan};
use rustix::io::Errno;
use rustix::thread::{CpuSet, Pid, sched_setaffinity};

use crate::container::children;
use crate::container::exec::supervised::SpawnRequest;
use crate::container::hook::{Hooks, mount_command};
use crate::container::park::ParkedInit;
use crate::container::running::Running;
use crate::container::start::facts::{Compilation, Compiled, Program, Stage};
use crate::container::state::journal::{Entry, Journal};
use crate::container::state::lock::Lock;
use crate::container::state::{Identity, State, sockets};
use crate::launch::image::Sealed;
use crate::launch::options::{Options, image};
use crate::launch::stdio::Descriptors;
use crate::launch::{Child, Host, Launch, Lent, Maps, Network, Owner, Place, Rest, Started};
use crate::trace;

/// The start of a container's first process.
pub(crate) struct Start<'a> {
    pub(crate) state: &'a State,
    /// The lock of the container, which is released while hooks run.
    pub(crate) lock: &'a Lock,
    pub(crate) config: &'a Config,
    pub(crate) process: &'a Process,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    /// The directory of the container's state.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) cgroups: Option<&'a Cgroups>,
    /// The scope, if systemd makes the cgroup. It is taken when the process is in it.
    pub(crate) scope: RefCell<Option<cgroup::Starting>>,
    pub(crate) network: &'a net::Plan,
    /// The group of resctrl that the process enters.
    pub(crate) resctrl: Option<&'a Group>,
    /// The network namespace, if another thread makes it.
    pub(crate) parallel_netns: Option<&'a Network>,
    /// The socket on which the program waits for the start; `None` to execute it at once.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    /// The socket on which a supervising init accepts requests.
    pub(crate) supervisor: Option<BorrowedFd<'a>>,
}

/// A first process whose program was executed, or waits for the start.
pub(crate) struct StartedFirst {
    pub(crate) running: Running,
    pub(crate) identity: Identity,
    /// The encoded operations after the wait for the start, and the number of the first of them.
    pub(crate) rest: Option<(u32, Vec<u8>)>,
    /// The privileges that a supervising init has dropped.
    pub(crate) dropped: DroppedPrivileges,
}

/// An init that waits for its program.
pub(crate) struct ParkedFirst {
    pub(crate) parked: ParkedInit,
    pub(crate) identity: Identity,
    /// The privileges that a supervising init has dropped.
    pub(crate) dropped: DroppedPrivileges,
}

impl Start<'_> {
    /// Starts the process.
    pub(crate) fn start(&self) -> Result<StartedFirst> {
        let supervises = self.supervisor.is_some();
        if supervises {
            refuse_closed_numbers(self.process)?;
        }
        let mut compiled = self.compile(Stage::Whole)?;
        let program = compiled
            .program
            .as_ref()
            .ok_or_else(|| Error::system("compile", &self.state.id, Errno::INVAL))?;
        // The exec, and whatever waits for the network namespace, must not run before the process
        // is in the journal.
        let apart = compiled.plan.first_late().is_none() && matches!(program, Program::Complete(_));
        if self.listener.is_none() && !supervises && apart {
            compiled.plan.set_last_apart();
        }
        let descriptors = trace::span("open descriptors", || Descriptors::open(self.process))?;
        // The program of a supervising init gets its descriptors with the request to start it.
        let null =
            supervises.then(|| Descriptors::from_stdio([&Stdio::Null; 3], &[])).transpose()?;
        let for_init = null.as_ref().unwrap_or(&descriptors);
        let all = for_init.all();
        let owner = |uid| Owner { descriptors: &descriptors, config: self.config, uid };
        let whole = OnceCell::new();
        let completed = OnceCell::new();
        let compile = |child: &Child, root: Option<BorrowedFd<'_>>| {
            let Program::Nameless(nameless) = program else { return Ok(compiled.plan.clone()) };
            let place = (child.pid, root);
            let process = users::complete(nameless, self.config, self.process, place)?;
            if !supervises {
                owner(process.uid).take(child.ids())?;
            }
            let mut plan = compiled.plan.clone();
            let end = End { waits: self.waits(), dropped: compiled.dropped };
            compile_rest(&mut plan, self.config, &process, end)?;
            let _ = completed.set(process);
            Ok(plan)
        };
        let (early, rest, owner) = match program {
            Program::Complete(process) => {
                let owner = (!supervises).then(|| owner(process.uid));
                (compiled.plan.early_parts(), None, owner)
            }
            Program::Nameless(_) => {
                let early = compiled.plan.first_late().unwrap_or(usize::MAX);
                (early, Some(Rest { compile: &compile, whole: &whole }), None)
            }
        };
        let (started, identity) =
            self.launch((&compiled, rest), (&all, owner), early, |launch, host| {
                launch.start(host)
            })?;
        drop(all);
        let Compiled { plan, program, dropped, .. } = compiled;
        let plan = whole.into_inner().unwrap_or(plan);
        let process = match program {
            Some(Program::Complete(process)) => Some(process),
            _ => completed.into_inner(),
        };
        let rest_of = |plan: &Plan| plan.after_wait().map(|(first, rest)| (first, rest.to_owned()));
        let (mut running, rest) = if supervises {
            let process =
                process.ok_or_else(|| Error::system("compile", &self.state.id, Errno::INVAL))?;
            let (running, plan) = self.first_program(started, &process, descriptors, dropped)?;
            (running, rest_of(&plan))
        } else {
            (Running::from_started(started, descriptors), rest_of(&plan))
        };
        // If no descriptor is left for the registration, only the process itself is reaped.
        running.first = children::FirstProcess::new(running.pid).ok();
        Ok(StartedFirst { running, identity, rest, dropped })
    }

    /// Runs the first part of a plan and leaves the init waiting for the second.
    pub(crate) fn park(&self, stage: Stage<'_>) -> Result<ParkedFirst> {
        let mut compiled = self.compile(stage)?;
        // The calling thread has a low priority, which a clone would inherit.
        if compiled.place == Place::Caller {
            compiled.place = Place::Thread;
        }
        let null = pidone_host::descriptor::open_null()?;
        let descriptors: (&[_], _) = (&[null.as_fd(); 3], None);
        let dropped = compiled.dropped;
        let (parked, identity) = if self.supervisor.is_some() {
            let early = compiled.plan.early_parts();
            let start = |launch: &Launch<'_>, host: &mut HostSide<'_>| launch.start(host);
            let (started, identity) = self.launch((&compiled, None), descriptors, early, start)?;
            (ParkedInit::Supervisor(started), identity)
        } else {
            let early = compiled.plan.parts().len();
            let park = |launch: &Launch<'_>, host: &mut HostSide<'_>| launch.park(host);
            let (parked, identity) = self.launch((&compiled, None), descriptors, early, park)?;
            (ParkedInit::Plain(parked), identity)
        };
        Ok(ParkedFirst { parked, identity, dropped })
    }

    /// Compiles a part of the plan.
    fn compile(&self, stage: Stage<'_>) -> Result<Compiled> {
        let compilation = Compilation {
            config: self.config,
            process: self.process,
            strategy: self.options.strategy,
            cgroups: self.cgroups,
            network: self.network,
            awaits_cgroup: self.awaits_cgroup(),
            parallel_netns: self.parallel_netns.is_some(),
            keyring: self.hooks().keyring(),
            waits: self.waits(),
            stage,
        };
        trace::span("compile the plan", || compilation.compile())
    }

    /// Whether the plan waits for the start.
    fn waits(&self) -> bool {
        self.listener.is_some() && self.supervisor.is_none()
    }

    /// Launches the init by `run`. Returns its result, and the identity of the process.
    ///
    /// `early` is how many parts of the plan may be sent before the clone. The owner, if there is
    /// one, gets the descriptors.
    fn launch<T>(
        &self,
        (compiled, rest): (&Compiled, Option<Rest<'_>>),
        (descriptors, owner): (&[BorrowedFd<'_>], Option<Owner<'_>>),
        early: usize,
        run: impl FnOnce(&Launch<'_>, &mut HostSide<'_>) -> Result<T>,
    ) -> Result<(T, Identity)> {
        lsm::relabel(self.config)?;
        let Compiled { plan, place, namespaces, forks, .. } = compiled;
        let takes_more = self.supervisor.is_some() || compiled.program.is_none();
        // With the init itself, or with its fork, the process would exceed a smaller limit.
        let pids = self.config.cgroups.as_ref().and_then(|limits| limits.pids_limit);
        let is_full = pids.is_some_and(|limit| (0..=1).contains(&limit));
        let by_systemd = self.scope.borrow().is_some();
        let entrance = match self.cgroups {
            None => Entrance::default(),
            Some(_) if by_systemd => Entrance::default(),
            Some(cgroups) if is_full => cgroups.late_entrance(),
            Some(cgroups) => cgroups.entrance()?,
        };
        let moved = net::MovedDevices::default();
        let mut host = HostSide { start: self, plan, rest, identity: None, owner, moved };
        let launch = Launch {
            plan,
            rest,
            image: image(self.image, self.options, takes_more)?,
            place: *place,
            namespaces: *namespaces,
            forks: *forks,
            descriptors,
            closed: if takes_more { &BTreeSet::new() } else { &self.process.closed_numbers },
            cgroup: &entrance,
            lent: Lent {
                listener: self.listener,
                supervisor: self.supervisor,
                network: self.parallel_netns,
                ..Lent::default()
            },
            early: if self.ids_written_first() || (by_systemd && !self.awaits_cgroup()) {
                0
            } else {
                early
            },
            timeout: self.options.timeout,
        };
        let started = run(&launch, &mut host).map_err(|error| {
            match std::mem::take(&mut host.moved).give_back() {
                Ok(()) => self.explain(error),
                Err(left) => error.with_hint(format!("not cleaned up: {left}")),
            }
        })?;
        let identity =
            host.identity.ok_or_else(|| Error::system("journal", &self.state.id, Errno::NOENT))?;
        Ok((started, identity))
    }

    /// Has a supervising init start the container's first program: [`SpawnRequest::start_main`].
    fn first_program(
        &self,
        started: Started,
        process: &plan::Process,
        descriptors: Descriptors<'_>,
        dropped: DroppedPrivileges,
    ) -> Result<(Running, Plan)> {
        let program = SpawnRequest {
            listener: self.listener,
            keep_newlines: self.process.keep_newlines,
            ..SpawnRequest::main(descriptors, self.options.timeout)
        };
        let owner =
            Owner { descriptors: &program.descriptors, config: self.config, uid: process.uid };
        let taken = owner.take(started.child.ids());
        let plan = taken.and_then(|()| program.compile_plan(self.config, process, dropped));
        let spawned = match plan {
            Ok(plan) => program.start_main(&plan, started).map(|running| (running, plan)),
            Err(error) => {
                started.child.end();
                Err(error)
            }
        };
        spawned.map_err(|error| self.explain(error))
    }

    /// Whether the plan must wait until the id maps and `oom_score_adj` have been written.
    ///
    /// Otherwise all of it except the part with the exec may be sent before the process is in the
    /// journal.
    fn ids_written_first(&self) -> bool {
        let score = self.process.oom_score_adj.is_some() && !rustix::process::geteuid().is_root();
        // The init is not dumpable once it has operations, and then only a process that may dump it
        // can write its files in /proc.
        self.config.has_new(NamespaceType::User) || score
    }

    /// Whether the process enters its cgroup while it is set up.
    ///
    /// In a cgroup namespace that it joins, the plan may bind the cgroup by its path, which does
    /// not exist before the entry.
    fn awaits_cgroup(&self) -> bool {
        let joins = self.config.namespace(NamespaceType::Cgroup).is_some()
            && !self.config.has_new(NamespaceType::Cgroup);
        self.scope.borrow().is_some() && !joins
    }

    /// Waits until systemd has moved the process into its cgroup, and records that.
    fn enter_scope(&self, child: &Child) -> Result<()> {
        let (Some(starting), Some(cgroups)) = (self.scope.take(), self.cgroups) else {
            return Ok(());
        };
        let record = || Journal::append(self.directory, &[Entry::CgroupsMade(Vec::new())]);
        trace::span("wait for systemd", || starting.finish(cgroups, child.pidfd.as_fd(), record))?;
        delegate(self.config, cgroups)
    }

    /// Returns the hooks of the container.
    fn hooks(&self) -> Hooks<'_> {
        Hooks {
            config: self.config,
            id: &self.state.id,
            options: self.options,
            image: self.image,
            cgroups: self.cgroups,
        }
    }

    /// Adds a hint to errors whose cause is not obvious.
    fn explain(&self, error: Error) -> Error {
        // An exec that exceeds the limit fails with ENOMEM and does not trigger the OOM killer.
        let limited = self.config.cgroups.as_ref().is_some_and(|limits| limits.memory > 0);
        let refused = limited && error.errno() == Some(Errno::NOMEM);
        if refused || self.cgroups.is_some_and(|cgroups| cgroups.oom_killed()) {
            return error.with_hint("the cgroup has reached its memory limit");
        }
        privilege::explain(error)
    }
}

/// Gives the cgroup to the container's root user, if the container has its own user and cgroup
/// namespaces and therefore sees no other cgroup.
pub(crate) fn delegate(config: &Config, cgroups: &Cgroups) -> Result<()> {
    let mut needed = [NamespaceType::User, NamespaceType::Cgroup].into_iter();
    match (config.host_uid(), config.host_gid()) {
        (Some(uid), Some(gid)) if needed.all(|kind| config.has_new(kind)) => {
            cgroups.delegate(uid, gid)
        }
        _ => Ok(()),
    }
}

/// The host's side of the start of a first process.
struct HostSide<'a> {
    start: &'a Start<'a>,
    plan: &'a Plan,
    /// The rest of the plan, if it is not known yet.
    rest: Option<Rest<'a>>,
    identity: Option<Identity>,
    /// Who gets the descriptors.
    owner: Option<Owner<'a>>,
    /// Interfaces that were moved from the host into the container.
    moved: net::MovedDevices,
}

impl Host for HostSide<'_> {
    fn on_cloned(&mut self, child: &Child) -> Result<()> {
        let identity = trace::span("journal", || {
            let identity = Identity::from_pid(child.pid)?;
            Journal::append(self.start.directory, &[Entry::Process(identity.clone())])?;
            Ok(identity)
        })?;
        self.identity = Some(identity);
        if let Some(scope) = self.start.scope.borrow_mut().as_mut() {
            let ask = || scope.start(child.pid, child.pidfd.as_fd());
            trace::span("ask systemd for the scope", ask)?;
        }
        if !self.start.awaits_cgroup() {
            self.start.enter_scope(child)?;
        }
        let config = self.start.config;
        if config.has_new(NamespaceType::User) {
            let maps = Maps { users: &config.uid_mappings, groups: &config.gid_mappings };
            trace::span("map ids", || maps.write(child.pid))?;
        }
        if let Some(owner) = &self.owner {
            owner.take(child.ids())?;
        }
        if let Some(group) = self.start.resctrl {
            group.add(child.pid)?;
        }
        reset_affinity(child.pid, self.start.process);
        adjust_oom_score(child.pid, self.start.process.oom_score_adj)
    }

    fn while_running(&mut self, child: &Child) -> Result<()> {
        if self.start.network.is_empty() {
            return Ok(());
        }
        let network = || self.start.network.apply(child.pidfd.as_fd());
        self.moved = trace::span("set up the network", network)?;
        Ok(())
    }

    fn at_barrier(&mut self, id: u32, child: &Child) -> Result<()> {
        if let Some((index, is_after)) = mount_of_barrier(id)
            && let Some(mount) = self.start.config.mounts.get(index)
        {
            let commands = if is_after { &mount.postmount_cmds } else { &mount.premount_cmds };
            let run = || mount_command::run_all(commands, child.pidfd.as_fd());
            return self.unlocked(true, || trace::span("run mount commands", run));
        }
        let Start { process, directory, .. } = *self.start;
        let hooks = self.start.hooks();
        match id {
            BARRIER_CGROUP => self.start.enter_scope(child),
            BARRIER_CREATE => self.unlocked(true, || hooks.create(child, self.plan, &process.env)),
            BARRIER_START => {
                sockets::mark_starting(directory)?;
                let whole = whole_plan(self.rest, self.plan);
                let done = self.unlocked(false, || hooks.start(child, whole));
                sockets::unmark_starting(directory);
                done
            }
            // A barrier at which the init waits for `while_running`, which has returned by now.
            _ => Ok(()),
        }
    }

    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()> {
        let hooks = self.start.hooks();
        let state = hooks.state_object(Status::Creating, child.pid);
        hooks.hand_over_listener(listener.as_fd(), child.pid, state)
    }
}

impl HostSide<'_> {
    /// Runs hooks or commands while the container is not locked, since they may work on it.
    ///
    /// They find its process in the state. With `creating`, it is not set up yet.
    fn unlocked(&self, creating: bool, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let Start { state, lock, directory, .. } = *self.start;
        let identity = self
            .identity
            .as_ref()
            .ok_or_else(|| Error::system("journal", &state.id, Errno::NOENT))?;
        // Hooks of an earlier step may have changed it.
        let mut state = State::read(directory)?.unwrap_or_else(|| state.clone());
        state.set_first(identity);
        state.creating = creating;
        trace::span("write the state", || state.write(directory))?;
        lock.released_for(run)
    }
}

/// Refuses a process whose extra files skip numbers. An init that gets its program later takes the
/// descriptors without gaps.
pub(crate) fn refuse_closed_numbers(process: &Process) -> Result<()> {
    match process.closed_numbers.first() {
        None => Ok(()),
        Some(number) => {
            let reason = "cannot stay closed below others: the init of this container takes \
                          descriptors without gaps";
            Err(Error::config("descriptor", number, reason))
        }
    }
}

/// Returns a plan with its rest, if that is known by now.
fn whole_plan<'a>(rest: Option<Rest<'a>>, plan: &'a Plan) -> &'a Plan {
    rest.and_then(|rest| rest.whole.get()).unwrap_or(plan)
}

/// Lets a process run on all processors of its cpuset, as runc does: from Linux 6.2 on, the
/// affinity of the caller holds in the cpuset of the container, too.
///
/// A process with `execCPUAffinity` keeps what that says. A failure is none of the start: the
/// process runs, on fewer processors.
pub(crate) fn reset_affinity(pid: i32, process: &Process) {
    if process.affinity.is_none() {
        let mut all = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
        let _ = sched_setaffinity(Pid::from_raw(pid), &all);
    }
}

/// Writes the OOM score adjustment of a process, -1000 to 1000: `proc_pid_oom_score_adj(5)`.
pub(crate) fn adjust_oom_score(pid: i32, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    let Err(error) = std::fs::write(&path, score.to_string()) else { return Ok(()) };
    // Without the privilege to lower it, the write fails even if the value is already the same.
    if proc::oom_score_adj(pid) == Some(score) {
        return Ok(());
    }
    Err(Error::path("write", path, error).with_hint("a lower score needs CAP_SYS_RESOURCE"))
}

/// The host's side of the second part of a start.
pub(crate) struct ReleaseHostSide<'a> {
    hooks: Hooks<'a>,
    /// The remaining operations.
    plan: &'a Plan,
    /// What follows after them, if it is not known yet.
    pub(crate) rest: Option<Rest<'a>>,
    /// The lock and the directory of the container, if it is locked.
    locked: Option<(&'a Lock, BorrowedFd<'a>)>,
    /// Whether a hook has failed.
    pub(crate) hook_failed: bool,
}

impl<'a> ReleaseHostSide<'a> {
    /// Makes the host's side for the remaining operations `plan`. If the container is `locked`, by
    /// its lock and its directory, the lock is released while hooks run.
    pub(crate) fn new(
        hooks: Hooks<'a>,
        plan: &'a Plan,
        locked: Option<(&'a Lock, BorrowedFd<'a>)>,
    ) -> Self {
        Self { hooks, plan, rest: None, locked, hook_failed: false }
    }
}

impl Host for ReleaseHostSide<'_> {
    fn on_cloned(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn while_running(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn at_barrier(&mut self, id: u32, child: &Child) -> Result<()> {
        if id != BARRIER_START {
            return Ok(());
        }
        let whole = whole_plan(self.rest, self.plan);
        let run = || self.hooks.start(child, whole);
        let done = match self.locked {
            Some((lock, directory)) => {
                let done = lock.released_for(run);
                sockets::unmark_starting(directory);
                done
            }
            None => run(),
        };
        self.hook_failed = done.is_err();
        done
    }

    fn listener(&mut self, listener: OwnedFd, child: &Child) -> Result<()> {
        let state = self.hooks.state_object(Status::Created, child.pid);
        self.hooks.hand_over_listener(listener.as_fd(), child.pid, state)
    }
}
