//! Profiles of system calls: what `linux.seccomp` and libcontainer's list are lowered to, and what
//! a filter is compiled from.

mod arch;
mod profile;

pub use arch::{ARM_PRIVATE, Arch, X32_SYSCALL_BIT};
pub use profile::{Action, Condition, MAX_ERRNO, Operator, Profile, Rule, Syscall, flag};
