//! Launches a plan without a container.

use std::collections::BTreeSet;
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

/// The function that is called when the init waits at an [`Op::Barrier`], with the id of the
/// barrier and the id of the process.
type AtBarrier<'a> = Box<dyn FnMut(u32, i32) -> Result<()> + 'a>;

/// Launches a [`Plan`] that was compiled, or built operation by operation.
///
/// It clones the init with new namespaces, writes the id maps of a user namespace, sends the plan
/// with its files, handles barriers, and returns the running process. A failed launch leaves no
/// process behind.
///
/// ```no_run
/// use pidone::config::NamespaceType;
/// use pidone::plan::Plan;
/// use pidone::{Launcher, Stdio};
/// use pidone_proto::{Op, Strings, Text};
///
/// # fn main() -> pidone::Result<()> {
/// let strings = |bytes| Strings::new(bytes).expect("each string ends in NUL");
/// let mut plan = Plan::default();
/// plan.push(Op::HostName { name: Text(c"box") });
/// plan.push(Op::Exec {
///     candidates: strings(b"/bin/hostname\0"),
///     arguments: strings(b"hostname\0"),
///     environment: strings(b""),
///     preserved: 0,
///     filter_flags: 0,
///     filter: &[],
/// });
/// let mut running = Launcher::new(&plan)
///     .namespaces([NamespaceType::Uts, NamespaceType::Pid])
///     .stdio(Stdio::Null, Stdio::Inherit, Stdio::Inherit)
///     .launch()?;
/// println!("status {}", running.wait()?.status());
/// # Ok(())
/// # }
/// ```
///
/// The process is not a container: the plan is not validated, no cgroup is created or joined, no
/// interface is set up, no hook runs, and no state or journal is written. Only the value that
/// [`Launcher::launch`] returns refers to the process, and only the processes in its pid namespace
/// are killed with it. A plan cannot wait for a start ([`Op::AwaitStart`]), supervise
/// ([`Op::Supervise`]), join a container ([`Source::Container`](pidone_plan::Source::Container)),
/// enter a network namespace that is created in parallel
/// ([`Source::Network`](pidone_plan::Source::Network)), or send the notification descriptor of a
/// seccomp filter.
pub struct Launcher<'a> {
    plan: &'a Plan,
    options: Options,
    /// The `CLONE_NEW*` flags of the clone.
    namespaces: u32,
    users: Vec<IdMap>,
    groups: Vec<IdMap>,
    stdio: [Stdio; 3],
    extra: Vec<OwnedFd>,
    lent: Vec<BorrowedFd<'a>>,
    at_barrier: Option<AtBarrier<'a>>,
}

impl<'a> Launcher<'a> {
    /// Returns a launcher that uses the caller's namespaces, the caller's stdio and the embedded
    /// image.
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

    /// Adds new namespaces for the process. A user namespace is added by
    /// [`Launcher::user_namespace`], and a time namespace by [`Op::Unshare`] in the plan.
    #[must_use]
    pub fn namespaces(mut self, kinds: impl IntoIterator<Item = NamespaceType>) -> Self {
        self.namespaces |= kinds.into_iter().fold(0, |flags, kind| flags | kind.clone_flag());
        self
    }

    /// Adds a new user namespace with these id maps: `user_namespaces(7)`.
    ///
    /// An ordinary user may map only its own ids; larger maps are written by `newuidmap(1)` and
    /// `newgidmap(1)`. The plan should begin with [`Op::Ids`], since the ids of the init are
    /// unmapped until then.
    #[must_use]
    pub fn user_namespace(mut self, users: Vec<IdMap>, groups: Vec<IdMap>) -> Self {
        self.namespaces |= NamespaceType::User.clone_flag();
        self.users = users;
        self.groups = groups;
        self
    }

