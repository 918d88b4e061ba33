//! The options of `nsinit` and of its verbs. Their doc comments are the help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use pidone_config::config::{CreateOptions, NamespaceChoice, Security, size};

use super::DEFAULT_ID;
use crate::{signals, trace};

/// The options of all verbs.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Directory for the state of containers [default: /var/run/nsinit, for ordinary users
    /// $XDG_RUNTIME_DIR/nsinit]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,

    /// Also append errors to this file; details go there alone
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,

    /// Report details, and how long each step of a start took
    #[arg(long)]
    pub(super) debug: bool,
}

/// `nsinit exec`.
#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub(super) args: Vec<OsString>,

    /// Allocate a terminal for the program
    #[arg(short, long)]
    pub(super) tty: bool,

    /// ID of the container
    #[arg(long, default_value = DEFAULT_ID)]
    pub(super) id: String,

    /// File with the configuration of the container
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// User of the program, and group, by name or ID: USER[:GROUP] [default: root]
    #[arg(short, long, value_name = "USER")]
    pub(super) user: Option<String>,

    /// Working directory of the program [default: /]
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<String>,

    /// Set an environment variable, besides PATH, HOSTNAME, TERM and HOME; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<OsString>,

    #[arg(long, value_name = "FILE", value_parser = trace::target, help = trace::HELP)]
    pub(super) trace: Option<trace::Target>,

    #[command(flatten)]
    pub(super) create: Create,

    #[command(flatten)]
    pub(super) global: Global,
}

/// `nsinit config`.
#[derive(Debug, Args)]
pub(super) struct Config {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) create: Create,

    #[command(flatten)]
    pub(super) global: Global,
}

/// The options of verbs for an existing container.
#[derive(Debug, Args)]
pub(super) struct Id {
    /// ID of the container
    #[arg(long, default_value = DEFAULT_ID)]
    pub(super) id: String,

    #[command(flatten)]
    pub(super) global: Global,
}

/// `nsinit init`, which accepts and ignores all arguments, as libcontainer's nsinit took them.
#[derive(Debug, Args)]
pub(super) struct Init {
    #[arg(trailing_var_arg = true, hide = true)]
    ignored: Vec<String>,

    #[command(flatten)]
    pub(super) global: Global,
}

/// The options that override a configuration.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Container options")]
pub(super) struct Create {
    /// Directory of the root file system
    #[arg(long, value_name = "DIR")]
    pub(super) rootfs: Option<PathBuf>,

    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,

    /// Bind mount a file or directory of the host; may be repeated
    #[arg(long, value_name = "SRC:DST[:ro|rw]")]
    bind: Vec<String>,

    /// Mount a tmpfs; may be repeated
    #[arg(long, value_name = "DST")]
    tmpfs: Vec<String>,

    /// Have systemd make the cgroup, as a scope
    #[arg(long)]
    systemd: bool,

    /// Mount the cgroups of the container
    #[arg(long)]
    cgroup: bool,

    /// Run an init as process 1 that reaps orphans, forwards signals and starts further processes
    #[arg(long)]
    init: bool,

    /// Host name [default: nsinit]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,

    /// Signal to send to the program when nsinit ends, by name or number; 0 for none
    #[arg(long, value_name = "SIGNAL", value_parser = signals::parse)]
    parent_death_signal: Option<i32>,

    /// CPU shares, relative to other cgroups
    #[arg(long, value_name = "SHARES", allow_negative_numbers = true)]
    cpushares: Option<i64>,

    /// CPUs to use, for example 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Memory nodes to use, for example 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,

    /// Memory limit, in bytes or with the suffix k, m or g
    #[arg(long, value_name = "SIZE", value_parser = memory, allow_negative_numbers = true)]
    memory_limit: Option<i64>,

    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", value_parser = memory, allow_negative_numbers = true)]
    memory_swap: Option<i64>,

    /// Swappiness, 0 to 100; -1 keeps that of the host
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,

    /// Profile of capabilities, resource limits and system calls: high, medium or low
    #[arg(long, value_name = "PROFILE", value_parser = security)]
    security: Option<Security>,

    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor_profile: Option<String>,

    /// SELinux label of processes
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// SELinux label of mounts
    #[arg(long, value_name = "LABEL")]
    mount_label: Option<String>,

