//! How an operation fails: the call and the kernel's answer.
//!
//! What it was about is not told: the host wrote the plan and knows the operation by its number.
//! A failure fits into a register, which keeps the image small, and the host never has to print
//! a string that a container may have written.

use pidone_proto::Call;
use rustix::io::Errno;

/// A failed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The system call, or the rule that was broken.
    pub(crate) call: Call,
    /// Which one of several things in the operation: an option of a mount, a candidate of exec.
    pub(crate) detail: u16,
    /// The kernel's answer.
    pub(crate) errno: Errno,
}

/// The result of an operation.
pub(crate) type Result<T = ()> = core::result::Result<T, Failure>;

impl Failure {
    /// A failure about the operation as a whole.
    pub(crate) const fn new(call: Call, errno: Errno) -> Self {
        Self { call, detail: 0, errno }
    }
}

/// Gives an errno the call that it answered.
pub(crate) trait Context<T> {
    /// Names the call.
    fn during(self, call: Call) -> Result<T>;
}

impl<T> Context<T> for core::result::Result<T, Errno> {
    fn during(self, call: Call) -> Result<T> {
        self.map_err(|errno| Failure::new(call, errno))
    }
}
