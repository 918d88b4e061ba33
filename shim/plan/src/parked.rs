//! The two-stage plan of a container whose program is not known when it is started.
//!
//! Both stages together do what the plan of [`super::container::compile`] does. The first one
//! depends on the program as little as possible. Where it does, it is compiled for the process of a
//! [`Model`], and [`Model::finish`] returns `None` for a process that this does not suit.
//!
//! An init that supervises has two plans anyway: its own, and that of its child, the program.

use pidone_config::config::NamespaceType;
use pidone_config::seccomp::flag;
use pidone_config::{Config, Error, Result};
use pidone_proto::{Op, Text};

use super::allowed::{allows_the_init, is_plain};
use super::barrier::{BARRIER_PARKED, BARRIER_USER};
use super::container::{self, configure, enter, set_up};
use super::dropped::DroppedPrivileges;
use super::facts::Facts;
use super::process::{Done, Wait};
use super::spawn::{self, Spawn};
use super::{Plan, Process, SOURCES, Source, clean, text};

/// The process that first stages are compiled for, as far as they depend on one.
#[derive(Debug)]
pub struct Model {
    process: Process,
    done: Done,
    dropped: DroppedPrivileges,
}

impl Model {
    /// Takes a process as the model of later ones.
    ///
    /// # Errors
    /// [`pidone_config::Code::ConfigInvalid`] for an unknown capability.
    pub fn new(config: &Config, process: Process) -> Result<Self> {
        let dropped = DroppedPrivileges::from_config(config, &process)?;
        // A `startContainer` hook runs the operations of the second stage, which must then have
        // all of them.
        let no_hooks = config.hooks.start_container.is_empty();
        let filter = process.seccomp.as_ref().is_some_and(|(flags, filter)| {
            flags & flag::NEW_LISTENER == 0 && is_plain(&process, config) && allows_the_init(filter)
        });
        let done = Done {
            session: process.terminal.is_none(),
            bounding: no_hooks.then_some(process.capabilities.bounding),
            filter: no_hooks && filter,
            // PivotRoot changes to the new root.
            root: config.has_new(NamespaceType::Mount),
            // Root keeps its capabilities, with which it can become another user later.
            user: no_hooks && (process.uid, process.gid) == (0, 0),
            umask: no_hooks,
            no_new_privileges: no_hooks && filter && process.no_new_privileges,
        };
        Ok(Self { process, done, dropped })
    }

    /// Returns the privileges that an init drops before it waits for its program as a supervisor.
    pub fn dropped(&self) -> DroppedPrivileges {
        self.dropped
    }

    /// Compiles the first stage, which ends with [`BARRIER_PARKED`], or with an init that
    /// supervises. The facts have to have what it [drops](Self::dropped).
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub fn begin(&self, config: &Config, facts: &Facts<'_>) -> Result<Plan> {
        let Self { process, done, .. } = self;
        if config.supervise {
            return container::compile(config, process, facts);
        }
        let mut plan = Plan::default();
        set_up(&mut plan, config, process, facts)?;
        if done.session {
            plan.push(Op::Session);
        }
        if done.user {
            process.become_user(&mut plan);
            process.end_with_parent(&mut plan);
        }
        if let Some(keep) = done.bounding {
            plan.push(Op::Bounding { keep });
        }
        if let Some((flags, filter)) = process.seccomp.as_ref().filter(|_| done.filter) {
            if done.no_new_privileges {
                plan.push(Op::NoNewPrivileges);
            }
            plan.push(Op::Seccomp { flags: *flags, filter });
        }
        if done.umask {
            // Last, since the operations before it create files with exact modes.
            plan.push(Op::Umask { mask: process.umask });
        }
        plan.push(Op::Barrier { id: BARRIER_PARKED });
        Ok(plan)
    }

    /// Compiles the second stage, in which a parked init becomes a process. The descriptors of the
    /// process are missing: [`with_descriptors`] adds them. An init that supervises gets the plan
    /// of its child, whose descriptors are the lent ones from 0 up.
    ///
    /// `None` if the first stage does not suit the process, or if it has more descriptors than one
    /// message carries.
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub fn finish(&self, config: &Config, process: &Process) -> Result<Option<Plan>> {
        let Self { process: model, done, .. } = self;
        let count = usize::try_from(process.preserved).unwrap_or(usize::MAX);
        if config.supervise {
            return if count > SOURCES - 3 { Ok(None) } else { self.spawn(config, process, count) };
        }
        if !fits(process, model, config, *done) || count > SOURCES - 3 {
            return Ok(None);
        }
        let make_cwd = lacks_directory(process, model);
        let mut plan = Plan::default();
        if make_cwd {
            let path = text("cwd", clean(&process.cwd))?;
            plan.push(Op::Umask { mask: 0 });
            plan.push(Op::MakeDirectory { path: Text(&path), mode: 0o755 });
        }
        let same_user = (process.uid, process.gid, &process.groups, process.parent_death_signal)
            == (model.uid, model.gid, &model.groups, model.parent_death_signal);
        let done = Done {
            user: done.user && same_user,
            umask: done.umask && process.umask == model.umask && !make_cwd,
            ..*done
        };
        process.compile(&mut plan, config, Wait::of(config, false), done)?;
        Ok(Some(plan))
    }

