//! The plan of a container whose program is told later, in two halves.
//!
//! Together they are the plan of [`super::container::compile`]. What stands in the first half may
//! depend on the program as little as possible: what does is the model's, and [`finish`] answers
//! nothing for a process that the first half does not fit.

use pidone_config::config::NamespaceType;
use pidone_config::seccomp::flag;
use pidone_config::{Config, Result};
use pidone_proto::{Op, Text};

use super::allowed::{allows_the_init, is_plain};
use super::barrier::{BARRIER_PARKED, BARRIER_START};
use super::container::{configure, enter, set_up};
use super::facts::Facts;
use super::process::{Done, Wait};
use super::{Plan, Process, SOURCES, Source, clean, text};

/// The process that first halves are made for, as far as they depend on one.
#[derive(Debug)]
pub struct Model {
    process: Process,
    done: Done,
}

impl Model {
    /// Takes a process as the model of those to come.
    pub fn new(config: &Config, process: Process) -> Self {
        // Hooks in the container become what the process is about to become, by its plan.
        let alone = config.hooks.start_container.is_empty();
        let filter = process.seccomp.as_ref().is_some_and(|(flags, filter)| {
            flags & flag::NEW_LISTENER == 0 && is_plain(&process, config) && allows_the_init(filter)
        });
        let done = Done {
            session: process.terminal.is_none(),
            bounding: alone.then_some(process.capabilities.bounding),
            filter: alone && filter,
            // PivotRoot leaves it there.
            root: config.has_new(NamespaceType::Mount),
            // Root keeps its capabilities, and is the others as well when they are told.
            user: alone && (process.uid, process.gid) == (0, 0),
            umask: alone,
            no_new_privileges: alone && filter && process.no_new_privileges,
        };
        Self { process, done }
    }

    /// Compiles what is done before the program is known. Its last operation is a barrier.
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
            // The last, since all that is made has the modes that are told.
            plan.push(Op::Umask { mask: process.umask });
        }
        plan.push(Op::Barrier { id: BARRIER_PARKED });
        Ok(plan)
    }

    /// Compiles what makes a parked init a process, but for its descriptors: [`with_descriptors`].
    /// `None` if that process needs another first half than the model's, or has more descriptors
    /// than come together.
    ///
    /// # Errors
    /// As [`super::container::compile`].
    pub fn finish(&self, config: &Config, process: &Process) -> Result<Option<Plan>> {
        let Self { process: model, done } = self;
        let count = usize::try_from(process.preserved).unwrap_or(usize::MAX);
        if !fits(process, model, config, *done) || count > SOURCES - 3 {
            return Ok(None);
        }
        let makes = process.make_cwd && !(model.make_cwd && process.cwd == model.cwd);
        let mut plan = Plan::default();
        if makes {
            let path = text("cwd", clean(&process.cwd))?;
            plan.push(Op::Umask { mask: 0 });
            plan.push(Op::MakeDirectory { path: Text(&path), mode: 0o755 });
        }
        let same = (process.uid, process.gid, &process.groups, process.parent_death_signal)
            == (model.uid, model.gid, &model.groups, model.parent_death_signal);
        let done = Done {
            user: done.user && same,
            umask: done.umask && process.umask == model.umask && !makes,
            ..*done
        };
        process.compile(&mut plan, config, wait(config), done)?;
        Ok(Some(plan))
    }
}

/// Compiles the first half of a plan whose root is told later, too: the namespaces alone.
pub fn enter_only(config: &Config, facts: &Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    enter(&mut plan, config, facts);
    plan.push(Op::Barrier { id: BARRIER_PARKED });
    plan
}

/// Compiles the second half of such a plan, with stdio and what follows it lent from 0 up; `None` if
/// there are more descriptors than come together.
///
/// # Errors
/// As [`super::container::compile`].
pub fn configure_later(
    config: &Config,
    process: &Process,
    facts: &Facts<'_>,
) -> Result<Option<Plan>> {
    let mut plan = Plan::default();
    configure(&mut plan, config, process, facts)?;
    // They take the first slots of their part.
    plan.begin_part();
    let before = plan.parts().len();
    if process.terminal.is_none() || process.preserved > 0 {
        take_descriptors(&mut plan, usize::try_from(process.preserved).unwrap_or(usize::MAX));
    }
    process.compile(&mut plan, config, wait(config), Done::default())?;
    Ok((plan.parts().len() == before).then_some(plan))
}

