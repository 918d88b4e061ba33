//! The two-stage plan of a container whose program is not known when it is started.
//!
//! Both stages together do what the plan of [`super::container::compile`] does. The first one
//! depends on the program as little as possible. Where it does, it is compiled for the process of a
//! [`Model`], and [`Model::finish`] returns `None` for a process that this does not suit.

use pidone_config::config::NamespaceType;
use pidone_config::seccomp::flag;
use pidone_config::{Config, Error, Result};
use pidone_proto::{Op, Text};

use super::allowed::{allows_the_init, is_plain};
use super::barrier::{BARRIER_PARKED, BARRIER_USER};
use super::container::{configure, enter, set_up};
use super::facts::Facts;
use super::process::{Done, Wait};
use super::{Plan, Process, SOURCES, Source, clean, text};

/// The process that first stages are compiled for, as far as they depend on one.
#[derive(Debug)]
pub struct Model {
    process: Process,
    done: Done,
}

impl Model {
    /// Takes a process as the model of later ones.
    pub fn new(config: &Config, process: Process) -> Self {
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
        Self { process, done }
    }

    /// Compiles the first stage, which ends with [`BARRIER_PARKED`].
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub fn begin(&self, config: &Config, facts: &Facts<'_>) -> Result<Plan> {
        let Self { process, done } = self;
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
    /// process are missing: [`with_descriptors`] adds them.
    ///
    /// `None` if the first stage does not suit the process, or if it has more descriptors than one
    /// message carries.
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub fn finish(&self, config: &Config, process: &Process) -> Result<Option<Plan>> {
        let Self { process: model, done } = self;
        let count = usize::try_from(process.preserved).unwrap_or(usize::MAX);
        if !fits(process, model, config, *done) || count > SOURCES - 3 {
            return Ok(None);
        }
        let make_cwd = process.make_cwd
            && clean(&process.cwd) != "/"
            && !(model.make_cwd && process.cwd == model.cwd);
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
    let directory_fits = !process.make_cwd
        || clean(&process.cwd) == "/"
        || (model.make_cwd && process.cwd == model.cwd)
        || !config.readonlyfs;
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
        let plan = Model::new(&config, model).finish(&config, process).unwrap().unwrap();
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
    fn a_working_directory_other_than_the_root_is_entered_in_the_second_stage() {
        let elsewhere = Process { cwd: "/tmp".into(), ..process(0) };
        assert!(finish(elsewhere.clone(), &elsewhere).contains(&"chdir"));
    }
}
