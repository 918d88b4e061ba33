//! The options of `pidone` and of its verbs. Their doc comments are the help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{report, signals, trace};

/// The options before the verb.
#[derive(Debug, Default, Args)]
pub(super) struct Global {
    /// Directory for the state of containers [default: /run/pidone, for ordinary users
    /// $XDG_RUNTIME_DIR/pidone]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,

    /// Also append errors to this file; details go there alone. On standard error they then have no
    /// `pidone: ` before them, since a client reads it
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,

    /// Format of the log file
    #[arg(long, value_name = "text|json", default_value = "text", hide_possible_values = true)]
    pub(super) log_format: report::Format,

    /// Report details, and how long each step of a start took
    #[arg(long)]
    pub(super) debug: bool,

    /// Have systemd make the cgroup, as a scope
    #[arg(long)]
    pub(super) systemd_cgroup: bool,

    /// Whether to run without the cgroups that the caller cannot create
    #[arg(
        long,
        value_name = "true|false|auto",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(super) rootless: Rootless,

    /// How cgroups are managed [default: systemd for a path of a scope, else cgroupfs]
    #[arg(long, value_name = "cgroupfs|disabled|systemd", hide_possible_values = true)]
    pub(super) cgroup_manager: Option<CgroupManager>,

    /// Accepted and ignored
    #[arg(long, hide = true)]
    criu: Option<PathBuf>,
}

/// Whether a container may run without its cgroup if the caller cannot create it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Rootless {
    /// Yes for ordinary users and in user namespaces, else no.
    #[default]
    Auto,
    /// Yes.
    #[value(alias = "1", alias = "t")]
    True,
    /// No.
    #[value(alias = "0", alias = "f")]
    False,
}

/// How cgroups are managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CgroupManager {
    /// By this program.
    Cgroupfs,
    /// Not at all: the container stays in the cgroup of the caller.
    Disabled,
    /// By systemd.
    Systemd,
}

/// `pidone plan`.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Directory of the bundle
    #[arg(value_name = "BUNDLE", default_value = ".")]
    pub(super) bundle: PathBuf,
}

/// The id of a container.
#[derive(Debug, Args)]
pub(super) struct Id {
    /// ID of the container
    #[arg(value_name = "ID")]
    pub(super) id: String,
}

/// How a process is connected to the caller: terminal, descriptors, and where its ID is reported.
#[derive(Debug, Default, Args)]
pub(super) struct ConsoleSetup {
    /// Unix socket to send the master of the terminal to
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,

    /// Unix socket to send a pidfd of the process to
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,

    /// File to write the process ID to
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,

    /// Number of file descriptors, from 3 on, to pass to the process
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) preserve_fds: u32,

    #[arg(long, value_name = "FILE", value_parser = trace::target, help = trace::HELP)]
    pub(super) trace: Option<trace::Target>,
}

/// `pidone create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    pub(super) id: Id,

    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,

    /// Move the root file system to / instead of using pivot_root(2), as needed on an initial ramfs
    #[arg(long)]
    pub(super) no_pivot: bool,

    /// Do not create a new session keyring; the process keeps that of the caller
    #[arg(long)]
    pub(super) no_new_keyring: bool,

    /// Run an init as process 1 that reaps orphans, forwards signals and starts further processes
    #[arg(long)]
    pub(super) init: bool,

    #[command(flatten)]
    pub(super) setup: ConsoleSetup,
}

/// `pidone run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) create: Create,

    /// Do not wait for the container to exit
    #[arg(short, long)]
    pub(super) detach: bool,

    /// Do not delete the container when it exits
    #[arg(long)]
    pub(super) keep: bool,

    /// Accepted and ignored: pidone is never a subreaper
    #[arg(long)]
    no_subreaper: bool,
}

/// `pidone exec`.
#[derive(Debug, Default, Args)]
pub(super) struct Exec {
    /// ID of the container, the program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "ID> <PROGRAM")]
    pub(super) line: Vec<OsString>,

    /// File with the process, in the format of config.json
    #[arg(short, long, value_name = "FILE")]
    pub(super) process: Option<PathBuf>,

    /// Do not wait for the process to exit
    #[arg(short, long)]
    pub(super) detach: bool,

    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<String>,

    /// Set an environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<OsString>,

    /// Allocate a terminal for the process
    #[arg(short, long)]
    pub(super) tty: bool,

    /// Numeric user and group ID
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    pub(super) user: Option<(u32, Option<u32>)>,

    /// Add a numeric supplementary group ID; may be repeated
    #[arg(short = 'g', long, value_name = "GID", value_delimiter = ',')]
    pub(super) additional_gids: Vec<u32>,

    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub(super) process_label: Option<String>,

    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub(super) apparmor: Option<String>,

