//! Further processes of a container: started by its init where that stays, else as processes that
//! join its namespaces.

pub(crate) mod cache;
pub(crate) mod join;
pub(crate) mod running_init;
pub(crate) mod supervised;
