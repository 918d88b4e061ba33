//! A host with systemd: the distribution's, as process 1 of namespaces on this kernel.
//!
//! [`host`] boots it once for a test program, in about half a second. It has the machine's files in
//! an overlay that is thrown away, cgroup v2 alone, a system bus, and an ordinary user with a
//! manager and a bus of that user; none of the machine's services run in it. `systemd/host.sh` is
//! what makes it and removes it, also when the test program is killed.
//!
//! cgroup v2 has the controllers there that it has on the machine: often none where some are in
//! hierarchies of cgroup v1; see [`Host::controllers`].

mod tenant;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::leftover::CGROUPS;
use crate::{Call, Finished, Need, Stop, eventually, need};

pub use tenant::{Runtime, Tenant};

/// The systemd of the distribution.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// The user id of [`User::Person`].
pub const PERSON: u32 = 2000;

/// The path with the programs of the distribution.
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// Whose command it is, and which manager has the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The user root, and the system's manager.
    Root,
    /// An ordinary user with ranges of ids, and the manager of this user.
    Person,
}

/// A host that runs. Commands run in it and are not part of any login session.
#[derive(Debug)]
pub struct Host {
    directory: TempDir,
    /// The process id of its systemd.
    pid: String,
    /// The cgroup that is the root of its cgroup namespace.
    cgroup: PathBuf,
    /// The script that ends it when its standard input is closed.
    script: Child,
}

/// The host of this test program, or why there is none.
static HOST: Mutex<Option<Result<Arc<Host>, String>>> = Mutex::new(None);

/// Returns the host of this test program, which the first call boots.
///
/// # Errors
/// [`Stop::Lacking`] if the machine lacks what it needs; it did not boot.
pub fn host() -> Result<Arc<Host>, Stop> {
    check()?;
    let mut slot = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    slot.get_or_insert_with(|| Host::boot().map(Arc::new)).clone().map_err(Stop::Failed)
}

/// Ends the host of this test program. The test runner of the harness does so itself.
pub fn end() {
    HOST.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Checks that the machine has what a host needs.
///
/// # Errors
/// [`Stop::Lacking`] if it has not.
pub fn check() -> Result<(), Stop> {
    let files = [
        Need::Root,
        Need::Busybox,
        Need::File(SYSTEMD, "systemd"),
        Need::File("/usr/bin/dbus-daemon", "dbus"),
        Need::File("/usr/lib/systemd/user/dbus.socket", "dbus-user-session"),
    ];
    files.into_iter().try_for_each(Need::check)?;
    for program in ["unshare", "nsenter", "setpriv", "ip"] {
        need::program(program)?;
    }
    Ok(())
}

impl Host {
    fn boot() -> Result<Self, String> {
        let host = Self::try_boot().map_err(|error| format!("no systemd: {error}"))?;
        let ended = || host.path("failed").exists();
        if eventually(|| host.path("ready").exists() || ended()) && !ended() {
            return Ok(host);
        }
        let console = fs::read_to_string(host.path("console")).unwrap_or_default();
        Err(format!("systemd did not boot:\n{console}"))
    }

    /// Starts the script, and waits until it knows the process id.
    fn try_boot() -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("pidone-systemd-").tempdir()?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let own = std::env::current_exe()?;
        let programs = own.ancestors().nth(2).unwrap_or(&own);
        // The name by which what a test program leaves is found.
        let name = format!("pidone-test-{}-systemd", std::process::id());
        let unified = Path::new(CGROUPS).join("unified");
        let unified = if unified.exists() { unified } else { PathBuf::from(CGROUPS) };
        let script = Command::new("sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/host.sh"))
            .arg(&name)
            .args([directory.path(), programs])
            .stdin(Stdio::piped())
            // A terminal interrupts the test program, whose end then ends the host.
            .process_group(0)
            .spawn()?;
        let cgroup = unified.join(name);
        let mut host = Self { directory, pid: String::new(), cgroup, script };
        let pid = || fs::read_to_string(host.path("pid")).unwrap_or_default();
        eventually(|| pid().ends_with('\n') || host.path("failed").exists());
        pid().trim().clone_into(&mut host.pid);
        Ok(host)
    }

    /// A path in the directory that is the same outside and inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the machine has a cgroup that the host calls so.
    #[must_use]
    pub fn cgroup(&self, path: &str) -> PathBuf {
        self.cgroup.join(path.trim_start_matches('/'))
    }

    /// The controllers of cgroup v2 in it.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let text = fs::read_to_string(self.cgroup("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// A command in the host: with this program and arguments, in a cgroup of the user's commands.
    #[must_use]
    pub fn command(&self, user: User, arguments: &[impl AsRef<OsStr>]) -> Command {
        let cgroup = self.cgroup(match user {
            User::Root => "system.slice/commands.service",
            User::Person => {
                "user.slice/user-2000.slice/user@2000.service/app.slice/commands.service"
            }
        });
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 >\"$0/cgroup.procs\"; exec \"$@\""]).arg(cgroup);
        command.args(["nsenter", "--target", &self.pid, "--mount", "--uts", "--ipc", "--net"]);
        command.args(["--cgroup", "--pid", "--root", "--wd", "--"]);
        if user == User::Person {
            let id = PERSON.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--init-groups"]);
        }
        command.args(["env", "-i", PATH]);
        match user {
            User::Root => command.arg("HOME=/root"),
            User::Person => command.args([
                "HOME=/home/person",
                "XDG_RUNTIME_DIR=/run/user/2000",
                "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/2000/bus",
            ]),
        };
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, user: User, arguments: &[impl AsRef<OsStr>]) -> Finished {
        Call::start(&mut self.command(user, arguments)).finish()
    }

    /// Runs systemctl(1) with the user's manager to its end.
    pub fn systemctl(&self, user: User, arguments: &[&str]) -> Finished {
        let manager: &[&str] = match user {
            User::Root => &["systemctl"],
            User::Person => &["systemctl", "--user"],
        };
        self.run(user, &[manager, arguments].concat())
    }

    /// The properties of a unit. One with several values has them in several lines.
    ///
    /// # Panics
    /// They cannot be had.
    pub fn unit(&self, user: User, name: &str) -> BTreeMap<String, String> {
        let mut properties = BTreeMap::<String, String>::new();
        let text = self.systemctl(user, &["show", "--", name]).ok();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let present = properties.entry(key.to_owned()).or_default();
            if !present.is_empty() {
                present.push('\n');
            }
            present.push_str(value);
        }
        properties
    }

    /// One property of a unit; empty if it has none of this name.
    ///
    /// # Panics
    /// It cannot be had.
    pub fn property(&self, user: User, unit: &str, name: &str) -> String {
        let text = self.systemctl(user, &["show", "--value", "--property", name, "--", unit]).ok();
        text.trim_end().to_owned()
    }

    /// The units with this in their names, whatever their states.
    ///
    /// # Panics
    /// They cannot be had.
    pub fn units(&self, user: User, part: &str) -> Vec<String> {
        let list = ["list-units", "--all", "--plain", "--no-legend", "--full", "--no-pager"];
        let text = self.systemctl(user, &list).ok();
        let names = text.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.contains(part)).map(str::to_owned).collect()
    }
}

/// Ends it, and waits until nothing of it is left.
impl Drop for Host {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}
