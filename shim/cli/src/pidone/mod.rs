//! The verbs of `pidone`, the OCI runtime: those of runc, with runc's options and output.
//!
//! # Adding a verb
//!
//! A new verb touches these places:
//!
//! - `flags.rs`: a struct that derives [`clap::Args`]. Its doc comments are the help. Extend the
//!   tests there with a line that clients call and with lines that must be refused.
//! - A file named after the verb, or one with related verbs: the function that executes it. It
//!   begins with `begin`, and returns the exit status.
//! - [`PROGRAM`], the table below: one entry with name, sentence, options and function. The help,
//!   `pidone completions` and `pidone man` are generated from the table. Text that is too long for
//!   the help is a roff file in `manual/`.
//! - `shim/cli/tests/pidone`: the list of verbs in `line.rs`, and a case for the behaviour. If
//!   podman, docker or containerd call the verb, also `tests/clients`.
//! - `README.md`: the list of verbs in "pidone, the OCI runtime".
//!
//! An option that is allowed before the verb is a field of `Global` in `flags.rs`, and its name
//! is in [`Program::valued`] or [`Program::switches`]; a test compares them.

mod console_setup;
mod control;
mod create;
mod describe;
mod descriptor;
mod duration;
mod events;
mod exec;
mod flags;
mod init_image;
mod list;
mod notify;
mod pool;
mod ps;
mod read;
mod update;
mod usage;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Args;

use super::arguments::{Invocation, Program, Verb};
use super::failure::{Failure, Outcome};
use super::page;
use super::report::Report;
use super::state_root::state_root;
use super::trace;
use flags::Global;
use pidone::{Container, Factory, Options, Strategy};
use pidone_config::error::{Code, Error, Result};
use pidone_host::privilege::Caller;

/// The default directory for the state of containers of root.
const STATES: &str = "/run/pidone";

/// The program. `--version` prints the three lines of runc, which docker and containerd parse.
pub static PROGRAM: Program = Program {
    name: "pidone",
    about: "Create and run containers according to the OCI Runtime Specification",
    notes: "See `pidone help COMMAND` for more about a command.",
    manual: &[include_str!("manual/pidone.roff")],
    version: concat!(
        "pidone version ",
        env!("CARGO_PKG_VERSION"),
        "\ncommit: ",
        env!("PIDONE_COMMIT"),
        "\nspec: 1.3.0"
    ),
    global: Global::augment_args,
    valued: &["--root", "--log", "--log-format", "--rootless", "--cgroup-manager", "--criu"],
    switches: &["--debug", "--systemd-cgroup", "-h", "--help", "-v", "--version"],
    verbs: &[
        Verb {
            manual: &[trace::MANUAL],
            ..Verb::new(
                "create",
                "Create a container from a bundle",
                flags::Create::augment_args,
                create::create,
            )
        },
        Verb::new(
            "start",
            "Start the process of a created container",
            flags::Id::augment_args,
            control::start,
        ),
        Verb {
            manual: &[include_str!("manual/run.roff"), trace::MANUAL],
            ..Verb::new(
                "run",
                "Create and start a container from a bundle",
                flags::Run::augment_args,
                create::run,
            )
        },
        Verb {
            notes: EXEC,
            manual: &[trace::MANUAL],
            ..Verb::new(
                "exec",
                "Run a program in a container",
                flags::Exec::augment_args,
                exec::exec,
            )
        },
        Verb::new(
            "state",
            "Print the state of a container as JSON",
            flags::Id::augment_args,
            list::state,
        ),
        Verb::new("kill", "Send a signal to a container", flags::Kill::augment_args, control::kill),
        Verb::new(
            "delete",
            "Delete a container that is not running",
            flags::Delete::augment_args,
            control::delete,
        ),
        Verb::new("list", "List containers", flags::List::augment_args, list::list),
        Verb::new("ps", "List the processes of a container", flags::Ps::augment_args, ps::ps),
        Verb::new(
            "events",
            "Print resource statistics and out-of-memory events of a container",
            flags::Events::augment_args,
            events::events,
        ),
        Verb::new(
            "pause",
            "Suspend all processes of a container",
            flags::Id::augment_args,
            control::pause,
        ),
        Verb::new(
            "resume",
            "Resume all processes of a paused container",
            flags::Id::augment_args,
            control::resume,
        ),
        Verb::new(
            "update",
            "Change the resource limits of a container",
            update::Update::augment_args,
            update::update,
        ),
        Verb {
            notes: pool::NOTES,
            manual: &[include_str!("manual/pool.roff")],
            ..Verb::new(
                "pool",
                "Keep containers ready and run programs in them",
                pool::Pool::augment_args,
                pool::pool,
            )
        },
        Verb::new(
            "spec",
            "Write a config.json to start from",
            flags::Spec::augment_args,
            describe::spec,
        ),
        Verb::new(
            "plan",
            "Print the operations that would start the process of a bundle",
            flags::Plan::augment_args,
            describe::plan,
        ),
        Verb::new(
            "features",
            "Print the supported features as JSON",
            flags::NoOptions::augment_args,
            describe::features,
        ),
        Verb {
            notes: INIT_IMAGE,
            manual: &[include_str!("manual/init-image.roff")],
            ..Verb::new(
                "init-image",
                "Write the init to a file, as a standalone program",
                flags::InitImage::augment_args,
                init_image::init_image,
            )
        },
        Verb {
            alias: Some("h"),
            ..Verb::new(
                "help",
                "Print help about pidone or a command",
                page::Help::augment_args,
                page::help,
            )
        },
        Verb::new(
            "completions",
            "Print a completion script for a shell",
            page::Completions::augment_args,
            page::completions,
        ),
        Verb::new(
            "man",
            "Print a manual page, or write all of them to a directory",
            page::Manual::augment_args,
            page::man,
        ),
        Verb::hidden(
            "init",
            "Explain where the init of containers is",
            flags::Ignored::augment_args,
            init,
        ),
        Verb::hidden(
            "checkpoint",
            "Refuse to save a container",
            flags::Ignored::augment_args,
            checkpoint,
        ),
        Verb::hidden(
            "restore",
            "Refuse to restore a container",
            flags::Ignored::augment_args,
            checkpoint,
        ),
    ],
};

