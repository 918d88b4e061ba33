//! The plan of a process that the init of a container starts, where that one stays process 1.

use pidone_proto::{Op, Slot};
use serde::{Deserialize, Serialize};

use super::container::BARRIER_START;
use super::parked::{allows_the_init, is_plain};
use super::process::{Done, Wait};
use super::{PROC, Plan, Process, Source, mount};
use crate::config::{Config, capability};
use crate::error::{Error, Result};
use crate::seccomp::{always_allows, always_allows_with, flag};

/// What comes along with the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spawn {
    /// Descriptors for the program: the first that are [lent](Source::Lent).
    pub descriptors: usize,
    /// Files of cgroups to be written to, the lent ones behind.
    pub cgroups: usize,
    /// Whether it is the container's first program and waits for the start.
    pub waits: bool,
    /// What the init has given up.
    pub given_up: GivenUp,
}

/// What an init that stays has given up when it begins to serve, and with it all that it starts:
/// they need not do it one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GivenUp {
    /// What is left of its bounding set of capabilities, as a mask; nothing if all is.
    pub bounding: Option<u64>,
    /// Whether it is under the seccomp filter.
    pub filter: Filtered,
}

/// Under which filter an init is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Filtered {
    /// Under none.
    #[default]
    No,
    /// Under that of the configuration.
    AsConfigured,
    /// Under that of a configuration which was changed since.
    Otherwise,
}

/// System calls that an init makes while it serves, beside those of what it starts. Clone is looked
/// at by its flags: profiles refuse those that make namespaces.
const CALLS: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_clock_gettime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_getpid,
    libc::SYS_ioctl,
    libc::SYS_kill,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_rt_sigprocmask,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_wait4,
    libc::SYS_write,
];

/// The flags of the init's clone: `CLONE_VM`, `CLONE_PIDFD`, and `SIGCHLD`.
const CLONE_FLAGS: u32 = 0x1100 | 17;

impl GivenUp {
    /// What an init can give up for the processes of a configuration, of which this is the first.
    pub(crate) fn of(config: &Config, first: &Process) -> Result<Self> {
        // A hook in the container becomes what its first process is about to become, by its plan.
        if !config.supervise || !config.hooks.start_container.is_empty() {
            return Ok(Self::default());
        }
        let others = capability::mask(&config.capabilities)?;
        let filter = first.seccomp.as_ref().is_some_and(|(flags, filter)| {
            flags & flag::NEW_LISTENER == 0
                && is_bare(first, config)
                && allows_the_init(filter)
                && allows_to_serve(filter)
        });
        Ok(Self {
            bounding: Some(first.capabilities.bounding | others),
            filter: if filter { Filtered::AsConfigured } else { Filtered::No },
        })
    }

    /// Whether an init that has given this up can start a process.
    pub(crate) fn fits(&self, config: &Config, process: &Process) -> bool {
        let bounding = self.bounding.unwrap_or(u64::MAX);
        process.capabilities.bounding & !bounding == 0
            && match self.filter {
                Filtered::No => true,
                Filtered::AsConfigured => is_bare(process, config),
                Filtered::Otherwise => false,
            }
    }

    /// Appends how it is given up.
    pub(super) fn compile(&self, plan: &mut Plan, process: &Process) {
        if let Some(keep) = self.bounding {
            plan.push(Op::Bounding { keep });
        }
        if let Some((flags, filter)) = &process.seccomp
            && self.filter == Filtered::AsConfigured
        {
            // It is root in its user namespace, and may do so without giving up new privileges.
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
    }
}

/// Whether a process needs no more calls than all do.
fn is_bare(process: &Process, config: &Config) -> bool {
    process.labels.is_empty() && process.affinity == [None, None] && is_plain(process, config)
}

/// Whether a filter lets an init serve.
fn allows_to_serve(filter: &[u8]) -> bool {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    CALLS.iter().all(|call| always_allows(filter, number(*call)))
        && always_allows_with(filter, number(libc::SYS_clone), CLONE_FLAGS)
}

/// Compiles the plan: a child of the init is in all namespaces already, and becomes the program.
///
/// # Errors
/// [`crate::Code::ConfigInvalid`] for what is wrong in the process, and for more descriptors than a
/// message carries.
pub fn compile(config: &Config, process: &Process, spawn: Spawn) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut lent = (0..).map(Source::Lent);
    let mut take = |plan: &mut Plan, count: usize| -> Vec<Slot> {
        lent.by_ref().take(count).map(|source| plan.source(source)).collect()
    };
    take(&mut plan, spawn.descriptors);
    if let [Some(mask), _] = &process.affinity {
        plan.push(Op::Affinity { mask });
    }
    for procs in take(&mut plan, spawn.cgroups) {
        plan.push(Op::JoinCgroup { procs });
    }
    let count = u32::try_from(spawn.descriptors).unwrap_or(u32::MAX);
    plan.push(Op::Stdio { count });
    plan.push(Op::ReopenNull);
    if !process.labels.is_empty() {
        mount::make_proc(&mut plan, PROC);
        process.labels(&mut plan, PROC)?;
        plan.push(Op::Close { slot: PROC });
    }
    let hooks = spawn.waits && !config.hooks.start_container.is_empty();
    let wait = Wait { for_start: spawn.waits, for_hooks: hooks.then_some(BARRIER_START) };
    let done = Done {
        session: false,
        bounding: spawn.given_up.bounding,
        filter: spawn.given_up.filter == Filtered::AsConfigured,
        root: true,
        ..Done::default()
    };
    process.compile(&mut plan, config, wait, done)?;
    if plan.parts().len() > 1 {
        let reason = "more than a request to the init carries";
        return Err(Error::config("extra files", spawn.descriptors.saturating_sub(3), reason));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Hook, Seccomp};
    use crate::plan::{Capabilities, Terminal};
    use crate::seccomp::oci;