    /// Set no_new_privs: executing a program grants no privileges
    #[arg(long)]
    pub(super) no_new_privs: bool,

    /// Add a capability; may be repeated
    #[arg(short, long, value_name = "CAPABILITY")]
    pub(super) cap: Vec<String>,

    /// Run in this cgroup below that of the container; may be repeated
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub(super) cgroup: Vec<String>,

    /// Also start the process in a paused container; it runs once the container is resumed
    #[arg(long)]
    pub(super) ignore_paused: bool,

    /// Accepted and ignored: pidone is never a subreaper
    #[arg(long, hide = true)]
    no_subreaper: bool,

    #[command(flatten)]
    pub(super) setup: ConsoleSetup,
}

/// `pidone kill`.
#[derive(Debug, Args)]
pub(super) struct Kill {
    #[command(flatten)]
    pub(super) id: Id,

    /// Signal, by name or number
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = signals::parse)]
    pub(super) signal: i32,

    /// Send the signal to all processes of the container
    #[arg(short, long, hide = true)]
    pub(super) all: bool,
}

/// `pidone delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    pub(super) id: Id,

    /// Kill the container first if it is running; succeed if it does not exist
    #[arg(short, long)]
    pub(super) force: bool,
}

/// The output format of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for people.
    Table,
    /// JSON for programs.
    Json,
}

/// `pidone list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Output format
    #[arg(
        short,
        long,
        value_name = "table|json",
        default_value = "table",
        hide_possible_values = true
    )]
    pub(super) format: Format,

    /// Print only the IDs
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// `pidone ps`.
#[derive(Debug, Args)]
pub(super) struct Ps {
    /// ID of the container, and options for ps(1) [default: -ef]
    #[arg(required = true, trailing_var_arg = true, value_name = "ID> <OPTION")]
    pub(super) line: Vec<OsString>,

    /// Output format
    #[arg(
        short,
        long,
        value_name = "table|json",
        default_value = "table",
        hide_possible_values = true
    )]
    pub(super) format: Format,
}

/// `pidone events`.
#[derive(Debug, Args)]
pub(super) struct Events {
    #[command(flatten)]
    pub(super) id: Id,

    /// Interval between statistics, for example 500ms, 5s or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = super::duration::parse)]
    pub(super) interval: std::time::Duration,

    /// Print the statistics once and exit
    #[arg(long)]
    pub(super) stats: bool,
}

/// `pidone spec`.
#[derive(Debug, Args)]
pub(super) struct Spec {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(super) bundle: PathBuf,

    /// Write a configuration for an ordinary user, who becomes root in a user namespace
    #[arg(long)]
    pub(super) rootless: bool,
}

/// `pidone init-image`.
#[derive(Debug, Args)]
pub(super) struct InitImage {
    /// Write the init of `run --init` instead; it serves requests and cannot run by itself
    #[arg(long)]
    pub(super) supervise: bool,