    /// Compiles the plan of the first program of an init that supervises, which has `extra`
    /// descriptors from 3 up. `None` if the host has to do something while the program is started,
    /// or if the init does not suit it.
    fn spawn(&self, config: &Config, process: &Process, extra: usize) -> Result<Option<Plan>> {
        let Self { process: model, dropped, .. } = self;
        let listens =
            process.seccomp.as_ref().is_some_and(|(flags, _)| flags & flag::NEW_LISTENER != 0);
        let keeps_newlines =
            process.terminal.as_ref().is_some_and(|terminal| terminal.keep_newlines);
        let make_cwd = lacks_directory(process, model);
        if listens
            || keeps_newlines
            || !config.hooks.start_container.is_empty()
            || process.affinity[0] != model.affinity[0]
            || (make_cwd && config.readonlyfs)
            || !dropped.fits(config, process)
        {
            return Ok(None);
        }
        let spawn = Spawn {
            descriptors: extra + 3,
            make_directory: make_cwd,
            dropped: *dropped,
            ..Spawn::default()
        };
        spawn::compile(config, process, spawn).map(Some)
    }
}

/// Whether the working directory of a process has to be made, and is not that of the model, which
/// the first stage has made.
fn lacks_directory(process: &Process, model: &Process) -> bool {
    process.make_cwd && clean(&process.cwd) != "/" && !(model.make_cwd && process.cwd == model.cwd)
}

/// Compiles the first stage for a container whose root is not known either: only the namespaces.
pub fn enter_only(config: &Config, facts: &Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    enter(&mut plan, config, facts);
    plan.push(Op::Barrier { id: BARRIER_PARKED });
    plan
}

/// Compiles the second stage after [`enter_only`]. Stdio and the further descriptors of the process
/// are the lent ones from 0 up.
///
/// # Errors
/// As [`super::container::compile`], and [`pidone_config::Code::ConfigInvalid`] for more
/// descriptors than one message carries.
pub fn configure_later(config: &Config, process: &Process, facts: &Facts<'_>) -> Result<Plan> {
    let mut plan = Plan::default();
    configure(&mut plan, config, process, facts)?;
    become_later(&mut plan, config, process)?;
    Ok(plan)
}

/// Compiles the part of the second stage that does not depend on the user of the process. It ends
/// with [`BARRIER_USER`], and [`become_later`] appends the rest.
///
/// # Errors
/// As [`super::container::compile`].
pub fn configure_before_user(
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    configure(&mut plan, config, process, facts)?;
    plan.push(Op::Barrier { id: BARRIER_USER });
    Ok(plan)
}

/// Appends the operations by which a configured init becomes the process.
///
/// # Errors
/// As [`configure_later`].
pub fn become_later(plan: &mut Plan, config: &Config, process: &Process) -> Result<()> {
    // `Op::Stdio` takes the descriptors from the first slots of a part.
    plan.begin_part();
    let before = plan.parts().len();
    if process.terminal.is_none() || process.preserved > 0 {
        take_descriptors(plan, usize::try_from(process.preserved).unwrap_or(usize::MAX));
    }
    process.compile(plan, config, Wait::of(config, false), Done::default())?;
    if plan.parts().len() > before {
        let reason = "more than come with a program that is told later";
        return Err(Error::config("extra_files", process.preserved, reason));
    }
    Ok(())
}

/// Returns the plan of [`Model::finish`] with operations before it that take the lent descriptors:
/// those of 0, 1 and 2 that `stdio` has, and `extra` further ones.
///
/// A parked init has the null device of the container as 0, 1 and 2, and keeps it where `stdio` has
/// none.
pub fn with_descriptors(rest: &Plan, stdio: [bool; 3], extra: usize) -> Plan {
    let mut plan = Plan::default();
    if extra > 0 {
        take_descriptors(&mut plan, extra);
    } else {
        let given = (0..).zip(stdio).filter_map(|(number, given)| given.then_some(number));
        for (index, number) in given.enumerate() {
            let from = plan.source(Source::Lent(index));
            plan.push(Op::Descriptor { from, number });
        }
    }
    plan.append(rest);
    plan
}

/// Appends the operations by which the init takes 0, 1, 2 and `extra` further descriptors from the
/// lent ones.
fn take_descriptors(plan: &mut Plan, extra: usize) {
    let count = extra.saturating_add(3);
    for index in 0..count {
        plan.source(Source::Lent(index));
    }
    plan.push(Op::Stdio { count: u32::try_from(count).unwrap_or(u32::MAX) });
    plan.push(Op::ReopenNull);
}

/// Whether a first stage that was compiled for the model suits a process.
fn fits(process: &Process, model: &Process, config: &Config, done: Done) -> bool {
    let dropped = done.bounding.map_or(0, |bounding| !bounding);
    // The first stage has made the root read-only.
    let directory_fits = !config.readonlyfs || !lacks_directory(process, model);
    let filter_fits = !done.filter
        || (is_plain(process, config)
            && process.seccomp == model.seccomp
            && (process.no_new_privileges || !model.no_new_privileges));
    process.labels == model.labels
        && process.affinity[0] == model.affinity[0]
        && process.capabilities.bounding & dropped == 0
        && directory_fits
        && filter_fits
}