    const NET_BIND_SERVICE: u64 = 1 << 10;
    const SYS_ADMIN: u64 = 1 << 21;

    fn docker() -> Vec<u8> {
        let text = include_bytes!("../../tests/seccomp/docker-default.json");
        let profile: oci::Seccomp = serde_json::from_slice(text).unwrap();
        crate::seccomp::compile(&profile.profile().unwrap().unwrap()).unwrap().bytes()
    }

    fn config() -> Config {
        let capabilities = vec!["NET_BIND_SERVICE".to_owned()];
        Config { supervise: true, capabilities, ..Config::default() }
    }

    fn process(filter: Vec<u8>) -> Process {
        Process {
            args: vec!["/bin/true".into()],
            cwd: "/".into(),
            capabilities: Capabilities { bounding: 1, ..Capabilities::default() },
            seccomp: Some((0, filter)),
            no_new_privileges: true,
            ..Process::default()
        }
    }

    fn has_bounding(plan: &Plan) -> bool {
        plan.operations().any(|op| matches!(op, Op::Bounding { .. }))
    }

    #[test]
    fn an_init_gives_up_what_its_processes_are_not_to_have() {
        let first = process(docker());
        let given_up = GivenUp::of(&config(), &first).unwrap();
        let bounding = Some(1 | NET_BIND_SERVICE);
        assert_eq!(given_up, GivenUp { bounding, filter: Filtered::AsConfigured });
        let mut plan = Plan::default();
        given_up.compile(&mut plan, &first);
        assert_eq!(plan.operations().next(), Some(Op::Bounding { keep: 1 | NET_BIND_SERVICE }));
        assert_eq!(plan.len(), 2);
        // A hook becomes what the process does by its plan, and nothing is given up without an init.
        let mut hooks = config();
        hooks.hooks.start_container.push(Hook::default());
        let alone = Config { supervise: false, ..config() };
        for config in [hooks, alone] {
            assert_eq!(GivenUp::of(&config, &first).unwrap(), GivenUp::default());
        }
    }

    #[test]
    fn a_filter_that_the_init_cannot_live_with_is_each_processs_own() {
        let refuses = |number: libc::c_long| {
            let value = u32::try_from(number).unwrap();
            let syscall = crate::config::SeccompSyscall { value, action: 1, args: Vec::new() };
            let list = Seccomp { syscalls: vec![syscall] };
            crate::seccomp::cache::of_seed(&list).unwrap().bytes()
        };
        let filter = |process: &Process| GivenUp::of(&config(), process).unwrap().filter;
        for number in [libc::SYS_wait4, libc::SYS_clone, libc::SYS_setresuid] {
            assert_eq!(filter(&process(refuses(number))), Filtered::No, "{number}");
        }
        assert_eq!(filter(&process(refuses(libc::SYS_reboot))), Filtered::AsConfigured);
        let listens =
            Process { seccomp: Some((flag::NEW_LISTENER, docker())), ..process(docker()) };
        let terminal = Process { terminal: Some(Terminal::default()), ..process(docker()) };
        for process in [listens, terminal] {
            assert_eq!(filter(&process), Filtered::No);
        }
    }

    #[test]
    fn who_is_to_have_more_is_not_started_by_the_init() {
        let given_up = GivenUp::of(&config(), &process(docker())).unwrap();
        let with = |bounding| Process {
            capabilities: Capabilities { bounding, ..Capabilities::default() },
            ..process(docker())
        };
        assert!(given_up.fits(&config(), &with(NET_BIND_SERVICE)));
        assert!(!given_up.fits(&config(), &with(SYS_ADMIN)));
        assert!(GivenUp::default().fits(&config(), &with(SYS_ADMIN)));
        let terminal = Process { terminal: Some(Terminal::default()), ..process(docker()) };
        assert!(!given_up.fits(&config(), &terminal));
        let changed = GivenUp { filter: Filtered::Otherwise, ..given_up };
        assert!(!changed.fits(&config(), &process(docker())));
    }

    #[test]
    fn what_is_given_up_is_not_given_up_again() {
        let compile = |given_up, process: &Process| {
            let spawn = Spawn { descriptors: 3, given_up, ..Spawn::default() };
            compile(&config(), process, spawn).unwrap()
        };
        let first = process(docker());
        let whole = compile(GivenUp::default(), &first);
        assert!(has_bounding(&whole));
        let given_up = GivenUp { bounding: Some(1), filter: Filtered::AsConfigured };
        let short = compile(given_up, &first);
        assert!(!has_bounding(&short));
        assert!(matches!(short.operations().last(), Some(Op::Exec { filter: b"", .. })));
        // Whoever is to have less than the init drops the rest.
        let less = Process { capabilities: Capabilities::default(), ..first };
        assert!(has_bounding(&compile(given_up, &less)));
    }
}
