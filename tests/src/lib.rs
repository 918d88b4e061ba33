//! What the tests of whole containers stand on.
//!
//! A [`Case`] is a function that gets a [`Sandbox`]: a root file system, a state directory and
//! names of its own. It starts containers there and looks at what they see, by the [`Report`] of
//! the guest program, or at what the host has. Behind it nothing may be left on the host, which is
//! checked; see [`leftover`].
//!
//! Cases run in parallel in one process, under both launch strategies unless they say otherwise.
//! Some run in a process of their own, in another [`View`]: alone, as an ordinary user, as root of a
//! user namespace, or where the host has nothing but cgroup v2. That one is a private mount namespace in which
//! `/sys/fs/cgroup` is a new cgroup2 file system, so that the machine's own cgroups stay as they
//! are. The environment variable `PIDONE_TEST_CASE` selects such a case; the test program sets it
//! for itself.
//!
//! What a case needs and the machine lacks makes it ignored, with the reason on standard error;
//! with `PIDONE_REQUIRE_ALL=1` it makes it fail.

pub mod canary;
mod case;
pub mod leftover;
pub mod need;
mod program;
mod report;
mod sandbox;
mod view;

pub use case::{Case, Outcome, Stop, completion, main};
pub use program::{GUEST, POSTCARD_INIT, SUPERVISING_INIT, install, script};
pub use report::{
    Capabilities, Descriptor, DeviceNode, Forked, Mount, Read, Report, Root, Terminal,
};
pub use sandbox::{Live, Output, Sandbox, mounts_and_reads, output, process};
pub use view::{DELEGATED, View};