#[cfg(test)]
mod tests {
    use pidone_proto::Slot;

    use super::*;

    fn rest() -> Plan {
        let mut rest = Plan::default();
        rest.push(Op::Umask { mask: 0o22 });
        rest
    }

    #[test]
    fn only_given_stdio_is_replaced() {
        let plan = with_descriptors(&rest(), [false, true, true], 0);
        let [part] = plan.parts() else { panic!("{plan}") };
        assert_eq!(part.sources, [Source::Lent(0), Source::Lent(1)]);
        let expected = [
            Op::Descriptor { from: Slot(0), number: 1 },
            Op::Descriptor { from: Slot(1), number: 2 },
            Op::Umask { mask: 0o22 },
        ];
        assert!(plan.operations().eq(expected), "{plan}");
        assert_eq!(with_descriptors(&rest(), [false; 3], 0), rest());
    }

    #[test]
    fn extra_descriptors_come_with_all_of_stdio() {
        let plan = with_descriptors(&rest(), [true; 3], 2);
        let [part] = plan.parts() else { panic!("{plan}") };
        assert_eq!(part.sources, (0..5).map(Source::Lent).collect::<Vec<_>>());
        let expected = [Op::Stdio { count: 5 }, Op::ReopenNull, Op::Umask { mask: 0o22 }];
        assert!(plan.operations().eq(expected), "{plan}");
    }

    fn config() -> Config {
        let mut config = Config::template("/".into());
        config.parent_death_signal = 9;
        config
    }

    fn process(uid: u32) -> Process {
        Process {
            args: vec!["/bin/sh".into()],
            cwd: "/".into(),
            uid,
            groups: Some(vec![20]),
            parent_death_signal: 9,
            ..Process::default()
        }
    }

    /// Returns the names of the operations of a second stage.
    fn finish(model: Process, process: &Process) -> Vec<&'static str> {
        let config = config();
        let model = Model::new(&config, model).unwrap();
        let plan = model.finish(&config, process).unwrap().unwrap();
        plan.operations().map(|op| op.name()).collect()
    }

    #[test]
    fn a_root_models_ids_are_set_in_the_first_stage() {
        let short = finish(process(0), &process(0));
        assert_eq!(short, ["capabilities", "exec"]);
        let long = ["setgroups", "set ids", "parent-death signal", "capabilities", "exec"];
        // Other ids than the model's, or a model whose ids could not be changed again.
        assert_eq!(finish(process(0), &process(7)), long);
        let other = Process { groups: Some(Vec::new()), ..process(0) };
        assert_eq!(finish(process(0), &other), long);
        assert_eq!(finish(process(7), &process(7)), long);
    }

    #[test]
    fn a_directory_of_the_second_stage_is_made_with_an_empty_umask() {
        let made = Process { cwd: "/new".into(), make_cwd: true, ..process(0) };
        let ops = ["umask", "mkdir", "umask", "chdir", "capabilities", "exec"];
        assert_eq!(finish(process(0), &made), ops);
        let other = Process { umask: 0o77, ..process(0) };
        assert_eq!(finish(process(0), &other), ["umask", "capabilities", "exec"]);
    }

    #[test]
    fn an_init_that_stays_gets_the_plan_of_its_child() {
        let config = Config { supervise: true, ..config() };
        let model = Model::new(&config, process(0)).unwrap();
        let finish = |process: &Process| {
            let plan = model.finish(&config, process).unwrap();
            plan.map(|plan| plan.operations().map(|op| op.name()).collect::<Vec<_>>())
        };
        let stdio = ["stdio", "stdio"];
        let bounds = ["setsid", "bounding set", "setgroups", "set ids"];
        let last = ["umask", "parent-death signal", "capabilities", "exec"];
        let usual = [&stdio[..], &bounds, &last].concat();
        assert_eq!(finish(&process(0)), Some(usual));
        let made = Process { cwd: "/new".into(), make_cwd: true, ..process(7) };
        assert!(finish(&made).unwrap().starts_with(&["stdio", "stdio", "mkdir"]));
        // What the init has dropped, and what the host has to do.
        let capabilities = crate::Capabilities { bounding: 1 << 21, ..Default::default() };
        let terminal = crate::Terminal { keep_newlines: true, ..crate::Terminal::default() };
        for misfit in [
            Process { capabilities, ..process(0) },
            Process { terminal: Some(terminal), ..process(0) },
            Process { preserved: 1000, ..process(0) },
        ] {
            assert_eq!(finish(&misfit), None);
        }
    }

    #[test]
    fn a_working_directory_other_than_the_root_is_entered_in_the_second_stage() {
        let elsewhere = Process { cwd: "/tmp".into(), ..process(0) };
        assert!(finish(elsewhere.clone(), &elsewhere).contains(&"chdir"));
    }
}
