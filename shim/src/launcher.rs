//! A launch of a plan of one's own: without a container around it.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use pidone_config::config::{IdMap, NamespaceType};
use pidone_config::{Error, Result, Stdio};
use pidone_host::cgroup::Entrance;
use pidone_host::privilege;
use pidone_plan::Plan;
use pidone_proto::Op;

use crate::container::running::Running;
use crate::launch::image::{Image, Sealed};
use crate::launch::options::{Options, image};
use crate::launch::stdio::Descriptors;
use crate::launch::{Child, Host, Launch, Lent, Maps, Place};

/// What a caller does when the init stands at an [`Op::Barrier`]: its number, and the process.
type AtBarrier<'a> = Box<dyn FnMut(u32, i32) -> Result<()> + 'a>;

/// Launches a [`Plan`], one that was compiled or one that was put together operation by operation.
///
/// It clones the init with new namespaces, writes the id maps of a user namespace, sends the plan
/// with the files that it names, answers at barriers, and hands over the running process. A failed
/// launch leaves no process behind.
///
/// It is not a container: nothing is validated, no cgroup is made or joined, no interface set up,
/// no hook run, no state or journal written. Nobody finds the process again but by what
/// [`Launcher::launch`] returns, and nothing is killed with it but what is in its pid namespace. A
/// plan cannot wait for a start ([`Op::AwaitStart`]), stay and supervise ([`Op::Supervise`]), join a
/// container ([`Source::Container`](pidone_plan::Source::Container)), enter a network namespace that
/// is made beside it ([`Source::Network`](pidone_plan::Source::Network)), or hand over the listener of
/// a seccomp filter.
pub struct Launcher<'a> {
    plan: &'a Plan,
    options: Options,
    namespaces: u32,
    users: Vec<IdMap>,
    groups: Vec<IdMap>,
    stdio: [Stdio; 3],
    extra: Vec<OwnedFd>,
    lent: Vec<BorrowedFd<'a>>,
    at_barrier: Option<AtBarrier<'a>>,
}

impl<'a> Launcher<'a> {
    /// A launch in the caller's namespaces, with the caller's stdio and the embedded image.
    #[must_use]
    pub fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            options: Options::default(),
            namespaces: 0,
            users: Vec::new(),
            groups: Vec::new(),
            stdio: [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit],
            extra: Vec::new(),
            lent: Vec::new(),
            at_barrier: None,
        }
    }

    /// The namespaces that are new for the process, but for user and time namespaces: these are
    /// [`Launcher::user_namespace`], and [`Op::Unshare`] in the plan.
    #[must_use]
    pub fn namespaces(mut self, kinds: impl IntoIterator<Item = NamespaceType>) -> Self {
        self.namespaces |= kinds.into_iter().fold(0, |flags, kind| flags | kind.clone_flag());
        self
    }

    /// A new user namespace with these ids: `user_namespaces(7)`.
    ///
    /// An ordinary user may map the own ids only; more is asked of `newuidmap(1)` and
    /// `newgidmap(1)`. The plan should begin with [`Op::Ids`], since the init has no id until then.
    #[must_use]
    pub fn user_namespace(mut self, users: Vec<IdMap>, groups: Vec<IdMap>) -> Self {
        self.namespaces |= NamespaceType::User.clone_flag();
        self.users = users;
        self.groups = groups;
        self
    }

    /// Standard input, output and error.
    #[must_use]
    pub fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.stdio = [stdin, stdout, stderr];
        self
    }

    /// Descriptors from 3 up. The program keeps as many as [`Op::Exec`] says.
    #[must_use]
    pub fn extra_files(mut self, files: Vec<OwnedFd>) -> Self {
        self.extra = files;
        self
    }

    /// What [`Source::Lent`](pidone_plan::Source::Lent) stands for: descriptors that the init gets
    /// for its operations, and the program does not.
    #[must_use]
    pub fn lend(mut self, descriptors: Vec<BorrowedFd<'a>>) -> Self {
        self.lent = descriptors;
        self
    }

    /// What is done at each [`Op::Barrier`], with its number and the process id in the caller's pid
    /// namespace. An error ends the launch. Without it, the init goes on at once.
    #[must_use]
    pub fn at_barrier(mut self, act: impl FnMut(u32, i32) -> Result<()> + 'a) -> Self {
        self.at_barrier = Some(Box::new(act));
        self
    }

    /// Another image than the embedded one.
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.options = self.options.image(image);
        self
    }

    /// How long nothing may be heard of the init; 60 s if nothing is said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// Launches the plan; returns when the program runs.
    ///
    /// The calling thread stands still meanwhile, a millisecond or so. If the plan has an
    /// [`Op::ParentDeath`], the clone comes from a thread that lives as long as the program.
    ///
    /// # Errors
    /// [`Code::SystemError`](pidone_config::Code::SystemError) with the call of the host or the operation of
    /// the plan that failed; [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) for namespaces that
    /// cannot be had this way.
    pub fn launch(mut self) -> Result<Running> {
        let forks = self.plan.operations().any(|op| matches!(op, Op::Fork { .. }));
        self.check(forks)?;
        let dies = self.plan.operations().any(|op| matches!(op, Op::ParentDeath { .. }));
        let sealed = self.options.image.as_ref().map(Sealed::new).transpose()?;
        let [stdin, stdout, stderr] = &self.stdio;
        let descriptors = Descriptors::from_stdio([stdin, stdout, stderr], &self.extra)?;
        let mut hosting = HostSide {
            maps: (!self.users.is_empty())
                .then_some(Maps { users: &self.users, groups: &self.groups }),
            at_barrier: self.at_barrier.take(),
        };
        let started = Launch {
            plan: self.plan,
            image: image(sealed.as_ref(), &self.options, false)?,
            place: if dies { Place::Thread } else { Place::Caller },
            namespaces: self.namespaces,
            forks,
            descriptors: &descriptors.all(),
            cgroup: &Entrance::default(),
            lent: Lent { others: &self.lent, ..Lent::default() },
            early: if self.users.is_empty() { usize::MAX } else { 0 },
            timeout: self.options.timeout,
        }
        .start(&mut hosting)
        .map_err(privilege::explain)?;
        Ok(Running::from_started(started, descriptors))
    }

    /// Refuses namespaces that would not be what was asked for.
    fn check(&self, forks: bool) -> Result<()> {
        let has = |kind: NamespaceType| self.namespaces & kind.clone_flag() != 0;
        let reason = if has(NamespaceType::Time) {
            "a time namespace is entered by exec: the plan must unshare it"
        } else if has(NamespaceType::User) && (self.users.is_empty() || self.groups.is_empty()) {
            "a user namespace needs ids"
        } else if forks && self.namespaces != 0 {
            "the fork in the plan makes the namespaces"
        } else {
            return Ok(());
        };
        Err(Error::config("namespaces", "", reason))
    }
}

