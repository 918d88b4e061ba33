//! The operations that turn the init into the program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use pidone_config::config::{MemoryPolicy, process as numbers};
use pidone_config::seccomp::flag;
use pidone_config::{Config, Error, Result};
use pidone_proto::{Op, Slot, Text, Words};

use super::barrier::{BARRIER_CONSOLE, BARRIER_START};
use super::{Plan, Source, strings, text, view};

/// A process with all names resolved to numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// The arguments, the program first.
    pub args: Vec<OsString>,
    /// The environment, as `NAME=value`.
    pub env: Vec<OsString>,
    /// The working directory.
    pub cwd: String,
    /// Whether the working directory is created if it is missing.
    pub make_cwd: bool,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The supplementary groups; `None` leaves them unchanged, where a user namespace forbids
    /// `setgroups(2)`.
    pub groups: Option<Vec<u32>>,
    /// The capability sets.
    pub capabilities: Capabilities,
    /// The capability by which root enters directories that the user may not, as a mask.
    pub search: u64,
    /// The resource limits, as `(resource, soft, hard)`.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// A new terminal of the container's devpts.
    pub terminal: Option<Terminal>,
    /// The number of descriptors from 3 up that the program gets.
    pub preserved: u32,
    /// Whether exec grants no privileges: `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// The flags of a seccomp filter, and its program.
    pub seccomp: Option<(u32, Vec<u8>)>,
    /// The file mode creation mask.
    pub umask: u32,
    /// The signal that the process gets when the thread that started it ends; 0 for none.
    pub parent_death_signal: u32,
    /// The `struct sched_attr` of `sched_setattr(2)`.
    pub scheduler: Option<Vec<u8>>,
    /// The value for `ioprio_set(2)`.
    pub io_priority: Option<u32>,
    /// The processors that the process may use, as masks: until it is in its cgroup, and from then
    /// on.
    pub affinity: [Option<Vec<u8>>; 2],
    /// The labels of security modules: a file below `/proc/self/attr`, and its content.
    pub labels: Vec<(&'static str, String)>,
}

/// The capability sets, as masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The bounding set.
    pub bounding: u64,
    /// The effective set.
    pub effective: u64,
    /// The permitted set.
    pub permitted: u64,
    /// The inheritable set.
    pub inheritable: u64,
    /// The ambient set.
    pub ambient: u64,
}

/// The size of a new terminal. With 0 rows and columns the size is not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terminal {
    /// The height in characters.
    pub rows: u16,
    /// The width in characters.
    pub columns: u16,
    /// Whether the terminal is also bound to `/dev/console`.
    pub console: bool,
    /// Whether the host has to set the modes of the terminal, so that line feeds stay as they are.
    pub keep_newlines: bool,
}

/// The search path if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `CAP_SYS_ADMIN`, which loads a seccomp filter without `no_new_privs`.
const SYS_ADMIN: u64 = 1 << 21;

/// The longest argument that Linux accepts, in bytes with the NUL: `MAX_ARG_STRLEN`.
const ARGUMENT: usize = 128 * 1024;

/// The most bytes of arguments and environment that Linux accepts. The limit is a quarter of the
/// stack's limit, and at most three quarters of 8 MiB: execve(2), "Limits on size of arguments and
/// environment".
const ARGUMENTS: usize = 6 * 1024 * 1024;

/// What an init waits for before it executes the program.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wait {
    /// Whether it waits for the start of the container.
    pub(super) for_start: bool,
    /// The barrier at which the host runs hooks.
    pub(super) for_hooks: Option<u32>,
    /// The barrier at which the host sets the modes of a new terminal, if the process needs that.
    pub(super) for_modes: Option<u32>,
    /// Whether a filter with a listener is loaded before the wait for the start: the host has a
    /// connection to the init only until then.
    pub(super) listens_before: bool,
}

impl Wait {
    /// Returns the waits of a process that the host starts itself.
    pub(super) fn of(config: &Config, for_start: bool) -> Self {
        let hooks = !config.hooks.start_container.is_empty();
        let for_hooks = hooks.then_some(BARRIER_START);
        let for_modes = Some(BARRIER_CONSOLE);
        Self { for_start, for_hooks, for_modes, listens_before: false }
    }
}

