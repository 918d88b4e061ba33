//! From a plan to a running process.

pub(crate) mod channel;
mod clone;
mod id_map;
mod id_mapped;
pub mod image;
mod session;
mod source;
mod template;
mod worker;

pub(crate) use clone::Child;
pub(crate) use id_map::Maps;
pub(crate) use session::{Host, Launch, Resume, Started};
pub(crate) use source::Lent;
pub(crate) use template::ROOT as TEMPLATE_ROOT;
pub(crate) use worker::{Place, has_template};