    /// Sets standard input, output and error.
    #[must_use]
    pub fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.stdio = [stdin, stdout, stderr];
        self
    }

    /// Sets the descriptors from 3 up. The program keeps as many as `preserved` of [`Op::Exec`]
    /// says.
    #[must_use]
    pub fn extra_files(mut self, files: Vec<OwnedFd>) -> Self {
        self.extra = files;
        self
    }

    /// Sets the descriptors that [`Source::Lent`](pidone_plan::Source::Lent) refers to by index.
    /// The init gets them for its operations, the program does not.
    #[must_use]
    pub fn lend(mut self, descriptors: Vec<BorrowedFd<'a>>) -> Self {
        self.lent = descriptors;
        self
    }

    /// Sets a function that is called at each [`Op::Barrier`], with the id of the barrier and the
    /// process id in the caller's pid namespace. The init continues when it returns. An error ends
    /// the launch. Without a function, the init continues immediately.
    #[must_use]
    pub fn at_barrier(mut self, function: impl FnMut(u32, i32) -> Result<()> + 'a) -> Self {
        self.at_barrier = Some(Box::new(function));
        self
    }

    /// Sets the image of the init, instead of the embedded one.
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.options = self.options.image(image);
        self
    }

    /// Sets how long the launch waits for the next report of the init. The default is 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// Launches the plan. Returns when the program runs, after about a millisecond.
    ///
    /// If the plan has an [`Op::ParentDeath`], the process is cloned by a thread that lives as long
    /// as the calling process.
    ///
    /// # Errors
    /// [`Code::SystemError`](pidone_config::Code::SystemError) with the call of the host or the
    /// operation of the plan that failed;
    /// [`Code::ConfigInvalid`](pidone_config::Code::ConfigInvalid) for namespaces that a launch
    /// cannot create.
    pub fn launch(mut self) -> Result<Running> {
        let forks = self.plan.operations().any(|op| matches!(op, Op::Fork { .. }));
        self.check(forks)?;
        let parent_death = self.plan.operations().any(|op| matches!(op, Op::ParentDeath { .. }));
        let sealed = self.options.image.as_ref().map(Sealed::new).transpose()?;
        let [stdin, stdout, stderr] = &self.stdio;
        let descriptors = Descriptors::from_stdio([stdin, stdout, stderr], &self.extra)?;
        let mut host = HostSide {
            maps: (!self.users.is_empty())
                .then_some(Maps { users: &self.users, groups: &self.groups }),
            at_barrier: self.at_barrier.take(),
        };
        let started = Launch {
            plan: self.plan,
            rest: None,
            image: image(sealed.as_ref(), &self.options, false)?,
            place: if parent_death { Place::Thread } else { Place::Caller },
            namespaces: self.namespaces,
            forks,
            descriptors: &descriptors.all(),
            closed: &BTreeSet::new(),
            cgroup: &Entrance::default(),
            lent: Lent { others: &self.lent, ..Lent::default() },
            early: if self.users.is_empty() { usize::MAX } else { 0 },
            timeout: self.options.timeout,
        }
        .start(&mut host)
        .map_err(privilege::explain)?;
        Ok(Running::from_started(started, descriptors))
    }

    /// Refuses namespaces that the launch would not create as requested.
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

/// The host's part of a launch.
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
        self.at_barrier.as_mut().map_or(Ok(()), |function| function(id, child.pid))
    }

    fn listener(&mut self, _: OwnedFd, _: &Child) -> Result<()> {
        Err(Error::config("seccomp", "NEW_LISTENER", "a launch has nobody to give the listener to"))
    }
}

#[cfg(test)]
mod tests {
    use pidone_proto::Op;

    use super::*;

    /// Launches a plan and returns the error.
    fn refused(plan: &Plan, set_up: impl Fn(Launcher<'_>) -> Launcher<'_>) -> String {
        set_up(Launcher::new(plan)).launch().unwrap_err().to_string()
    }

    #[test]
    fn namespaces_that_a_launch_cannot_create_are_refused() {
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
        let mut calls = Vec::new();
        let launcher = Launcher::new(&plan).at_barrier(|id, pid| {
            calls.push((id, std::path::Path::new(&format!("/proc/{pid}")).exists()));
            Err(Error::config("test", id, "enough"))
        });
        assert!(launcher.launch().unwrap_err().to_string().ends_with("enough"));
        assert_eq!(calls, [(7, true)]);
    }

    #[test]
    fn the_error_has_the_descriptor_or_the_operation_that_failed() {
        let mut plan = Plan::default();
        let slot = plan.source(pidone_plan::Source::Lent(0));
        plan.push(Op::Close { slot });
        let null = pidone_host::descriptor::open_null().unwrap();
        let error = Launcher::new(&plan).launch().unwrap_err();
        assert_eq!(error.to_string(), "lend `descriptor 0`: Bad file descriptor");
        plan.push(Op::Chroot { directory: slot });
        let lent = Launcher::new(&plan).lend(vec![std::os::fd::AsFd::as_fd(&null)]);
        let error = lent.launch().unwrap_err().to_string();
        assert!(error.contains("(step 2 of 2)"), "{error}");
    }
}
