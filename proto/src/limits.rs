//! The bounds of the wire: each is checked before anything is used.

/// A frame with its header and body, in bytes. A plan that is longer travels in a memfd.
pub const FRAME: usize = 64 * 1024;

/// A plan in a memfd, in bytes.
pub const PLAN: usize = 16 * 1024 * 1024;

/// Descriptors in one message: the kernel's `SCM_MAX_FD`.
pub const DESCRIPTORS: usize = 253;

/// Slots for descriptors in the init. Those received take the first ones.
pub const SLOTS: usize = 512;

/// The first slot for descriptors that the init itself makes.
pub const FIRST_MADE_SLOT: u16 = 256;

/// Stamps of one plan: of its first operations, and two before them.
pub const TIMES: usize = 4096;

/// Times in one report.
pub const TIMES_PER_REPORT: usize = 256;

/// Processes that an init which supervises looks after at a time.
pub const PROCESSES: usize = 256;

/// Processes in one report.
pub const PROCESSES_PER_REPORT: usize = 64;

/// Clients of an init which supervises, at a time.
pub const CLIENTS: usize = 32;
