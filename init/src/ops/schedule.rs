//! How the process is scheduled, and where its memory lies.
//!
//! The structures come ready from the host: the kernel checks them, and the init need not know
//! their fields.

use pidone_proto::Call;

use crate::failure::{Context, Result};
use crate::sys;

/// Sets policy and priority.
pub(crate) fn scheduler(attributes: &[u8]) -> Result {
    sys::sched_setattr(attributes).during(Call::Scheduler)
}

/// Sets the class and priority of I/O.
pub(crate) fn io_priority(value: u32) -> Result {
    sys::ioprio_set(value).during(Call::IoPriority)
}

/// Sets the processors.
pub(crate) fn affinity(mask: &[u8]) -> Result {
    sys::sched_setaffinity(mask).during(Call::Affinity)
}

/// Sets the NUMA policy.
pub(crate) fn memory_policy(mode: u32, nodes: &[u8]) -> Result {
    sys::set_mempolicy(mode, nodes).during(Call::MemoryPolicy)
}