/// The part of a process's setup that an init has done before it knew its program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Whether it leads a session.
    pub(super) session: bool,
    /// Its bounding set, if it was reduced.
    pub(super) bounding: Option<u64>,
    /// Whether the seccomp filter is loaded.
    pub(super) filter: bool,
    /// Whether its working directory is the root.
    pub(super) root: bool,
    /// Whether its ids, its groups and its parent-death signal are set.
    pub(super) user: bool,
    /// Whether its file mode creation mask is set.
    pub(super) umask: bool,
    /// Whether `no_new_privs` is set.
    pub(super) no_new_privileges: bool,
}

impl Process {
    /// Appends the operations of the process, up to exec. Those that `done` has are left out.
    ///
    /// The kernel determines the order: limits and scheduling while they may be raised; the
    /// bounding set while `CAP_SETPCAP` is left; the supplementary groups before the group before
    /// the user; the parent-death signal after these, since they clear it; the capabilities last,
    /// which clears nothing as long as they only become fewer.
    ///
    /// A seccomp filter comes as late as possible, since the init needs system calls that profiles
    /// refuse: without `no_new_privs` right before the capabilities, which are then all that is
    /// left to do, and otherwise right before exec.
    ///
    /// The working directory is entered as the user, but with root's access to directories: what
    /// either of them may enter can be one.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] for what `execve(2)` would refuse, and for a NUL
    /// byte.
    pub(super) fn compile(
        &self,
        plan: &mut Plan,
        config: &Config,
        wait: Wait,
        done: Done,
    ) -> Result<()> {
        self.check()?;
        self.prepare(plan, config, wait, done);
        let mut seccomp = self.seccomp.as_ref().filter(|_| !done.filter);
        let listens = |(flags, _): &mut &(u32, _)| flags & flag::NEW_LISTENER != 0;
        // As in runc, the agent gets the listener during `create`.
        if wait.for_start
            && wait.listens_before
            && let Some((flags, filter)) = seccomp.take_if(listens)
        {
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
        let candidates = self.candidates();
        // Under a filter, every try is a call that the filter or its agent sees.
        if wait.for_start || (seccomp.is_some() && candidates.len() > 1) {
            // The working directory is entered later.
            let absolute = candidates.iter().map(|path| match path.as_bytes() {
                [b'/', ..] => path.clone(),
                _ => [OsStr::new(&self.cwd), OsStr::new("/"), path].into_iter().collect(),
            });
            plan.push(Op::FindProgram { candidates: view(&strings("args", absolute)?) });
        }
        if wait.for_start {
            let listener = plan.source(Source::Listener);
            plan.push(Op::AwaitStart { listener });
        }
        if let Some(id) = wait.for_hooks {
            plan.push(Op::Barrier { id });
        }
        if done.bounding != Some(self.capabilities.bounding) {
            plan.push(Op::Bounding { keep: self.capabilities.bounding });
        }
        let early = seccomp.filter(|_| !self.no_new_privileges);
        let directory = !(done.root && self.cwd == "/");
        if !done.user {
            self.become_user(plan);
        }
        let Capabilities { effective, permitted, inheritable, ambient, .. } = self.capabilities;
        // A user other than root is left with no effective capability.
        let needed =
            if directory { self.search } else { 0 } | if early.is_some() { SYS_ADMIN } else { 0 };
        if self.uid != 0 && needed != 0 {
            let permitted = permitted | needed;
            plan.push(Op::Capabilities { effective: needed, permitted, inheritable, ambient: 0 });
        }
        if !done.umask {
            plan.push(Op::Umask { mask: self.umask });
        }
        if directory {
            let cwd = text("cwd", &self.cwd)?;
            plan.push(Op::ChangeDirectory { path: Text(&cwd) });
        }
        if !done.user {
            self.end_with_parent(plan);
        }
        if let Some((flags, filter)) = early {
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
        plan.push(Op::Capabilities { effective, permitted, inheritable, ambient });
        if self.no_new_privileges && !done.no_new_privileges {
            plan.push(Op::NoNewPrivileges);
        }
        let last = seccomp.filter(|_| self.no_new_privileges);
        let (filter_flags, filter) =
            last.map_or((0, &[][..]), |(flags, filter)| (*flags, filter.as_slice()));
        plan.push(Op::Exec {
            candidates: view(&strings("args", candidates)?),
            arguments: view(&strings("args", &self.args)?),
            environment: view(&strings("env", &self.env)?),
            preserved: self.preserved,
            filter_flags,
            filter,
        });
        Ok(())
    }

    /// Appends the operations that set the supplementary groups, the group and the user.
    pub(super) fn become_user(&self, plan: &mut Plan) {
        if let Some(groups) = &self.groups {
            let ids: Vec<u8> = groups.iter().flat_map(|id| id.to_le_bytes()).collect();
            plan.push(Op::Groups { ids: Words::new(&ids).expect("four bytes each") });
        }
        plan.push(Op::Ids { uid: self.uid, gid: self.gid });
    }

    /// Appends the operation that sets the parent-death signal, if there is one.
    pub(super) fn end_with_parent(&self, plan: &mut Plan) {
        if self.parent_death_signal != 0 {
            plan.push(Op::ParentDeath { signal: self.parent_death_signal });
        }
    }

    /// Appends the operations that write the labels through a proc that only the init sees.
    pub(super) fn labels(&self, plan: &mut Plan, proc: Slot) -> Result<()> {
        for (attribute, value) in &self.labels {
            let attribute = text("label", attribute)?;
            let value = text("label", value)?;
            plan.push(Op::Label { proc, attribute: Text(&attribute), value: Text(&value) });
        }
        Ok(())
    }

    /// Appends limits, scheduling, and the session with its terminal.
    fn prepare(&self, plan: &mut Plan, config: &Config, wait: Wait, done: Done) {
        for &(resource, soft, hard) in &self.rlimits {
            plan.push(Op::Rlimit { resource, soft, hard });
        }
        if let Some(attributes) = &self.scheduler {
            plan.push(Op::Scheduler { attributes });
        }
        if let Some(value) = self.io_priority {
            plan.push(Op::IoPriority { value });
        }
        if let [_, Some(mask)] = &self.affinity {
            plan.push(Op::Affinity { mask });
        }
        if let Some(MemoryPolicy { mode, nodes }) = &config.memory_policy {
            let words = numbers::bits(nodes);
            let nodes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            plan.push(Op::MemoryPolicy { mode: *mode, nodes: &nodes });
        }
        if let Some(persona) = config.personality {
            plan.push(Op::Personality { persona });
        }
        match self.terminal {
            Some(Terminal { rows, columns, console, keep_newlines }) => {
                plan.push(Op::Console { rows, columns, uid: self.uid, bind: console });
                if let Some(id) = wait.for_modes.filter(|_| keep_newlines) {
                    plan.push(Op::Barrier { id });
                }
            }
            None if done.session => {}
            None => plan.push(Op::Session),
        }
    }

    /// Refuses what the kernel would refuse at exec, so that no process is started for it.
    fn check(&self) -> Result<()> {
        if self.args.first().is_none_or(|program| program.is_empty()) {
            return Err(Error::config("args", "", "no program"));
        }
        let all = self.args.iter().map(|arg| ("args", arg));
        let all = all.chain(self.env.iter().map(|var| ("env", var)));
        let mut total = 0;
        for (field, string) in all {
            if string.len() >= ARGUMENT {
                let start = string.to_string_lossy().chars().take(20).collect::<String>();
                let value = format!("{start}...");
                return Err(Error::config(field, value, "longer than 131071 bytes"));
            }
            total += string.len() + 1 + size_of::<usize>();
        }
        if total > ARGUMENTS {
            let size = format!("{total} bytes");
            return Err(Error::config("args and env", size, "larger than 6291456 bytes together"));
        }
        let name_ends = |var: &OsString| var.as_bytes().iter().position(|byte| *byte == b'=');
        match self.env.iter().find(|var| name_ends(var).is_none_or(|at| at == 0)) {
            Some(var) => {
                Err(Error::config("env", var.to_string_lossy(), "not of the form NAME=value"))
            }
            None => Ok(()),
        }
    }

    /// Returns the paths to try: the program itself if it has a slash, else one in each directory
    /// of the `PATH` in the process's own environment.
    fn candidates(&self) -> Vec<OsString> {
        let program = self.args.first().map_or(&b""[..], |program| program.as_bytes());
        if program.contains(&b'/') {
            return vec![OsStr::from_bytes(program).to_owned()];
        }
        let path = self.env.iter().rev().find_map(|var| var.as_bytes().strip_prefix(b"PATH="));
        let directories = path.unwrap_or(DEFAULT_PATH.as_bytes()).split(|byte| *byte == b':');
        directories
            .map(|directory| {
                let slashes = directory.iter().rev().take_while(|byte| **byte == b'/').count();
                let directory = match directory {
                    b"" => b".",
                    _ => directory.get(..directory.len() - slashes).unwrap_or_default(),
                };
                OsString::from_vec([directory, b"/", program].concat())
            })
            .collect()
    }
}
