//! The plan of a container whose first process gets its user when the container is set up.

use pidone_config::{Config, Result};
use pidone_proto::Op;

use super::barrier::BARRIER_USER;
use super::container::{push_end, set_up};
use super::facts::{End, Facts};
use super::{Plan, Process};

/// Compiles the part of the plan that does not depend on the user of the process. It ends with
/// [`BARRIER_USER`], and [`compile_rest`] appends the rest: both together do what
/// [`super::container::compile`] does.
///
/// # Errors
/// As [`super::container::compile`].
pub fn compile(config: &Config, process: &Process, facts: &Facts<'_>) -> Result<Plan> {
    let mut plan = Plan::default();
    set_up(&mut plan, config, process, facts)?;
    plan.push(Op::Barrier { id: BARRIER_USER });
    Ok(plan)
}

/// Appends the rest to a plan of [`compile`].
///
/// # Errors
/// As [`super::container::compile`].
pub fn compile_rest(plan: &mut Plan, config: &Config, process: &Process, end: End) -> Result<()> {
    plan.begin_part();
    push_end(plan, config, process, end)
}
