//! The verbs of `nsinit`, the command line of libcontainer.

mod exec;
mod flags;
mod show;
mod source;

use std::path::{Path, PathBuf};

pub use super::page::{completions, help, man};
pub use exec::exec;
pub use show::{config, oom, pause, state, stats, unpause};

use super::arguments::{Invocation, Program, Verb};
use super::failure::{Failure, Outcome};
use super::page;
use super::report::Report;
use super::state_root::state_root;
use clap::Args as _;
use pidone::{Container, Factory, Options, Strategy};
use pidone_config::error::{Code, Error, Result};
use pidone_host::privilege::Caller;

/// The id of a container that is given none.
const DEFAULT_ID: &str = "nsinit";

/// Where the states of root's containers are.
const STATES: &str = "/var/run/nsinit";

/// The program.
pub static PROGRAM: Program = Program {
    name: "nsinit",
    about: "Starts programs in containers",
    notes: "`nsinit help COMMAND` tells more about a command. `nsinit completions SHELL` prints \
            completions for bash, elvish, fish, powershell or zsh, `nsinit man [COMMAND]` a \
            manual page.",
    version: concat!("nsinit version ", env!("CARGO_PKG_VERSION")),
    global: flags::Global::augment_args,
    valued: &["--root", "--log-file"],
    switches: &["--debug", "-h", "--help", "-v", "--version"],
    verbs: &[
        Verb {
            name: "exec",
            alias: None,
            about: "Run a program in a new container, or in the one that runs with this id",
            notes: EXEC,
            hidden: false,
            options: flags::Exec::augment_args,
        },
        Verb {
            name: "config",
            alias: None,
            about: "Print the configuration of a root file system, to keep as container.json",
            notes: "",
            hidden: false,
            options: flags::Config::augment_args,
        },
        Verb {
            name: "init",
            alias: None,
            about: "Explain where the init of containers is",
            notes: "",
            hidden: true,
            options: flags::Init::augment_args,
        },
        Verb {
            name: "oom",
            alias: None,
            about: "Print a line each time the container is out of memory, until it ends",
            notes: "",
            hidden: false,
            options: flags::Id::augment_args,
        },
        Verb {
            name: "pause",
            alias: None,
            about: "Make the processes of the container stand still",
            notes: "",
            hidden: false,
            options: flags::Id::augment_args,
        },
        Verb {
            name: "unpause",
            alias: None,
            about: "Let the processes of the container run again",
            notes: "",
            hidden: false,
            options: flags::Id::augment_args,
        },
        Verb {
            name: "stats",
            alias: None,
            about: "Print what the container uses, as JSON",
            notes: "",
            hidden: false,
            options: flags::Id::augment_args,
        },
        Verb {
            name: "state",
            alias: None,
            about: "Print the state of the container, as JSON",
            notes: "",
            hidden: false,
            options: flags::Id::augment_args,
        },
        Verb {
            name: "help",
            alias: Some("h"),
            about: "Print help about nsinit or a command",
            notes: "",
            hidden: false,
            options: |command| with_global(page::About::augment_args(command)),
        },
        Verb {
            name: "completions",
            alias: None,
            about: "Print completions for a shell",
            notes: "",
            hidden: true,
            options: |command| with_global(page::Completions::augment_args(command)),
        },
        Verb {
            name: "man",
            alias: None,
            about: "Print the manual page of nsinit or a command, in roff",
            notes: "",
            hidden: true,
            options: |command| with_global(page::About::augment_args(command)),
        },
    ],
};

/// Adds the options that every verb takes.
fn with_global(command: clap::Command) -> clap::Command {
    flags::Global::augment_args(command)
}

/// What `nsinit exec --help` says below the options.
const EXEC: &str = "\
The configuration comes from the first of these that is there, and options change it:
  1. the file of --config;
  2. a template for the root file system of --rootfs;
  3. container.json in the current directory, if it belongs to the caller, nobody else may write \
to it, and it has no commands around mounts;
  4. the template for the current directory, if that is not / and holds PROGRAM;
  5. a read-only view of the host's system directories.

Signals to nsinit are passed on to PROGRAM. Where it has no handler they do what they do \
elsewhere, though it is process 1 of its namespace.

The exit status is that of PROGRAM, or 128 and the number of the signal that killed it; 127 if \
PROGRAM is not found, 126 if it cannot be executed, 1 if the container cannot be made.";

/// Tells that there is no init to call.
///
/// # Errors
/// Always.
pub fn init(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    let flags: flags::Init = invocation.parse()?;
    report.configure(flags.global.log_file.as_deref(), flags.global.debug)?;
    let reason = "the init of containers is a program of its own, which nsinit brings and starts";
    Err(Error::reason(Code::ConfigInvalid, "init", "", reason).into())
}

/// The factory for the containers of the caller.
fn factory(global: &flags::Global, caller: &Caller, report: &mut Report) -> Result<Factory> {
    report.configure(global.log_file.as_deref(), global.debug)?;
    let root = match &global.root {
        Some(root) => root.clone(),
        None => state_root(caller, Path::new(STATES))?,
    };
    // One container is not worth a template.
    let options = Options::default().strategy(Strategy::Host);
    Factory::new(root, options)
}

/// The container that a verb is about.
fn container(
    invocation: &Invocation<'_>,
    report: &mut Report,
) -> std::result::Result<Container, Failure> {
    let flags: flags::Id = invocation.parse()?;
    let factory = factory(&flags.global, &Caller::current(), report)?;
    Ok(factory.load(&flags.id)?)
}

/// A path as text for messages.
fn shown(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}
