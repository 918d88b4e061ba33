//! The plan of a process that a supervising init starts.

use pidone_config::{Config, Error, Result};
use pidone_proto::{Op, Slot, Text};

use super::barrier::BARRIER_START;
use super::dropped::{DroppedPrivileges, Filtered};
use super::process::{Done, Wait};
use super::{PROC, Plan, Process, Source, clean, mount, text};

/// The circumstances of a request to start a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spawn {
    /// The number of descriptors for the program: the first of the [lent](Source::Lent) ones.
    pub descriptors: usize,
    /// The number of cgroup files that the process writes itself to. They are the lent descriptors
    /// after those for the program.
    pub cgroups: usize,
    /// Whether it is the container's first program and waits for the start.
    pub waits: bool,
    /// Whether the process makes its working directory.
    pub make_directory: bool,
    /// The privileges that the init has dropped.
    pub dropped: DroppedPrivileges,
}

/// Compiles the plan of a child of the init, which is already in all namespaces.
///
/// # Errors
/// [`pidone_config::Code::ConfigInvalid`] for an invalid field of the process, and for more
/// descriptors than one message carries.
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
    if spawn.make_directory {
        // The init's umask, which the process has, is empty.
        let path = text("cwd", clean(&process.cwd))?;
        plan.push(Op::MakeDirectory { path: Text(&path), mode: 0o755 });
    }
    if !process.labels.is_empty() {
        mount::push_private_proc(&mut plan, PROC);
        process.labels(&mut plan, PROC)?;
        plan.push(Op::Close { slot: PROC });
    }
    let hooks = spawn.waits && !config.hooks.start_container.is_empty();
    let wait = Wait {
        for_start: spawn.waits,
        for_hooks: hooks.then_some(BARRIER_START),
        // The init cannot wait for the host, which sets the modes when the master arrives, and
        // starts the program afterwards.
        for_modes: None,
        // The init passes no listener on, so the process that starts the container gets it.
        listens_before: false,
    };
    let done = Done {
        session: false,
        bounding: spawn.dropped.bounding,
        filter: spawn.dropped.filter == Filtered::AsConfigured,
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
    use pidone_config::seccomp::flag;

    use super::*;
    use crate::{Capabilities, Terminal};
    use pidone_config::config::{Hook, Seccomp};
    use pidone_config::oci::linux::seccomp;

    const NET_BIND_SERVICE: u64 = 1 << 10;
    const SYS_ADMIN: u64 = 1 << 21;

    fn docker() -> Vec<u8> {
        let text = include_bytes!("../../host/tests/seccomp/docker-default.json");
        let profile: seccomp::Seccomp = serde_json::from_slice(text).unwrap();
        pidone_host::seccomp::compile(&profile.profile().unwrap().unwrap()).unwrap().bytes()
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
    fn an_init_drops_the_capabilities_and_calls_that_no_process_gets() {
        let first = process(docker());
        let dropped = DroppedPrivileges::from_config(&config(), &first).unwrap();
        let bounding = Some(1 | NET_BIND_SERVICE);
        assert_eq!(dropped, DroppedPrivileges { bounding, filter: Filtered::AsConfigured });
        let mut plan = Plan::default();
        dropped.compile(&mut plan, &first);
        assert_eq!(plan.operations().next(), Some(Op::Bounding { keep: 1 | NET_BIND_SERVICE }));
        assert_eq!(plan.len(), 2);
        // A `startContainer` hook needs the whole plan, and an init that does not supervise drops
        // nothing.
        let mut hooks = config();
        hooks.hooks.start_container.push(Hook::default());
        let unsupervised = Config { supervise: false, ..config() };
        for config in [hooks, unsupervised] {
            assert_eq!(
                DroppedPrivileges::from_config(&config, &first).unwrap(),
                DroppedPrivileges::default()
            );
        }
    }

    #[test]
    fn a_filter_that_refuses_calls_of_the_init_is_loaded_by_each_process() {
        let refuses = |number: libc::c_long| {
            let value = u32::try_from(number).unwrap();
            let syscall =
                pidone_config::config::SeccompSyscall { value, action: 1, args: Vec::new() };
            let list = Seccomp { syscalls: vec![syscall] };
            crate::filter::compile_libcontainer(&list).unwrap().bytes()
        };
        let filter =
            |process: &Process| DroppedPrivileges::from_config(&config(), process).unwrap().filter;
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
    fn a_process_with_more_privileges_than_the_init_does_not_fit() {
        let dropped = DroppedPrivileges::from_config(&config(), &process(docker())).unwrap();
        let with = |bounding| Process {
            capabilities: Capabilities { bounding, ..Capabilities::default() },
            ..process(docker())
        };
        assert!(dropped.fits(&config(), &with(NET_BIND_SERVICE)));
        assert!(!dropped.fits(&config(), &with(SYS_ADMIN)));
        assert!(DroppedPrivileges::default().fits(&config(), &with(SYS_ADMIN)));
        let terminal = Process { terminal: Some(Terminal::default()), ..process(docker()) };
        assert!(!dropped.fits(&config(), &terminal));
        let changed = DroppedPrivileges { filter: Filtered::Otherwise, ..dropped };
        assert!(!changed.fits(&config(), &process(docker())));
    }

    #[test]
    fn dropped_privileges_are_not_dropped_again() {
        let compile = |dropped, process: &Process| {
            let spawn = Spawn { descriptors: 3, dropped, ..Spawn::default() };
            compile(&config(), process, spawn).unwrap()
        };
        let first = process(docker());
        let undropped = compile(DroppedPrivileges::default(), &first);
        assert!(has_bounding(&undropped));
        let dropped = DroppedPrivileges { bounding: Some(1), filter: Filtered::AsConfigured };
        let short = compile(dropped, &first);
        assert!(!has_bounding(&short));
        assert!(matches!(short.operations().last(), Some(Op::Exec { filter: b"", .. })));
        // A process with less than the init drops the rest.
        let less = Process { capabilities: Capabilities::default(), ..first };
        assert!(has_bounding(&compile(dropped, &less)));
    }
}
