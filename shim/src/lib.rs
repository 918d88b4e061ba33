//! Starts Linux containers, from a Rust program.
//!
//! This library creates namespaces, cgroups and network interfaces on the host, and compiles a
//! configuration into a plan: a flat list of small operations. A tiny static init, which is part of
//! the library, runs the plan inside the container and then executes the program. The vocabulary is
//! that of libcontainer: a [`Factory`] creates a [`Container`] from a [`Config`]; the container
//! starts a [`Process`], which is then [`Running`].
//!
//! ```no_run
//! use std::path::Path;
//!
//! use pidone::{Config, Factory, Options, Process};
//!
//! fn main() -> pidone::Result<()> {
//!     let factory = Factory::new("/run/example", Options::default())?;
//!     // The host's programs, read-only. `Config::template` is for a root file system of your own.
//!     let mut config = Config::embedded(Path::new("/"))?;
//!     // Gives the container a user namespace, unless the caller is root.
//!     pidone::fit_caller(&mut config)?;
//!     let mut container = factory.create("hello", &config)?;
//!     let args = ["/bin/sh", "-c", "echo hello from $(hostname)"].map(Into::into).into();
//!     let exit = container.start(&Process { args, ..Process::default() })?.wait()?;
//!     container.destroy()?;
//!     println!("it ended with status {}", exit.status());
//!     Ok(())
//! }
//! ```
//!
//! The programs in `shim/examples/` show more: `embed.rs` talks to a program through pipes,
//! `many.rs` runs containers from an event loop, `own_plan.rs` launches a plan without a container.
//!
//! # The pieces
//! ```text
//!  container.json ─┐                                 Factory, Container: state, journal, hooks
//!  config.json ────┤                                                  │
//!    (oci::Bundle) ▼                                                  ▼
//!  your program ─► Config + Process ─► plan::Plan ─► launch ─► clone3, cgroup, network, id maps
//!                                      operations      │               │
//!                                                      │ socket pair   ▼
//!                                                      └────────────► the init in its namespaces:
//!                                                        operations   runs them in order, and
//!                                                      ◄────────────  executes the program
//!                                                        reports
//! ```
//! Each piece can be used without the ones to its left. Modules without a crate in the second
//! column are part of this one; the others are re-exported from crates that can also be used alone:
//!
//! | module | crate | |
//! |---|---|---|
//! | [`config`], [`oci`], [`error`] | `pidone-config` | Configurations as data: `container.json`, and bundles of the OCI runtime specification |
//! | [`cgroup`], [`net`], [`seccomp`], [`user`] | `pidone-host` | Interfaces of the kernel on the host, which know nothing about containers |
//! | [`plan`] | `pidone-plan` | Compiles a configuration and facts about the host to a [`plan::Plan`]; no system calls |
//! | [`launch`], [`Launcher`] | | Clones the init and sends it a plan, also without a container; [`launch::image::EMBEDDED`] is the init |
//! | [`pool`] | | Keeps containers ready and runs programs in them |
//! | [`trace`] | | Records where the time of a start goes |
//!
//! [`first_plan`] compiles the plan of a container without starting anything. A plan prints as
//! text, one operation on a line, and can also be assembled by hand. `pidone-proto` defines the
//! wire between the host and the init. Another container runtime needs only that crate and the
//! init.
//!
//! # Map of the sources
//! ```text
//! launch/      from a plan to a running process
//!   options    how containers are started        image          the init, in sealed memory
//!   clone      clone and exec of the init        channel        messages over the socket
//!   session/   one start: plan, barriers, result outbox         the unsent parts of a plan
//!   spawn      requests to a supervising init    source         descriptors for a plan
//!   template   the mount namespace to copy       worker         threads that clone
//!   stdio      descriptors of the program        check          checks descriptors from the init
//!   id_map     ids of user namespaces            id_mapped      mounts with mapped ids
//!   network    namespaces made in parallel       seccomp_agent  sends listeners to agents
//!   layer      the private layer of a root
//! container/   containers by id, with a state on disk
//!   factory    creates, loads and lists          start/         launches the first process
//!   first      sets up the host for a start      exec/          starts further processes
//!   control    pause, signal, update, statistics park           starts in two parts
//!   end        kills and destroys                hook/          hooks, commands around mounts
//!   state/     state.json, journal, lock, sockets
//!   running    handles for processes             children       waiting and reaping
//!   asynchronous   the handle for tokio
//! pool/        containers that are ready for a program
//! trace/       recordings of starts, as table, JSON and SVG
//! launcher     a launch of a plan without a container
//! ```
//! A file may import only from its own folder and from folders above it in this list, except that
//! all may import [`trace`]; `launcher` imports from `launch` and `container`.
//!
//! # Errors
//! Every error is an [`Error`]. It prints on one line, with the step, the object and the cause, as
//! in ``mount: fsmount `proc` (step 4 of 48): Operation not permitted``. The number is that of the
//! operation in the printed plan. To act on an error, use [`Error::code`], one of libcontainer's
//! classes, or [`Error::errno`], the kernel's error number. A start that fails leaves no process,
//! cgroup or interface on the host. No input makes the library panic.
//!
//! # Threads and async programs
//! The types that a caller keeps are [`Send`] and [`Sync`]. The library prints nothing, handles no
//! signals, and does not change the environment, working directory, umask or limits of the calling
//! process. All its descriptors are close-on-exec. Between clone and exec, the child makes only
//! system calls, so that locks of other threads cannot block it.
//!
//! Calls block: a start takes about a millisecond, [`Container::destroy`] waits until the cgroups
//! are empty, and hooks run to their end. In an event loop, make these calls on a thread for
//! blocking work. With the feature `tokio`, `AsyncRunning` waits for processes; in another event
//! loop, wait for [`Running::pidfd`], which becomes readable when the process ends, and then reap
//! it with [`Running::wait`]. While processes that this program started run in the container,
//! its first process ends only once they are reaped, which [`Running::try_wait`] does. The rest of
//! the program must not reap these children (`waitpid(-1)`, or `SIGCHLD` set to ignore), since that
//! loses their exit status.
//!
//! The library starts some threads itself. The kernel sends a parent-death signal
//! ([`Config::template`] sets one) when the parent *thread* ends, so such a container is cloned by
//! a thread that stays. With [`Strategy::Auto`] and [`Strategy::Template`], a few threads live in
//! an almost empty mount namespace, from which containers are cloned. These threads start when they
//! are first needed and stay. A start may use another thread, which ends with it, to make the
//! network namespace. A [`Pool`] has threads that refill it, until it is dropped.
//!
//! Several handles, also of several processes, may act on the same container. Changes to it are
//! made under a lock on its directory.
//!
//! # When the caller is killed
//! Everything that a container has on the host is recorded in its directory, below that of the
//! factory, before it is made. Whenever the caller is killed, these remain:
//!
//! - the directory;
//! - the process, unless the configuration has [`Config::parent_death_signal`] or the start was not
//!   complete: during the setup, the init exits when its socket is closed;
//! - the cgroups. Interfaces on the host disappear with the process.
//!
//! The next program that calls [`Factory::load`] finds the container running or destroyed, and
//! removes everything with [`Container::kill`] and [`Container::destroy`]. [`Factory::list`]
//! returns the ids. Mounts are in the container's own namespace and disappear with it. Nothing is
//! recorded for processes that [`Launcher`] starts.
//!
//! # Building
//! The build script builds the init from its sources in `init/` by a nested `cargo`. To embed a
//! prebuilt one, set the environment variables `PIDONE_INIT` and `PIDONE_SUPERVISOR` to the files.
//! The programs `pidone` and `nsinit` are in the crate `pidone-cli`.