/// Puts before a plan of [`Model::finish`] how the init takes what is lent: those of stdio that are
/// there, and so many behind. What is not there is the null device of the container, which a parked
/// init has.
pub fn with_descriptors(rest: &Plan, stdio: [bool; 3], behind: usize) -> Plan {
    let mut plan = Plan::default();
    if behind > 0 {
        take_descriptors(&mut plan, behind);
    } else {
        let there = (0..).zip(stdio).filter_map(|(number, there)| there.then_some(number));
        for (place, number) in there.enumerate() {
            let from = plan.source(Source::Lent(place));
            plan.push(Op::Descriptor { from, number });
        }
    }
    plan.append(rest);
    plan
}

/// Appends how all of stdio and so many descriptors behind it, lent from 0 up, become the init's.
fn take_descriptors(plan: &mut Plan, behind: usize) {
    let count = behind.saturating_add(3);
    for place in 0..count {
        plan.source(Source::Lent(place));
    }
    plan.push(Op::Stdio { count: u32::try_from(count).unwrap_or(u32::MAX) });
    plan.push(Op::ReopenNull);
}

fn wait(config: &Config) -> Wait {
    let hooks = !config.hooks.start_container.is_empty();
    Wait { for_start: false, for_hooks: hooks.then_some(BARRIER_START) }
}

/// Whether a first half that was made for the model does for a process.
fn fits(process: &Process, model: &Process, config: &Config, done: Done) -> bool {
    let dropped = done.bounding.map_or(0, |bounding| !bounding);
    // It was made while the root could still be written to.
    let directory =
        !process.make_cwd || (model.make_cwd && process.cwd == model.cwd) || !config.readonlyfs;
    let filtered = !done.filter
        || (is_plain(process, config)
            && process.seccomp == model.seccomp
            && (process.no_new_privileges || !model.no_new_privileges));
    process.labels == model.labels
        && process.affinity[0] == model.affinity[0]
        && process.capabilities.bounding & dropped == 0
        && directory
        && filtered
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
    fn what_is_there_takes_its_place() {
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
    fn what_is_behind_stdio_comes_with_all_of_it() {
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

    /// The names of the operations of a second half.
    fn finish(model: Process, process: &Process) -> Vec<&'static str> {
        let config = config();
        let plan = Model::new(&config, model).finish(&config, process).unwrap().unwrap();
        plan.operations().map(|op| op.name()).collect()
    }

    #[test]
    fn who_the_model_is_is_done_ahead() {
        let short = finish(process(0), &process(0));
        assert_eq!(short, ["capabilities", "exec"]);
        let long = ["setgroups", "set ids", "capabilities", "parent-death signal", "exec"];
        // Another user or group, or a model that could become no other one.
        assert_eq!(finish(process(0), &process(7)), long);
        let other = Process { groups: Some(Vec::new()), ..process(0) };
        assert_eq!(finish(process(0), &other), long);
        assert_eq!(finish(process(7), &process(7)), long);
    }

    #[test]
    fn what_is_made_late_has_its_mode() {
        let made = Process { cwd: "/new".into(), make_cwd: true, ..process(0) };
        let ops = ["umask", "mkdir", "umask", "chdir", "capabilities", "exec"];
        assert_eq!(finish(process(0), &made), ops);
        let other = Process { umask: 0o77, ..process(0) };
        assert_eq!(finish(process(0), &other), ["umask", "capabilities", "exec"]);
    }

    #[test]
    fn a_directory_below_the_root_is_entered_late() {
        let elsewhere = Process { cwd: "/tmp".into(), ..process(0) };
        assert!(finish(elsewhere.clone(), &elsewhere).contains(&"chdir"));
    }
}