/// The text below the options in the help of `pidone exec`.
const EXEC: &str = "\
Options must precede ID: everything after it is the program with its arguments. Without --process, \
settings that no option changes are those of the process in config.json.

The exit status is that of the program, 128 plus the number of the signal that killed it, or 255 \
if it cannot be started.";

/// The text below the options in the help of `pidone init-image`.
const INIT_IMAGE: &str = "\
The init is a static program that can replace tini, docker-init and catatonit, and accepts their \
options. dockerd uses it with --init-path, podman with --init-path or `init_path` in \
containers.conf, and an image with ENTRYPOINT [\"/pidone-init\", \"--\"].

Packages install it as /usr/libexec/pidone/pidone-init, and link docker-init or catatonit to it \
where it replaces them. `FILE -h` prints its options.";

/// Parses the options before the verb, opens the log, and parses the options of the verb.
///
/// In this order an error in the options of the verb is also written to the log.
///
/// # Errors
/// [`Failure::Usage`] if an option is wrong; [`Code::SystemError`] if the log cannot be opened.
fn begin<T: Args>(
    invocation: &Invocation<'_>,
    report: &mut Report,
) -> std::result::Result<(T, Global), Failure> {
    report.set_failure_status(1);
    let global: Global = invocation.parse_global()?;
    report.set_log_format(global.log_format);
    report.configure(global.log.as_deref(), global.debug)?;
    if global.log.is_some() {
        // As runc: podman and containerd write `pidone: ` themselves.
        report.leave_out_name();
    }
    if global.debug {
        let version = env!("CARGO_PKG_VERSION");
        report.debug(&format_args!("pidone {version}: {}", invocation.verb_name()));
    }
    Ok((invocation.parse_verb()?, global))
}

impl Global {
    /// Returns how containers are started.
    fn options() -> Options {
        // A template process does not pay off for a single container.
        Options::default().strategy(Strategy::Host)
    }

    /// Opens the factory for the containers in `--root`, or in the caller's default directory.
    fn factory(&self, options: Options) -> Result<Factory> {
        let Some(root) = &self.root else {
            let root = state_root(&Caller::current(), Path::new(STATES))?;
            let factory = Factory::new(&root, options)?;
            if root != Path::new(STATES) {
                // Programs that clean up $XDG_RUNTIME_DIR by age do not remove sticky files.
                let sticky = fs::Permissions::from_mode(0o1700);
                fs::set_permissions(&root, sticky)
                    .map_err(|error| Error::path("chmod", &root, error))?;
            }
            return Ok(factory);
        };
        Factory::new(root, options)
    }

    /// Loads the container with an id.
    fn container(&self, id: &str) -> Result<Container> {
        self.factory(Self::options())?.load(id)
    }
}

/// Refuses `pidone init`. The init of containers cannot be called through `pidone`.
///
/// # Errors
/// [`Code::ConfigInvalid`], always.
fn init(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    refuse(
        invocation,
        report,
        "the init of containers is a program of its own, which pidone brings and starts",
    )
}

/// Refuses `pidone checkpoint` and `pidone restore`.
///
/// # Errors
/// [`Code::ConfigInvalid`], always.
fn checkpoint(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    refuse(invocation, report, "checkpoint and restore are not supported")
}

fn refuse(invocation: &Invocation<'_>, report: &mut Report, reason: &'static str) -> Outcome {
    let (flags::Ignored { .. }, _) = begin(invocation, report)?;
    Err(Error::reason(Code::ConfigInvalid, "command", invocation.verb_name(), reason).into())
}