mod container;
pub mod launch;
pub mod launcher;
pub mod pool;
pub mod trace;

pub use pidone_config::{config, error, oci};
pub use pidone_host::{cgroup, net, seccomp, user};
pub use pidone_plan as plan;

#[cfg(feature = "tokio")]
pub use container::asynchronous::AsyncRunning;
pub use container::factory::Factory;
pub use container::running::{Output, Running, Signaller};
pub use container::start::facts::first_plan;
pub use container::state::State;
pub use container::{ConfigRef, Container, Stats, Status};
pub use launch::options::{Options, Strategy};
pub use launcher::Launcher;
pub use pidone_config::{Code, Config, Error, Ids, Process, Result, Stdio, TerminalSize};
pub use pidone_host::exit::{Exit, Usage};
pub use pidone_plan::fit::fit_caller;
pub use pool::Pool;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    fn is_send_and_sync<T: Send + Sync>() {}

    #[test]
    fn public_handles_are_send_and_sync() {
        is_send_and_sync::<crate::Factory>();
        is_send_and_sync::<crate::Container>();
        is_send_and_sync::<pidone_config::Config>();
        is_send_and_sync::<pidone_config::Process>();
        is_send_and_sync::<crate::Running>();
        is_send_and_sync::<crate::Pool>();
        is_send_and_sync::<crate::pool::Lease>();
        is_send_and_sync::<pidone_plan::Plan>();
        is_send_and_sync::<pidone_config::Error>();
    }
}
