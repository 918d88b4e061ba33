//! The verbs of `pidone`, the OCI runtime: those of runc, with its flags and formats.

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

pub use super::page::{completions, help, man};
pub use control::{delete, kill, pause, resume, start};
pub use create::{create, run};
pub use describe::{features, plan, spec};
pub use events::events;
pub use exec::exec;
pub use init_image::init_image;
pub use list::{list, state};
pub use pool::pool;
pub use ps::ps;
pub use update::update;

use super::arguments::{Invocation, Program, Verb};
use super::failure::{Failure, Outcome};
use super::page;
use super::report::Report;
use super::state_root::state_root;
use flags::Global;
use pidone::{Container, Factory, Options, Strategy};
use pidone_config::error::{Code, Error, Result};
use pidone_host::privilege::Caller;

/// Where the states of root's containers are.
const STATES: &str = "/run/pidone";

/// The program. What `--version` prints has runc's three lines, which docker and containerd parse.
pub static PROGRAM: Program = Program {
    name: "pidone",
    about: "Runs containers as the OCI runtime specification describes them",
    notes: "`pidone help COMMAND` tells more about a command. `pidone completions SHELL` prints \
            completions for bash, elvish, fish, powershell or zsh, `pidone man [COMMAND]` a \
            manual page.",
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
        verb("create", "Make a container from a bundle", flags::Create::augment_args),
        verb("start", "Let the process of a created container run", flags::Id::augment_args),
        verb("run", "Make a container from a bundle, and start it", flags::Run::augment_args),
        Verb {
            notes: EXEC,
            ..verb("exec", "Run a program in a container", flags::Exec::augment_args)
        },
        verb("state", "Print the state of a container, as JSON", flags::Id::augment_args),
        verb("kill", "Send a signal to a container", flags::Kill::augment_args),
        verb("delete", "Remove a container that has ended", flags::Delete::augment_args),
        verb("list", "List the containers", flags::List::augment_args),
        verb("ps", "List the processes of a container", flags::Ps::augment_args),
        verb(
            "events",
            "Print what a container uses, and each time that it is out of memory",
            flags::Events::augment_args,
        ),
        verb("pause", "Make the processes of a container stand still", flags::Id::augment_args),
        verb("resume", "Let the processes of a container run again", flags::Id::augment_args),
        verb("update", "Change the limits of a container", update::Update::augment_args),
        Verb {
            notes: pool::NOTES,
            ..verb("pool", "Lend containers that are ready", pool::Pool::augment_args)
        },
        verb("spec", "Write the configuration of a bundle", flags::Spec::augment_args),
        verb("plan", "Print what the init of a bundle would do", flags::Plan::augment_args),
        verb("features", "Print what this runtime supports", flags::Nothing::augment_args),
        Verb {
            notes: INIT_IMAGE,
            ..verb("init-image", "Write the init as a program", flags::InitImage::augment_args)
        },
        Verb { alias: Some("h"), ..verb("help", "Print help", page::About::augment_args) },
        hidden("completions", "Print completions for a shell", page::Completions::augment_args),
        hidden("man", "Print a manual page, in roff", page::About::augment_args),
        hidden("init", "Explain where the init of containers is", flags::Anything::augment_args),
        hidden("checkpoint", "Refuse to save a container", flags::Anything::augment_args),
        hidden("restore", "Refuse to restore a container", flags::Anything::augment_args),
    ],
};

/// What `pidone exec --help` says below the options.
const EXEC: &str = "\
Options stand before ID: what follows it is the program with its arguments. Without --process, \
what the options do not say is that of the process in config.json.

The exit status is that of the program, or 128 and the number of the signal that killed it; 255 \
if it cannot be started.";

/// What `pidone init-image --help` says below the options.
const INIT_IMAGE: &str = "\
The init is a static program that does what tini, docker-init and catatonit do, with their \
options: dockerd takes it by --init-path, podman by --init-path or `init_path` in containers.conf. \
An image has it as ENTRYPOINT [\"/pidone-init\", \"--\"].

Packages put it at /usr/libexec/pidone/pidone-init, and link docker-init or catatonit to it where \
it is to take their place. `FILE -h` prints its options.";

const fn verb(
    name: &'static str,
    about: &'static str,
    options: fn(clap::Command) -> clap::Command,
) -> Verb {
    Verb { name, alias: None, about, notes: "", hidden: false, options }
}

const fn hidden(
    name: &'static str,
    about: &'static str,
    options: fn(clap::Command) -> clap::Command,
) -> Verb {
    Verb { hidden: true, ..verb(name, about, options) }
}

/// Reads the options before the verb, opens the log, and reads the verb's own: what is wrong with
/// those is told in the log too.
fn begin<T: Args>(
    invocation: &Invocation<'_>,
    report: &mut Report,
) -> std::result::Result<(T, Global), Failure> {
    report.fails_with(1);
    let global: Global = invocation.global()?;
    report.format(global.log_format);
    report.configure(global.log.as_deref(), global.debug)?;
    Ok((invocation.own()?, global))
}

impl Global {
    /// How containers are started.
    fn options() -> Options {
        // One container is not worth a template.
        Options::default().strategy(Strategy::Host)
    }

    /// The factory for the containers of the caller.
    fn factory(&self, options: Options) -> Result<Factory> {
        let Some(root) = &self.root else {
            let root = state_root(&Caller::current(), Path::new(STATES))?;
            let factory = Factory::new(&root, options)?;
            if root != Path::new(STATES) {
                // What cleans up $XDG_RUNTIME_DIR by age leaves sticky files.
                let sticky = fs::Permissions::from_mode(0o1700);
                fs::set_permissions(&root, sticky)
                    .map_err(|error| Error::path("chmod", &root, error))?;
            }
            return Ok(factory);
        };
        Factory::new(root, options)
    }

    /// The container with an id.
    fn container(&self, id: &str) -> Result<Container> {
        self.factory(Self::options())?.load(id)
    }
}

/// Tells that there is no init to call.
///
/// # Errors
/// Always.
pub fn init(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    refuse(
        invocation,
        report,
        "the init of containers is a program of its own, which pidone brings and starts",
    )
}

/// Tells that containers are neither saved nor restored.
///
/// # Errors
/// Always.
pub fn checkpoint(invocation: &Invocation<'_>, report: &mut Report) -> Outcome {
    refuse(invocation, report, "checkpoint and restore are not supported")
}

fn refuse(invocation: &Invocation<'_>, report: &mut Report, reason: &'static str) -> Outcome {
    let (flags::Anything { .. }, _) = begin(invocation, report)?;
    let verb = invocation.verb().unwrap_or_default();
    Err(Error::reason(Code::ConfigInvalid, "command", verb, reason).into())
}
