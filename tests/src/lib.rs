//! The test harness: what all test programs of this workspace are made of.
//!
//! A [`Case`] is a function that gets its own [`Ground`]: a [`Sandbox`] for containers of the
//! library, a [`Bench`] for the command lines `pidone` and `nsinit`, a [`Subject`] for an init
//! without a library. After it nothing may be left on the host, which is checked; see [`leftover`].
//!
//! Cases run in parallel in one process. Some run in their own process, in another [`View`]:
//! alone, as an ordinary user, as root of a user namespace, or where the host has nothing but
//! cgroup v2. That one is a private mount namespace in which `/sys/fs/cgroup` is a new cgroup2 file
//! system, so that the machine's own cgroups stay as they are. The environment variable
//! `PIDONE_TEST_CASE` selects such a case; the test program sets it for itself.
//!
//! A case whose [`Need`] the machine lacks is ignored, with the reason on standard error; with
//! `PIDONE_REQUIRE_ALL=1` it fails. Tests wait for events with [`eventually`], and not for a time.

mod bench;
mod call;
pub mod canary;
mod case;
pub mod leftover;
pub mod need;
mod person;
mod program;
mod python;
mod report;
mod sandbox;
mod subject;
pub mod systemd;
pub mod trace;
pub mod uml;
mod view;
mod wait;

pub use bench::{Bench, Caller, Who, set};
pub use call::{Call, Finished};
pub use case::{
    Case, Ground, Outcome, SELECTED, Stop, Way, completion, main, names, run_trials, trials,
};
pub use need::Need;
pub use person::Person;
pub use program::{GUEST, init_image, install, script, supervising_image};
pub use python::{python, python_container};
pub use report::{
    Capabilities, Descriptor, DeviceNode, Forked, Mount, Read, Report, Root, Terminal,
};
pub use sandbox::{Launch, Live, Output, Sandbox, mounts_and_reads, output, process};
pub use subject::{Place, Running, Subject, children, send, status};
pub use view::{DELEGATED, View};
pub use wait::{DEADLINE, eventually, stop, until};
