//! The compiler of seccomp filters, from a [`Profile`] to the BPF program for `seccomp(2)`.
//!
//! A profile comes from `config.json` by [`pidone_config::oci::linux::seccomp`] or from
//! `container.json` by [`libcontainer`]. [`compile()`] makes no system call.
//!
//! The filters decide like those that runc makes with libseccomp, except for these cases:
//! - A rule with conditions on a socket or System V IPC call, if it is less strict than the default
//!   action, does not apply to `socketcall(2)` and `ipc(2)` of 32-bit x86, where the conditions
//!   cannot be checked.
//! - If rules with conditions on one system call contradict each other, the first one applies.
//!   libseccomp refuses some of these profiles, and uses its own order for others.
//! - A call of 32-bit ARM that is newer than the profile returns `ENOSYS` even if the profile has
//!   private calls, whose numbers are far higher.

mod allows;
mod argument;
mod bpf;
mod compile;
mod evaluate;
pub mod libcontainer;
mod ranges;
mod syscall_table;
mod syscalls;

pub use allows::{always_allows, always_allows_with};
pub use bpf::{Instruction, MAX_INSTRUCTIONS};
pub use compile::{Filter, compile};
pub use evaluate::{InvalidProgram, SeccompData, evaluate};
pub use pidone_config::seccomp::{
    Action, Arch, Condition, MAX_ERRNO, Operator, Profile, Rule, Syscall, flag,
};
pub use syscalls::{syscall_names, syscall_number};
