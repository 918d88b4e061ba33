//! The limits of the wire. A receiver checks each before it uses a message.

/// The largest frame, header and body, in bytes. A longer part of a plan is sent in a memfd.
pub const FRAME: usize = 64 * 1024;

/// The largest part of a plan, or request, in a memfd, in bytes.
pub const PLAN: usize = 16 * 1024 * 1024;

/// The largest number of descriptors in one message: `SCM_MAX_FD` in the kernel's
/// `include/net/scm.h`, `unix(7)`.
pub const DESCRIPTORS: usize = 253;

/// The number of slots for descriptors in the init. Received ones take the first.
pub const SLOTS: usize = 512;

/// The first slot for descriptors that the init itself creates, by convention: above those that a
/// message can fill.
pub const FIRST_MADE_SLOT: u16 = 256;

/// The largest number of time stamps of a plan: two at the beginning, and one for each of the first
/// operations.
pub const TIMES: usize = 4096;

/// The largest number of time stamps in one [`Report::Times`](crate::Report::Times).
pub const TIMES_PER_REPORT: usize = 256;

/// The largest number of processes that a supervising init manages at a time.
pub const PROCESSES: usize = 256;

/// The largest number of processes in one [`Report::Processes`](crate::Report::Processes).
pub const PROCESSES_PER_REPORT: usize = 64;

/// The largest number of clients of a supervising init at a time.
pub const CLIENTS: usize = 32;