    /// Add a supplementary group, by name or ID; may be repeated
    #[arg(long, value_name = "GROUP")]
    groups: Vec<String>,

    /// Set a kernel parameter; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,

    /// Create a user namespace in which root is this user and group ID of the host
    #[arg(long, value_name = "UID")]
    userns_root_uid: Option<u32>,

    /// Network namespace: private, host, or the path of one to join; with host, /sys is not mounted
    /// for ordinary users
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    net: Option<NamespaceChoice>,

    /// IPC namespace, like --net
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    ipc: Option<NamespaceChoice>,

    /// PID namespace, like --net
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    pid: Option<NamespaceChoice>,

    /// UTS namespace, like --net
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    uts: Option<NamespaceChoice>,

    /// Mount namespace, like --net
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace)]
    mnt: Option<NamespaceChoice>,

    /// Add the interface eth0, connected to this bridge of the host
    #[arg(long, value_name = "BRIDGE")]
    veth_bridge: Option<String>,

    /// IP address of eth0
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    veth_address: Option<String>,

    /// Gateway of eth0
    #[arg(long, value_name = "ADDRESS")]
    veth_gateway: Option<String>,

    /// MTU of eth0
    #[arg(long, value_name = "BYTES")]
    veth_mtu: Option<u32>,
}

impl From<Create> for CreateOptions {
    fn from(flags: Create) -> Self {
        Self {
            rootfs: flags.rootfs,
            read_only: flags.read_only,
            supervise: flags.init,
            hostname: flags.hostname,
            parent_death_signal: flags.parent_death_signal,
            binds: flags.bind,
            tmpfs: flags.tmpfs,
            mount_cgroup: flags.cgroup,
            systemd: flags.systemd,
            cpu_shares: flags.cpushares,
            memory_limit: flags.memory_limit,
            memory_swap: flags.memory_swap,
            memory_swappiness: flags.memory_swappiness,
            cpuset_cpus: flags.cpuset_cpus,
            cpuset_mems: flags.cpuset_mems,
            security: flags.security,
            apparmor_profile: flags.apparmor_profile,
            process_label: flags.process_label,
            mount_label: flags.mount_label,
            groups: flags.groups,
            sysctls: flags.sysctl,
            userns_root_uid: flags.userns_root_uid,
            net: flags.net,
            ipc: flags.ipc,
            pid: flags.pid,
            uts: flags.uts,
            mnt: flags.mnt,
            veth_bridge: flags.veth_bridge,
            veth_address: flags.veth_address,
            veth_gateway: flags.veth_gateway,
            veth_mtu: flags.veth_mtu,
        }
    }
}

fn memory(text: &str) -> Result<i64, &'static str> {
    size::parse(text).ok_or("must be a number of bytes, or one with k, m, g or t as in 64m")
}

fn security(text: &str) -> Result<Security, &'static str> {
    text.parse().map_err(|_| "must be high, medium or low")
}

