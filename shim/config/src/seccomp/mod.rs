//! Seccomp profiles: the form to which `linux.seccomp` and libcontainer's list are lowered, and
//! from which a filter is compiled.

mod arch;
mod profile;

pub use arch::{ARM_PRIVATE, Arch, X32_SYSCALL_BIT};
pub use profile::{Action, Condition, MAX_ERRNO, Operator, Profile, Rule, Syscall, flag};
