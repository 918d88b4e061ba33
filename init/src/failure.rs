//! How an operation fails: the system call and its errno.
//!
//! A failure does not say which file or mount it is about: the host wrote the plan and knows the
//! operation by its number. So a failure fits into a register, which keeps the image small, and
//! the host never has to print a string that a container may have written.

use pidone_proto::Call;
use rustix::io::Errno;

/// The exit status of an init that failed itself, as in docker, podman and env(1).
pub(crate) const EXIT_STATUS: u8 = 125;

/// A failed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The system call, or the rule that was broken.
    pub(crate) call: Call,
    /// Which one of several things in the operation: an option of a mount, a candidate of exec.
    pub(crate) detail: u16,
    /// The errno.
    pub(crate) errno: Errno,
}

/// The result of an operation.
pub(crate) type Result<T = ()> = core::result::Result<T, Failure>;

impl Failure {
    /// A failure of the operation as a whole.
    pub(crate) const fn new(call: Call, errno: Errno) -> Self {
        Self { call, detail: 0, errno }
    }

    /// A plan that ended and has not executed a program.
    pub(crate) const NO_PROGRAM: Self = Self::new(Call::Decode, Errno::NODATA);

    /// A message that is not allowed here.
    pub(crate) const fn unexpected(call: Call) -> Self {
        Self::new(call, Errno::PROTO)
    }
}

/// Adds the system call to an errno.
pub(crate) trait Context<T> {
    /// Names the call.
    fn during(self, call: Call) -> Result<T>;
}

impl<T> Context<T> for core::result::Result<T, Errno> {
    fn during(self, call: Call) -> Result<T> {
        self.map_err(|errno| Failure::new(call, errno))
    }
}
