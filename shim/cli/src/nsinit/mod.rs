//! The verbs of `nsinit`, the command line of libcontainer.
//!
//! # Adding a verb
//!
//! A new verb touches these places:
//!
//! - `flags.rs`: a struct that derives [`clap::Args`], with the fields of `flags::Global`
//!   flattened into it. Its doc comments are the help.
//! - `show.rs`, or a file named after the verb: the function that executes it. It returns the exit
//!   status.
//! - [`PROGRAM`], the table below: one entry with name, sentence, options and function. The help,
//!   `nsinit completions` and `nsinit man` are generated from the table. Text that is too long for
//!   the help is a roff file in `manual/`.
//! - `shim/cli/tests/nsinit`: the lists of verbs and options in `verbs.rs`, and a case for the
//!   behaviour.
//! - `README.md`: the section "nsinit".
//!
//! An option of all verbs is a field of `flags::Global`, and its name is in [`Program::valued`]
//! or [`Program::switches`], so that it is accepted before the verb too; a test compares them.

mod exec;
mod flags;
mod show;
mod source;

use std::path::{Path, PathBuf};

use super::arguments::{Invocation, Program, Verb};
use super::failure::{Failure, Outcome};
use super::page;
use super::report::Report;
use super::state_root::state_root;
use super::trace;
use clap::Args as _;
use pidone::{Container, Factory, Options, Strategy};
use pidone_config::error::{Code, Error, Result};
use pidone_host::privilege::Caller;

/// The default id of a container.
const DEFAULT_ID: &str = "nsinit";

/// The default directory for the state of containers of root.
const STATES: &str = "/var/run/nsinit";

/// The program.
pub static PROGRAM: Program = Program {
    name: "nsinit",
    about: "Run programs in containers",
    notes: "See `nsinit help COMMAND` for more about a command.",
    manual: &[include_str!("manual/nsinit.roff")],
    version: concat!("nsinit version ", env!("CARGO_PKG_VERSION")),
    global: flags::Global::augment_args,
    valued: &["--root", "--log-file"],
    switches: &["--debug", "-h", "--help", "-v", "--version"],
    verbs: &[
        Verb {
            notes: EXEC,
            manual: &[include_str!("manual/exec.roff"), trace::MANUAL],
            ..Verb::new(
                "exec",
                "Run a program in a new container, or in the running one with this ID",
                flags::Exec::augment_args,
                exec::exec,
            )
        },
        Verb::new(
            "config",
            "Print the configuration for a root file system, to save as container.json",
            flags::Config::augment_args,
            show::config,
        ),
        Verb::hidden(
            "init",
            "Explain where the init of containers is",
            flags::Init::augment_args,
            init,
        ),
        Verb::new(
            "oom",
            "Print a line each time the container runs out of memory, until it exits",
            flags::Id::augment_args,
            show::oom,
        ),
        Verb::new(
            "pause",
            "Suspend all processes of the container",
            flags::Id::augment_args,
            show::pause,
        ),
        Verb::new(
            "unpause",
            "Resume all processes of the paused container",
            flags::Id::augment_args,
            show::unpause,
        ),
        Verb::new(
            "stats",
            "Print the resource usage of the container as JSON",
            flags::Id::augment_args,
            show::stats,
        ),
        Verb::new(
            "state",
            "Print the state of the container as JSON",
            flags::Id::augment_args,
            show::state,
        ),
        Verb {
            alias: Some("h"),
            ..Verb::new(
                "help",
                "Print help about nsinit or a command",
                |command| with_global(page::Help::augment_args(command)),
                page::help,
            )
        },
        Verb::new(
            "completions",
            "Print a completion script for a shell",
            |command| with_global(page::Completions::augment_args(command)),
            page::completions,
        ),
        Verb::new(
            "man",
            "Print a manual page, or write all of them to a directory",
            |command| with_global(page::Manual::augment_args(command)),
            page::man,
        ),
    ],
};

/// Adds the options of all verbs.
fn with_global(command: clap::Command) -> clap::Command {
    flags::Global::augment_args(command)
}

/// The text below the options in the help of `nsinit exec`.
const EXEC: &str = "\
The configuration of a new container comes from the first of these sources that exists. Options \
override it.
  1. the file of --config
  2. the template for the root file system of --rootfs
  3. container.json in the current directory; it must belong to the caller, must not be writable \
by others, and must not run commands around mounts
  4. the template for the current directory, if that is not / and contains PROGRAM
  5. a read-only view of the system directories of the host

Signals to nsinit are forwarded to PROGRAM. A signal that PROGRAM does not handle has its default \
effect, although PROGRAM is process 1 of its PID namespace.

The exit status is that of PROGRAM, 128 plus the number of the signal that killed it, 127 if \
PROGRAM is not found, 126 if it cannot be executed, or 1 if the container cannot be created.";

/// Refuses `nsinit init`. The init of containers cannot be called through `nsinit`.
///
/// # Errors
/// [`Code::ConfigInvalid`], always.
fn init(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let flags: flags::Init = invocation.parse()?;
    report.configure(flags.global.log_file.as_deref(), flags.global.debug)?;
    let reason = "the init of containers is a program of its own, which nsinit brings and starts";
    Err(Error::reason(Code::ConfigInvalid, "init", "", reason).into())
}

/// Opens the log, and the factory for the containers in `--root` or in the caller's default
/// directory.
fn factory(global: &flags::Global, caller: &Caller, report: &mut Report) -> Result<Factory> {
    report.configure(global.log_file.as_deref(), global.debug)?;
    let root = match &global.root {
        Some(root) => root.clone(),
        None => state_root(caller, Path::new(STATES))?,
    };
    // A template process does not pay off for a single container.
    let options = Options::default().strategy(Strategy::Host);
    Factory::new(root, options)
}

/// Loads the container of `--id`, for a verb that has no other options.
fn container(
    invocation: &Invocation<'_>,
    report: &mut Report,
) -> std::result::Result<Container, Failure> {
    let flags: flags::Id = invocation.parse()?;
    let factory = factory(&flags.global, &Caller::current(), report)?;
    Ok(factory.load(&flags.id)?)
}

/// Returns a path as text for messages.
fn display(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
