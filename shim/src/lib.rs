//! Starts Linux containers: a library in the vocabulary of libcontainer.
//!
//! A [`Factory`] makes a [`Container`] from a [`Config`]; the container starts a [`Process`], which
//! is then [`Running`]:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use pidone::{Config, Factory, Options, Process};
//!
//! fn main() -> pidone::Result<()> {
//!     let factory = Factory::new("/run/example", Options::default())?;
//!     // The host's programs, read-only; `Config::template` is for a root file system of one's own.
//!     let mut config = Config::embedded(Path::new("/"))?;
//!     // Root changes nothing by it; everybody else gets a user namespace.
//!     pidone::fit_caller(&mut config)?;
//!     let mut container = factory.create("hello", &config)?;
//!     let args = ["/bin/sh", "-c", "echo hello from $(hostname)"].map(String::from).into();
//!     let exit = container.start(&Process { args, ..Process::default() })?.wait()?;
//!     container.destroy()?;
//!     println!("it ended with status {}", exit.status());
//!     Ok(())
//! }
//! ```
//!
//! # The pieces
//! ```text
//!  container.json ─┐                                 Factory, Container: state, journal, hooks
//!  config.json ────┤                                                  │
//!    (oci::Bundle) ▼                                                  ▼
//!  your program ─► Config + Process ─► plan::Plan ─► launch ─► clone3, cgroup, network, id maps
//!                  what is asked for   operations      │               │
//!                                                      │ socket pair   ▼
//!                                                      └────────────► the init in its namespaces:
//!                                                        operations   runs one operation after
//!                                                      ◄────────────  the other, and executes
//!                                                        reports      the program
//! ```
//! Each piece can be used without those to its left:
//!
//! - [`config`] is what is asked for, in libcontainer's terms; [`oci`] reads bundles of the OCI
//!   runtime specification into it.
//! - [`plan`] is what the init is told. [`first_plan`] compiles it and starts nothing; a
//!   [`plan::Plan`] prints as text, one operation on a line, and can be put together by hand.
//! - [`launch`] has the init as a static program, [`launch::image::EMBEDDED`], and
//!   [`Launcher`], which runs a plan of one's own in new namespaces, without a container.
//! - `pidone_proto` is the wire between both sides, without this library: who has a container
//!   runtime already can start that program and send it operations.
//! - [`cgroup`], [`net`], [`seccomp`] and [`user`] know the host's interfaces, and nothing of
//!   containers.
//!
//! `shim/examples/` has a program for each way: `embed.rs`, `own_plan.rs`, and `many.rs` for an
//! event loop. The feature `cli`, which is on by default, is for the programs `nsinit` and `pidone`
//! alone; libraries do without it and its dependencies. Building needs `cargo` itself: the init is
//! built from its sources beside this crate, or taken from the file that the environment variable
//! `PIDONE_INIT` names.
//!
//! # Errors
//! Every error is an [`Error`]: the step, the object, the cause, in one line, as in
//! ``mount: fsmount `proc` (step 4 of 48): Operation not permitted``. The number is that of the
//! operation in the plan, as it is printed. [`Error::code`] is one of libcontainer's classes, to act
//! on without reading the text; [`Error::errno`] the kernel's answer. A start that fails leaves no
//! process, cgroup or interface behind. Input is never answered with a panic.
//!
//! # Threads and async programs
//! What a caller keeps is [`Send`] and [`Sync`]. The library prints nothing, handles no signal, and changes
//! neither environment, working directory, umask nor limits of the calling process; every
//! descriptor is close-on-exec. Between clone and exec the child makes system calls only, so that
//! other threads may hold any lock.
//!
//! Calls block: a start for a millisecond or so, [`Container::destroy`] until cgroups are empty,
//! hooks as long as they run. An event loop makes them on a thread for such, and waits for
//! [`Running::pidfd`], which becomes readable at the end of the process; [`Running::wait`] then
//! reaps it. Nobody else may reap children of the program (`waitpid(-1)`, `SIGCHLD` ignored), or the
//! exit is lost.
//!
//! A container with a parent-death signal ([`Config::template`] has one) is cloned by a thread of
//! the library's own, since the kernel sends that signal when the *thread* ends; with
//! [`Strategy::Auto`] a few threads live in an almost empty mount namespace. They are made at the
//! first start that needs them and stay. Several handles, also of several processes, may act on one
//! container: what changes it is done under a lock in its directory.
//!
//! # When the caller is killed
//! What a container has on the host is written down before it is made, in its directory below the
//! factory's. At whatever moment the caller ends, that directory stays, and with it:
//!
//! - the process, unless the configuration has [`Config::parent_death_signal`]; during the setup the
//!   init ends when its socket closes;
//! - its cgroups, until somebody destroys it. Interfaces on the host go with the process.
//!
//! The next program that calls [`Factory::load`] finds the container, as one that runs or as
//! destroyed; [`Container::kill`] and [`Container::destroy`] remove everything. [`Factory::list`]
//! tells what there is. Mounts are in the container's own namespace and go with it. What
//! [`Launcher`] starts is written down nowhere.

mod container;
pub mod launch;
pub mod launcher;
pub mod pool;
pub mod trace;

pub use pidone_config::{config, error, oci};
pub use pidone_host::{cgroup, net, seccomp, user};
pub use pidone_plan as plan;

pub use container::factory::Factory;
pub use container::running::Running;
pub use container::start::facts::first_plan;
pub use container::state::State;
pub use container::{Container, Stats, Status};
pub use launch::options::{Options, Strategy};
pub use launcher::Launcher;
pub use pidone_config::{Code, Config, Error, Ids, Process, Result, Stdio, TerminalSize};
pub use pidone_host::exit::{Exit, Usage};
pub use pidone_plan::fit::fit_caller;
pub use pool::Pool;

/// The README's example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// What is said of threads.
#[cfg(test)]
mod tests {
    fn crosses_threads<T: Send + Sync>() {}

    #[test]
    fn everything_that_a_caller_holds_crosses_threads() {
        crosses_threads::<crate::Factory>();
        crosses_threads::<crate::Container>();
        crosses_threads::<pidone_config::Config>();
        crosses_threads::<pidone_config::Process>();
        crosses_threads::<crate::Running>();
        crosses_threads::<crate::Pool>();
        crosses_threads::<crate::pool::Lease>();
        crosses_threads::<pidone_plan::Plan>();
        crosses_threads::<pidone_config::Error>();
    }
}