fn namespace(text: &str) -> Result<NamespaceChoice, &'static str> {
    text.parse().map_err(|_| "must be private, host or an absolute path")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::PROGRAM;
    use super::*;
    use crate::arguments::Invocation;
    use crate::failure::{Failure, one_line};

    fn parse<T: Args>(line: &[&str]) -> Result<T, String> {
        let line = line.iter().map(OsString::from);
        let parsed = Invocation::split(&PROGRAM, line).and_then(|invocation| invocation.parse());
        parsed.map_err(|failure| match failure {
            Failure::Usage { error, caller } => one_line(&error, &caller),
            Failure::Error(error) => error.to_string(),
            Failure::OutputClosed => String::new(),
        })
    }

    fn created(line: &[&str]) -> CreateOptions {
        let line = [&["config"], line].concat();
        parse::<Config>(&line).unwrap().create.into()
    }

    #[test]
    fn the_parsers_are_consistent() {
        PROGRAM.command().debug_assert();
        assert_eq!(PROGRAM.unlisted_options(), Vec::<String>::new());
    }

    #[test]
    fn options_end_at_the_program_without_a_separator() {
        let exec: Exec = parse(&["exec", "--tty", "/bin/bash"]).unwrap();
        assert!(exec.tty);
        assert_eq!(exec.args, ["/bin/bash"]);
        assert_eq!(exec.id, "nsinit");
        let line = ["--debug", "exec", "-t", "-u", "1:2", "-e", "A=1", "--env", "B=", "sh", "-t"];
        let exec: Exec = parse(&line).unwrap();
        assert_eq!(exec.args, ["sh", "-t"]);
        assert_eq!(exec.env, ["A=1", "B="]);
        assert_eq!(exec.user.as_deref(), Some("1:2"));
        assert!(exec.global.debug);
    }

    #[test]
    fn every_container_option_reaches_the_configuration() {
        let line = [
            "--rootfs",
            "/r",
            "--read-only",
            "--bind",
            "/a:/b",
            "--bind=/c:/d:ro",
            "--tmpfs",
            "/t",
            "--systemd",
            "--cgroup",
            "--hostname",
            "h",
            "--parent-death-signal",
            "sigterm",
            "--cpushares",
            "2",
            "--cpuset-cpus",
            "0",
            "--cpuset-mems",
            "1",
            "--memory-limit",
            "64m",
            "--memory-swap",
            "-1",
            "--init",
            "--memory-swappiness",
            "-1",
            "--security",
            "low",
            "--apparmor-profile",
            "ap",
            "--process-label",
            "pl",
            "--mount-label",
            "ml",
            "--groups",
            "g",
            "--groups",
            "7",
            "--sysctl",
            "k=v",
            "--userns-root-uid",
            "1000",
            "--net",
            "host",
            "--ipc",
            "",
            "--pid",
            "/proc/1/ns/pid",
            "--uts",
            "private",
            "--mnt=",
            "--veth-bridge",
            "br",
            "--veth-address",
            "10.0.0.2/24",
            "--veth-gateway",
            "10.0.0.1",
            "--veth-mtu",
            "1400",
        ];
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            created(&line),
            CreateOptions {
                rootfs: Some("/r".into()),
                read_only: true,
                hostname: text("h"),
                parent_death_signal: Some(libc::SIGTERM),
                binds: vec!["/a:/b".into(), "/c:/d:ro".into()],
                tmpfs: vec!["/t".into()],
                mount_cgroup: true,
                systemd: true,
                supervise: true,
                cpu_shares: Some(2),
                memory_limit: Some(64 << 20),
                memory_swap: Some(-1),
                memory_swappiness: Some(-1),
                cpuset_cpus: text("0"),
                cpuset_mems: text("1"),
                security: Some(Security::Low),
                apparmor_profile: text("ap"),
                process_label: text("pl"),
                mount_label: text("ml"),
                groups: vec!["g".into(), "7".into()],
                sysctls: vec!["k=v".into()],
                userns_root_uid: Some(1000),
                net: Some(NamespaceChoice::Host),
                ipc: Some(NamespaceChoice::Private),
                pid: Some(NamespaceChoice::Join("/proc/1/ns/pid".into())),
                uts: Some(NamespaceChoice::Private),
                mnt: Some(NamespaceChoice::Private),
                veth_bridge: text("br"),
                veth_address: text("10.0.0.2/24"),
                veth_gateway: text("10.0.0.1"),
                veth_mtu: Some(1400),
            }
        );
        assert_eq!(created(&[]), CreateOptions::default());
    }

    #[test]
    fn an_error_names_the_option_and_its_wrong_value() {
        for (line, said) in [
            (&["--net", "bridge"][..], "invalid value 'bridge' for '--net <NAMESPACE>': must be"),
            (&["--memory-limit", "1x"], "invalid value '1x' for '--memory-limit <SIZE>': must be"),
            (&["--security", "none"], "invalid value 'none' for '--security <PROFILE>': must be"),
            (&["--userns-root-uid", "-1"], "unexpected argument '-1' found"),
            (&["--parent-death-signal", "65"], "must be from 0 to 64"),
            (&["--parent-death-signal", "SIGFOO"], "no such signal"),
            (&["--cpushares", "x"], "invalid value 'x' for '--cpushares <SHARES>'"),
            (&["--hostname"], "a value is required for '--hostname <NAME>'"),
            (&["--bogus"], "unexpected argument '--bogus' found"),
            (&["stray"], "unexpected argument 'stray' found"),
        ] {
            let error = parse::<Config>(&[&["config"], line].concat()).unwrap_err();
            assert!(error.contains(said), "{line:?}: {error}");
            assert!(error.ends_with("see nsinit config --help)"), "{error}");
        }
    }
}
