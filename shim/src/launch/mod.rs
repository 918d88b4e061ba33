//! Starts the init and has it run a plan.
//!
//! [`image`] has the programs that can be executed as the init. [`Launcher`](crate::Launcher) runs
//! any plan. [`Container`](crate::Container) runs the plan of a container, and also sets up
//! cgroups, network and state.

pub(crate) mod channel;
mod check;
mod clone;
mod id_map;
mod id_mapped;
pub mod image;
mod layer;
mod network;
mod node;
pub(crate) mod options;
mod outbox;
mod owner;
pub(crate) mod seccomp_agent;
mod session;
mod source;
mod spawn;
pub(crate) mod stdio;
mod template;
mod worker;

pub(crate) use clone::Child;
pub(crate) use id_map::Maps;
pub(crate) use network::{Network, has_other_processor};
pub(crate) use owner::Owner;
pub(crate) use session::{Host, Launch, Parked, Rest, Resume, Started};
pub(crate) use source::Lent;
pub(crate) use spawn::{Spawn, Spawned};
pub(crate) use template::{BARE as TEMPLATE_BARE, ROOT as TEMPLATE_ROOT};
pub(crate) use worker::{Place, start_clone_threads, template_error};