impl fmt::Debug for Launcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher")
            .field("plan", self.plan)
            .field("namespaces", &self.namespaces)
            .field("stdio", &self.stdio)
            .finish_non_exhaustive()
    }
}

/// What the host does while a plan of the caller's own runs.
struct HostSide<'a> {
    maps: Option<Maps<'a>>,
    at_barrier: Option<AtBarrier<'a>>,
}

impl Host for HostSide<'_> {
    fn on_cloned(&mut self, child: &Child) -> Result<()> {
        self.maps.map_or(Ok(()), |maps| maps.write(child.pid))
    }

    fn while_running(&mut self, _: &Child) -> Result<()> {
        Ok(())
    }

    fn at_barrier(&mut self, id: u32, child: &Child) -> Result<()> {
        self.at_barrier.as_mut().map_or(Ok(()), |act| act(id, child.pid))
    }

    fn listener(&mut self, _: OwnedFd, _: &Child) -> Result<()> {
        Err(Error::config("seccomp", "NEW_LISTENER", "a launch has nobody to give the listener to"))
    }
}

#[cfg(test)]
mod tests {
    use pidone_proto::Op;

    use super::*;

    fn refused(plan: &Plan, ask: impl Fn(Launcher<'_>) -> Launcher<'_>) -> String {
        ask(Launcher::new(plan)).launch().unwrap_err().to_string()
    }

    #[test]
    fn namespaces_that_cannot_be_had_are_refused() {
        let mut plan = Plan::default();
        let time = refused(&plan, |launcher| launcher.namespaces([NamespaceType::Time]));
        assert!(time.contains("the plan must unshare it"), "{time}");
        let user = refused(&plan, |launcher| launcher.namespaces([NamespaceType::User]));
        assert!(user.contains("needs ids"), "{user}");
        plan.push(Op::Fork { flags: 0 });
        let fork = refused(&plan, |launcher| launcher.namespaces([NamespaceType::Pid]));
        assert!(fork.contains("the fork in the plan"), "{fork}");
    }

    #[test]
    fn an_error_at_a_barrier_ends_the_launch() {
        let mut plan = Plan::default();
        plan.push(Op::Barrier { id: 7 });
        let mut told = Vec::new();
        let launcher = Launcher::new(&plan).at_barrier(|id, pid| {
            told.push((id, std::path::Path::new(&format!("/proc/{pid}")).exists()));
            Err(Error::config("test", id, "enough"))
        });
        assert!(launcher.launch().unwrap_err().to_string().ends_with("enough"));
        assert_eq!(told, [(7, true)]);
    }

    #[test]
    fn an_operation_that_fails_is_named() {
        let mut plan = Plan::default();
        let slot = plan.source(pidone_plan::Source::Lent(0));
        plan.push(Op::Close { slot });
        let null = pidone_host::descriptor::null().unwrap();
        let error = Launcher::new(&plan).launch().unwrap_err();
        assert_eq!(error.to_string(), "lend `descriptor 0`: Bad file descriptor");
        plan.push(Op::Chroot { directory: slot });
        let lent = Launcher::new(&plan).lend(vec![std::os::fd::AsFd::as_fd(&null)]);
        let error = lent.launch().unwrap_err().to_string();
        assert!(error.contains("(step 2 of 2)"), "{error}");
    }
}
