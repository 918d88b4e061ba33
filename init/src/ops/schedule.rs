//! How the process is scheduled, and from which nodes it gets memory.
//!
//! The host sends the structures as the kernel takes them. The kernel checks them, and the init
//! does not have to know their fields.

use pidone_proto::Call;

use crate::failure::{Context, Result};
use crate::kernel::attributes::{ioprio_set, sched_setaffinity, sched_setattr, set_mempolicy};

/// Sets the scheduling policy and priority.
pub(crate) fn set_scheduler(attributes: &[u8]) -> Result {
    sched_setattr(attributes).during(Call::Scheduler)
}

/// Sets the class and priority of I/O.
pub(crate) fn set_io_priority(value: u32) -> Result {
    ioprio_set(value).during(Call::IoPriority)
}

/// Sets the processors to run on.
pub(crate) fn set_affinity(mask: &[u8]) -> Result {
    sched_setaffinity(mask).during(Call::Affinity)
}

/// Sets the NUMA memory policy.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result {
    set_mempolicy(mode, nodes).during(Call::MemoryPolicy)
}
