//! Further processes of a container.
//!
//! A supervising init starts them ([`supervised`]). Otherwise, and for what such an init cannot do,
//! a child of the caller joins the container's namespaces ([`join`]).

pub(crate) mod cache;
pub(crate) mod join;
pub(crate) mod running_init;
pub(crate) mod supervised;