    /// File to write [default: standard output, which is also `-`]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// The options of a verb that has none.
#[derive(Debug, Args)]
pub(super) struct NoOptions {}

/// `pidone init`, `checkpoint` and `restore`, which accept and ignore everything.
#[derive(Debug, Args)]
pub(super) struct Ignored {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    ignored: Vec<String>,
}

/// Parses a numeric user ID, or user and group ID. Signs and spaces are refused.
fn user(text: &str) -> Result<(u32, Option<u32>), &'static str> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let parsed = match text.split_once(':') {
        None => number(text).map(|uid| (uid, None)),
        Some((uid, gid)) => number(uid).and_then(|uid| number(gid).map(|gid| (uid, Some(gid)))),
    };
    parsed.ok_or("must be numbers, as in 1000 or 1000:100")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{PROGRAM, update};
    use super::*;
    use crate::arguments::Invocation;
    use crate::failure::{Failure, one_line};

    fn message(failure: Failure) -> String {
        match failure {
            Failure::Usage { error, caller } => one_line(&error, &caller),
            Failure::Error(error) => error.to_string(),
            Failure::OutputClosed => String::new(),
        }
    }

    fn parse<T: Args>(line: &str) -> Result<(Global, T), String> {
        let line = line.split_whitespace().map(OsString::from);
        let invocation = Invocation::split(&PROGRAM, line).map_err(message)?;
        Ok((invocation.parse_global().map_err(message)?, invocation.parse_verb().map_err(message)?))
    }

    #[test]
    fn the_parsers_are_consistent() {
        PROGRAM.command().debug_assert();
        assert_eq!(PROGRAM.unlisted_options(), Vec::<String>::new());
    }

    #[test]
    fn command_lines_of_clients_are_parsed() {
        let (global, create): (_, Create) = parse(
            "--root /r --log /b/log.json --log-format json create --bundle /b --pid-file /p \
             --console-socket /s x",
        )
        .unwrap();
        assert_eq!(global.root, Some("/r".into()));
        assert_eq!(
            (global.log, global.log_format),
            (Some("/b/log.json".into()), report::Format::Json)
        );
        assert_eq!((create.id.id.as_str(), create.bundle), ("x", "/b".into()));
        assert_eq!(create.setup.console_socket, Some("/s".into()));

        let (global, create): (_, Create) = parse(
            "--log-format=json --log=/l --cgroup-manager disabled --rootless=true create x -b /b",
        )
        .unwrap();
        assert_eq!(global.cgroup_manager, Some(CgroupManager::Disabled));
        assert_eq!(global.rootless, Rootless::True);
        assert_eq!((create.id.id.as_str(), create.bundle), ("x", "/b".into()));

        let (global, exec): (_, Exec) =
            parse("--systemd-cgroup exec --process /p --detach --pid-file /f x").unwrap();
        assert!(global.systemd_cgroup && exec.detach && exec.process.is_some());
        let (_, run): (_, Run) = parse("run -d --keep --no-subreaper --preserve-fds 2 x").unwrap();
        assert!(run.detach && run.keep);
        assert_eq!(run.create.setup.preserve_fds, 2);

        for line in ["kill --all x 9", "kill x 9 --all", "kill -a x KILL", "kill x -a sigkill"] {
            let (_, kill): (_, Kill) = parse(line).unwrap();
            assert_eq!((kill.id.id.as_str(), kill.signal, kill.all), ("x", 9, true), "{line}");
        }
        let (_, kill): (_, Kill) = parse("kill x").unwrap();
        assert_eq!((kill.signal, kill.all), (libc::SIGTERM, false));
        for line in ["delete --force x", "delete x --force", "delete -f x", "delete x -f"] {
            assert!(parse::<Delete>(line).unwrap().1.force, "{line}");
        }
        let (_, ps): (_, Ps) = parse("ps --format json x").unwrap();
        assert_eq!((ps.format, ps.line), (Format::Json, vec!["x".into()]));
        let (_, ps): (_, Ps) = parse("ps x -o pid -f").unwrap();
        assert_eq!((ps.format, ps.line.len()), (Format::Table, 4));
        for line in [
            "update --resources=/f x",
            "update --resources - x",
            "update x -r -",
            "update --memory 64m --pids-limit -1 --cpu-quota -1 --kernel-memory 5 x",
        ] {
            parse::<update::Update>(line).unwrap();
        }
        let (_, events): (_, Events) = parse("events --interval 100ms --stats x").unwrap();
        assert_eq!((events.interval.as_millis(), events.stats), (100, true));
    }

    #[test]
    fn arguments_after_the_id_of_exec_are_the_program() {
        let (_, exec): (_, Exec) = parse(
            "exec -t -u 1:2 -e A=1 --env B= -g 3 --additional-gids 4 -c CAP_KILL --cgroup cpu:/x \
             --ignore-paused --no-new-privs x sh -t --user 7 -- -p",
        )
        .unwrap();
        assert!(exec.tty && exec.ignore_paused && exec.no_new_privs);
        assert_eq!(exec.line, ["x", "sh", "-t", "--user", "7", "--", "-p"]);
        assert_eq!((exec.user, exec.additional_gids), (Some((1, Some(2))), vec![3, 4]));
        assert_eq!(
            (exec.env, exec.cap),
            (vec!["A=1".into(), "B=".into()], vec!["CAP_KILL".into()])
        );
    }

    #[test]
    fn wrong_options_are_refused() {
        for (line, reason) in [
            ("exec --user x x sh", "must be numbers"),
            ("exec --user 1:2:3 x sh", "must be numbers"),
            ("exec --user +1 x sh", "must be numbers"),
            ("exec --user 4294967296 x sh", "must be numbers"),
            ("exec --user 1: x sh", "must be numbers"),
            ("exec -g -1 x sh", "unexpected argument '-1'"),
            ("exec", "required arguments"),
            ("--bogus exec x sh", "option `--bogus`: unknown"),
            ("--log-format xml exec x sh", "invalid value 'xml'"),
        ] {
            let error = parse::<Exec>(line).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        for line in ["kill x 65", "kill x SIGFOO", "kill x 9 9", "kill", "kill x --force"] {
            assert!(parse::<Kill>(line).is_err(), "{line}");
        }
        assert!(parse::<Create>("create x y").is_err());
        assert!(parse::<Create>("create x --root /r").is_err());
        assert!(parse::<Events>("events --interval 0s x").is_err());
        assert!(parse::<List>("list -f xml").is_err());
    }
}
