//! `pidone` as podman, buildah, containerd and docker use it.
//!
//! Each client has a script here, with its checks. It runs once with the cgroups of the machine
//! and, where the client can, once where there is only cgroup v2, and once on a host with systemd
//! and by the systemd cgroup driver. A script can be run by hand with any runtime: `bash
//! tests/clients/podman.sh /usr/sbin/runc host`, or all of them with
//! `PIDONE_CLIENT_RUNTIME=/usr/sbin/runc`.
//!
//! Not part of a plain `cargo test`: `cargo test --test clients`. Needs root and the clients.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use pidone_tests::systemd::User;
use pidone_tests::{Outcome, Stop, completion, need, systemd};

/// A client, the programs without which its script does not work, and the views of the cgroups
/// that it can be used in; see `client.sh`.
struct Client {
    name: &'static str,
    programs: &'static [&'static str],
    views: &'static [&'static str],
    /// Whether it gives every container a share of the processor, with or without a controller.
    needs_controllers: bool,
}

/// The client whose script an ordinary user runs.
const ROOTLESS: &str = "rootless";

/// The view of a host with systemd.
const SYSTEMD: &str = "systemd";

const ALL: &[&str] = &["host", "v2", SYSTEMD];

const CLIENTS: [Client; 7] = [
    Client {
        name: "podman",
        programs: &["podman", "conmon", "catatonit"],
        views: ALL,
        needs_controllers: false,
    },
    Client { name: "buildah", programs: &["buildah"], views: ALL, needs_controllers: false },
    Client {
        name: "containerd",
        programs: &["containerd", "ctr"],
        views: ALL,
        needs_controllers: false,
    },
    Client {
        name: "cri",
        programs: &["containerd", "ctr", "protoc", "/usr/bin/python3", PYTHON_GRPC],
        views: &["host", SYSTEMD],
        needs_controllers: true,
    },
    // podman of an ordinary user, by the cgroupfs driver, and by systemd.
    Client {
        name: "podman-rootless",
        programs: &["podman", "conmon", "newuidmap", "setpriv", "/etc/subuid", "/etc/subgid"],
        views: &["host", "v2"],
        needs_controllers: false,
    },
    Client {
        name: ROOTLESS,
        programs: &["podman", "conmon", "newuidmap"],
        views: &[SYSTEMD],
        needs_controllers: false,
    },
    Client {
        name: "docker",
        programs: &["dockerd", "docker", "docker-init"],
        views: ALL,
        needs_controllers: false,
    },
];

/// A module of Debian's Python.
const PYTHON_GRPC: &str = "/usr/lib/python3/dist-packages/grpc/__init__.py";

/// What every script calls.
const COMMON: [&str; 5] = ["busybox", "unshare", "script", "ip", "iptables"];

/// How long a script may take. The longest takes less than one minute on two processors.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long it may take to end what it started, after SIGTERM.
const FAREWELL: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Daemons with their containers are enough for a machine, one at a time.
    arguments.test_threads = Some(1);
    let runs =
        CLIENTS.iter().flat_map(|client| client.views.iter().map(move |view| (client, view)));
    let trials = runs.map(|(client, view)| {
        let name = format!("{}::{view}", client.name);
        Trial::ignorable_test(name.clone(), move || completion(&name, client.run(view)))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    systemd::end();
    conclusion.exit_code()
}

impl Client {
    /// Runs the script, and expects that every check held.
    fn run(&self, view: &str) -> Outcome {
        if !Uid::effective().is_root() {
            return Err(Stop::Lacking("not root".to_owned()));
        }
        for program in self.programs.iter().chain(&COMMON) {
            need::program(program)?;
        }
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let script = |directory: &Path| directory.join(self.name).with_extension("sh");
        let runtime = runtime()?;
        let mut command = if view == SYSTEMD {
            let host = systemd::host()?;
            if self.needs_controllers && !host.controllers().iter().any(|name| name == "cpu") {
                return Err(Stop::Unable("cgroup v2 has no controllers here".to_owned()));
            }
            // Where the sources are may not be seen in it.
            let copied =
                Command::new("cp").arg("-r").arg(&directory).arg(host.path("")).status()?;
            assert!(copied.success(), "{copied}");
            let script = script(&host.path("clients"));
            let arguments = [OsStr::new("bash"), script.as_os_str(), runtime.as_os_str()];
            let user = if self.name == ROOTLESS { User::Person } else { User::Root };
            let mut command = host.command(user, &arguments);
            command.arg(view);
            command
        } else {
            let mut command = Command::new("bash");
            command.arg(script(&directory)).arg(runtime).arg(view);
            command
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let script = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(script.id())?);
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let output = script.wait_with_output();
            // Nobody listens if it took too long.
            let _ = sender.send(());
            output
        });
        let in_time = receiver.recv_timeout(TIMEOUT).is_ok();
        if !in_time {
            // It ends its namespaces and removes its cgroups.
            kill(pid, Signal::SIGTERM)?;
            if receiver.recv_timeout(FAREWELL).is_err() {
                kill(pid, Signal::SIGKILL)?;
            }
        }
        let output = waiter.join().map_err(|_| Stop::Failed("the waiting thread".to_owned()))??;
        let said = String::from_utf8_lossy(&output.stdout);
        let finished = said.lines().any(|line| line == "finished: 0 failed");
        if in_time && finished && output.status.success() {
            return Ok(());
        }
        let wrong: Vec<&str> = said.lines().filter(|line| !line.starts_with("check: ok")).collect();
        let end = if in_time { output.status.to_string() } else { "took too long".to_owned() };
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(Stop::Failed(format!("{end}\n{}\n{errors}", wrong.join("\n"))))
    }
}

/// The variable with the path of a runtime that takes the place of `pidone`, as a reference.
const RUNTIME: &str = "PIDONE_CLIENT_RUNTIME";

/// The program `pidone`, as it is built now: of this profile, beside the test programs.
fn runtime() -> Result<PathBuf, Stop> {
    if let Some(other) = std::env::var_os(RUNTIME) {
        return Ok(PathBuf::from(other));
    }
    let own = std::env::current_exe()?;
    let profile = own.ancestors().nth(2).ok_or("no directory of a profile")?;
    let program = profile.join("pidone");
    // The tests of another package do not make cargo build it.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--bin", "pidone"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = build.current_dir(workspace).stdin(Stdio::null()).output()?;
    if !built.status.success() {
        return Err(Stop::Failed(String::from_utf8_lossy(&built.stderr).into_owned()));
    }
    Ok(program)
}
