//! The OCI hooks of a container, which run on the host or in the container's namespaces.

pub(crate) mod mount_command;
mod program;
mod run;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use pidone_config::config::{Hook, NamespaceType};
use pidone_config::oci::{State, Status};
use pidone_config::{Config, Error, Result};
use pidone_host::cgroup::Cgroups;
use pidone_host::proc;
use pidone_plan::join::Joined;
use pidone_plan::{self as plan, Plan};
use pidone_proto::Op;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::container::exec::join::{JoinHostSide, different_namespaces};
use crate::container::hook::program::{WatchedChild, input_file};
use crate::launch::image::Sealed;
use crate::launch::options::{Options, image};
use crate::launch::seccomp_agent::hand_over;
use crate::launch::{Child, Launch, Lent, Place};
use crate::trace;

/// What the hooks of a container need to know about it.
pub(crate) struct Hooks<'a> {
    pub(crate) config: &'a Config,
    pub(crate) id: &'a str,
    pub(crate) options: &'a Options,
    pub(crate) image: Option<&'a Sealed>,
    pub(crate) cgroups: Option<&'a Cgroups>,
}

impl Hooks<'_> {
    /// Runs the `prestart`, `createRuntime` and `createContainer` hooks. The root has been set up,
    /// and the init has not entered it yet.
    ///
    /// `plan` is that of the container, and `env` the environment of its program.
    pub(crate) fn create(&self, child: &Child, plan: &Plan, env: &[OsString]) -> Result<()> {
        let hooks = &self.config.hooks;
        let state = self.state(Status::Creating, child.pid)?;
        self.run_on_host(&hooks.prestart, "prestart", &state)?;
        self.run_on_host(&hooks.create_runtime, "createRuntime", &state)?;
        if hooks.create_container.is_empty() {
            return Ok(());
        }
        let state = self.state(Status::Creating, proc::innermost_pid(child.pid)?)?;
        // A root that is made of a tmpfs is not mounted where the configuration says.
        let mounted = plan.operations().find_map(|op| match op {
            Op::Root { at, .. } => Some(OsStr::from_bytes(at.as_c_str().to_bytes()).to_owned()),
            _ => None,
        });
        let root = match (mounted, self.config.namespace(NamespaceType::Mount)) {
            (Some(at), _) => at.into(),
            // The root is that of the namespace.
            (None, Some(_)) => PathBuf::from("/"),
            (None, None) => self.config.rootfs.clone(),
        };
        self.run_inside(
            &hooks.create_container,
            "createContainer",
            &state,
            child,
            |hook, joined| plan::join::create_hook(self.config, hook, joined, &root, env),
        )
    }

    /// Runs the `startContainer` hooks, just before the program is executed.
    ///
    /// `first` is the plan of the program: the hooks run with the same privileges.
    pub(crate) fn start(&self, child: &Child, first: &Plan) -> Result<()> {
        let state = self.state(Status::Created, proc::innermost_pid(child.pid)?)?;
        let hooks = &self.config.hooks.start_container;
        self.run_inside(hooks, "startContainer", &state, child, |hook, joined| {
            plan::join::start_hook(self.config, hook, joined, first)
        })
    }

    /// Runs the `poststart` hooks, after the program has been executed.
    pub(crate) fn poststart(&self, pid: i32) -> Result<()> {
        let hooks = &self.config.hooks.poststart;
        if hooks.is_empty() {
            return Ok(());
        }
        self.run_on_host(hooks, "poststart", &self.state(Status::Running, pid)?)
    }

    /// Runs all `poststop` hooks, after the container has been removed. Returns their errors.
    pub(crate) fn poststop(&self) -> Vec<Error> {
        let hooks = &self.config.hooks.poststop;
        if hooks.is_empty() {
            return Vec::new();
        }
        match self.state(Status::Stopped, 0) {
            Ok(state) => run::run_all(hooks, "poststop", &state, &self.config.bundle),
            Err(error) => vec![error],
        }
    }

    /// Runs hooks on the host in order, until one fails.
    fn run_on_host(&self, hooks: &[Hook], place: &'static str, state: &[u8]) -> Result<()> {
        run::run_until_failure(hooks, place, state, &self.config.bundle)
    }

    /// Runs hooks in the namespaces of a process in order, until one fails.
    fn run_inside(
        &self,
        hooks: &[Hook],
        place: &'static str,
        state: &[u8],
        container: &Child,
        plan: impl Fn(&Hook, &Joined) -> Result<Plan>,
    ) -> Result<()> {
        let joined = self.joined(container.pid)?;
        for (index, hook) in hooks.iter().enumerate() {
            let name = run::hook_name(hook, place, index);
            let run = || {
                let child = plan(hook, &joined)
                    .and_then(|plan| self.launch_hook(&plan, container.pidfd.as_fd(), state))
                    .map_err(|error| {
                        Error::reason(error.code(), "hook", &name, error.to_string())
                    })?;
                child.finish("hook", &name, run::hook_timeout(hook))
            };
            trace::span_of("run a hook", || name.clone(), run)?;
        }
        Ok(())
    }

    /// Launches a hook by its plan, with `state` as its standard input.
    fn launch_hook(
        &self,
        plan: &Plan,
        container: BorrowedFd<'_>,
        state: &[u8],
    ) -> Result<WatchedChild> {
        let input = input_file(state)?;
        let (stderr, theirs) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::system("pipe", "", errno))?;
        let null = pidone_host::descriptor::open_null()?;
        let entrance = self.cgroups.map(Cgroups::entrance).transpose()?.unwrap_or_default();
        let started = Launch {
            plan,
            rest: None,
            image: image(self.image, self.options, false)?,
            place: Place::Caller,
            namespaces: 0,
            forks: true,
            descriptors: &[input.as_fd(), null.as_fd(), theirs.as_fd()],
            closed: &BTreeSet::new(),
            cgroup: &entrance,
            lent: Lent { container: Some(container), ..Lent::default() },
            early: usize::MAX,
            timeout: self.options.timeout,
        }
        .start(&mut JoinHostSide(None))?;
        let group = Pid::from_raw(started.child.pid)
            .ok_or_else(|| Error::system("setsid", "", Errno::SRCH))?;
        Ok(WatchedChild { pidfd: started.child.pidfd, group, stderr: Some(stderr) })
    }

    /// Returns the name of the container's session keyring, if the configuration wants a new one.
    pub(crate) fn keyring(&self) -> Option<String> {
        self.config.new_keyring.then(|| format!("_ses.{}", self.id))
    }

    /// Returns what a process has to join, judged by the container's first process.
    pub(crate) fn joined(&self, pid: i32) -> Result<Joined> {
        let flags = different_namespaces(self.config, pid)?;
        let entered = !self.config.has_new(NamespaceType::Time)
            || flags & NamespaceType::Time.clone_flag() != 0;
        Ok(Joined {
            flags,
            clocks: (!entered).then(|| format!("/proc/{pid}/ns/time_for_children").into()),
            keyring: self.keyring(),
        })
    }

    /// Encodes the state object that hooks read.
    pub(crate) fn state(&self, status: Status, pid: i32) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.state_object(status, pid))
            .map_err(|_| Error::system("encode", "state", Errno::INVAL))
    }

    /// Returns the state object: OCI runtime specification, "State".
    pub(crate) fn state_object(&self, status: Status, pid: i32) -> State {
        let Config { bundle, annotations, .. } = self.config;
        let pid = (status != Status::Stopped).then_some(pid);
        State::new(self.id, status, pid, &bundle.to_string_lossy(), annotations)
    }

    /// Hands the listener of a process's seccomp filter to the configured agent.
    pub(crate) fn hand_over_listener(
        &self,
        listener: BorrowedFd<'_>,
        pid: i32,
        state: State,
    ) -> Result<()> {
        let Some(profile) = &self.config.seccomp_profile else {
            return Err(Error::system("seccomp listener", "", Errno::INVAL));
        };
        hand_over(listener, profile, pid, &state)
    }
}
