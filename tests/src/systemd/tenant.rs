//! A runtime on a host with systemd, with its own directory, and names that no other has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::{Host, PERSON, User, host};
use crate::need::BUSYBOX;
use crate::{Call, Finished, Ground, Need, Stop, Way, eventually, leftover};

/// The applets of the busybox in a root file system.
const APPLETS: [&str; 11] =
    ["sh", "cat", "sleep", "true", "ls", "kill", "id", "mknod", "head", "mkdir", "wc"];

/// A runtime, and its user.
#[derive(Debug, Clone, Copy)]
pub struct Runtime {
    name: &'static str,
    program: &'static str,
    user: User,
    suffix: &'static str,
    needs: &'static [Need],
    /// Loads device programs only with `CAP_SYS_RESOURCE`.
    raises_limits: bool,
}

impl Runtime {
    /// The distribution's runc, called by root.
    pub const RUNC: Self = Self {
        name: "runc",
        program: "/usr/sbin/runc",
        user: User::Root,
        suffix: "::runc",
        needs: &[Need::Root, Need::Busybox, Need::File("/usr/sbin/runc", "runc")],
        raises_limits: false,
    };

    /// The distribution's crun, called by root.
    pub const CRUN: Self = Self {
        name: "crun",
        program: "/usr/bin/crun",
        user: User::Root,
        suffix: "::crun",
        needs: &[Need::Root, Need::Busybox, Need::File("/usr/bin/crun", "crun")],
        raises_limits: true,
    };

    /// The `pidone` at this path, called by root.
    #[must_use]
    pub const fn pidone(program: &'static str) -> Self {
        let needs = &[Need::Root, Need::Busybox];
        Self {
            name: "pidone",
            program,
            user: User::Root,
            suffix: "::pidone",
            needs,
            raises_limits: false,
        }
    }

    /// The same, called by an ordinary user, with this at the end of the names of cases.
    #[must_use]
    pub const fn by_person(mut self, suffix: &'static str) -> Self {
        self.user = User::Person;
        self.suffix = suffix;
        self.raises_limits = false;
        self
    }

    /// The path of the program.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The name of the program.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Way for Runtime {
    fn suffix(&self) -> &'static str {
        self.suffix
    }

    fn needs(&self) -> &'static [Need] {
        self.needs
    }
}

/// What one run of a case works in.
#[derive(Debug)]
pub struct Tenant {
    host: Arc<Host>,
    runtime: Runtime,
    /// Part of the names of all its containers and units.
    name: String,
    directory: PathBuf,
    detached: AtomicU32,
}

impl Ground for Tenant {
    type Way = Runtime;

    const WAYS: &'static [Runtime] = &[];

    fn open(_: &str, runtime: Runtime) -> Result<Self, Stop> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if runtime.raises_limits && !may_raise_limits() {
            let name = runtime.name;
            return Err(Stop::Unable(format!("{name} needs CAP_SYS_RESOURCE for devices")));
        }
        let host = host()?;
        // No `-`, which means a nested slice in the name of one.
        let name = format!("tenant{}x", NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = host.path(&name);
        let tenant = Self { host, runtime, name, directory, detached: AtomicU32::new(0) };
        for part in ["", "state", "bundle", "bundle/rootfs"] {
            tenant.mkdir(part);
        }
        for part in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            tenant.mkdir(&format!("bundle/rootfs/{part}"));
        }
        let bin = tenant.path("bundle/rootfs/bin");
        let copied = Command::new("cp").arg(BUSYBOX).arg(bin.join("busybox")).status()?;
        assert!(copied.success());
        for applet in APPLETS {
            symlink("busybox", bin.join(applet))?;
        }
        Ok(tenant)
    }

    fn close(self) -> Vec<String> {
        let states = leftover::states(&self.path("state"));
        // Without a container, the manager may still have to see that a cgroup is empty.
        if states.is_empty() { leftover::settled(|| self.left()) } else { states }
    }
}

/// Whether this process has `CAP_SYS_RESOURCE`.
fn may_raise_limits() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|effective| effective & SYS_RESOURCE != 0)
}

/// A case that fails leaves its containers, and a slice remains until it is stopped.
impl Drop for Tenant {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let _ = self.command(&["delete", "--force", &id]).output();
        }
        let user = self.runtime.user;
        for unit in self.host.units(user, &self.name) {
            self.host.systemctl(user, &["stop", &unit]);
            self.host.systemctl(user, &["reset-failed", &unit]);
        }
    }
}

impl Tenant {
    /// The units and cgroups that are left. Slices that systemd made for units remain, as
    /// they do with every runtime.
    fn left(&self) -> Vec<String> {
        let mut left = self.host.units(self.runtime.user, &self.name);
        left.retain(|unit| !unit.ends_with(".slice"));
        let root = self.host.cgroup("").display().to_string();
        let cgroups = leftover::cgroups(&self.name).into_iter();
        let ours = cgroups.filter(|cgroup| cgroup.contains(&root) && !cgroup.ends_with(".slice"));
        left.extend(ours);
        left
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The user of the runtime.
    #[must_use]
    pub fn user(&self) -> User {
        self.runtime.user
    }

    /// A part for the names of containers and units that no other case has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A `cgroupsPath` in the slice where containers of the user usually are, and the unit that it
    /// means.
    #[must_use]
    pub fn place(&self, part: &str) -> (String, String) {
        let slice = match self.runtime.user {
            User::Root => "system.slice",
            User::Person => "user.slice",
        };
        (format!("{slice}:{}:{part}", self.name), format!("{}-{part}.scope", self.name))
    }

    /// A path in its directory, which is the same outside and inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The same as text.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn own(&self, path: &Path) {
        if self.runtime.user == User::Person {
            chown(path, Some(PERSON), Some(PERSON)).unwrap();
        }
    }

    fn mkdir(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        self.own(&self.path(name));
    }

    /// Writes a file that belongs to the user, and returns its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.own(&self.path(name));
        self.text(name)
    }

    /// The configuration of a container that runs until it is killed, with this `cgroupsPath`.
    #[must_use]
    pub fn config(&self, cgroups_path: &str) -> Value {
        self.config_of(cgroups_path, &["sleep", "infinity"])
    }

    /// The same with another program.
    #[must_use]
    pub fn config_of(&self, cgroups_path: &str, args: &[&str]) -> Value {
        let mut namespaces = vec!["pid", "mount", "uts", "ipc", "cgroup"];
        let mut linux = json!({ "cgroupsPath": cgroups_path });
        if self.runtime.user == User::Person {
            namespaces.push("user");
            linux["uidMappings"] = json!([{ "containerID": 0, "hostID": PERSON, "size": 1 }]);
            linux["gidMappings"] = json!([{ "containerID": 0, "hostID": PERSON, "size": 1 }]);
        } else {
            linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        }
        let namespaces: Vec<Value> =
            namespaces.iter().map(|kind| json!({ "type": kind })).collect();
        linux["namespaces"] = json!(namespaces);
        let capabilities = ["CAP_KILL", "CAP_MKNOD"];
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "args": args,
                "cwd": "/",
                "env": ["PATH=/bin"],
                "user": { "uid": 0, "gid": 0 },
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                  "options": ["nosuid", "noexec", "nodev", "ro"] },
            ],
            "linux": linux,
        })
    }

    /// Writes the configuration of the bundle, and returns its directory.
    pub fn bundle(&self, config: &Value) -> String {
        self.write("bundle/config.json", config.to_string());
        self.text("bundle")
    }

    /// The runtime with its state root and these arguments, and without an option for a driver.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let state = self.text("state");
        let all = [&[self.runtime.program, "--root", &state], arguments].concat();
        self.host.command(self.runtime.user, &all)
    }

    /// Runs the runtime to its end, without an option for a driver.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        Call::start(&mut self.command(arguments)).finish()
    }

    /// Runs a command of the runtime that leaves a process, which must not have the pipes of this
    /// program. Standard output and error go to files.
    pub fn detached(&self, command: &mut Command) -> Finished {
        let number = self.detached.fetch_add(1, Ordering::Relaxed);
        let [output, errors] =
            ["out", "err"].map(|kind| self.write(&format!("{kind}-{number}"), ""));
        command.stdout(File::create(&output).unwrap()).stderr(File::create(&errors).unwrap());
        let mut finished = Call::start(command.stdin(Stdio::null())).finish();
        finished.stdout = fs::read_to_string(output).unwrap();
        finished.stderr = fs::read_to_string(errors).unwrap();
        finished
    }

    /// Makes a container by the systemd driver, and returns how that ended.
    pub fn try_create(&self, id: &str, config: &Value) -> Finished {
        let bundle = self.bundle(config);
        let all = ["--systemd-cgroup", "create", "--bundle", &bundle, id];
        self.detached(&mut self.command(&all))
    }

    /// Makes a container by the systemd driver.
    #[track_caller]
    pub fn create(&self, id: &str, config: &Value) {
        self.try_create(id, config).ok();
    }

    /// Makes a container by the systemd driver, and starts its program.
    #[track_caller]
    pub fn start(&self, id: &str, config: &Value) {
        self.create(id, config);
        self.run(&["start", id]).ok();
        if self.runtime.name == "crun" && self.runtime.user == User::Person {
            // It returns before the program is executed, and until then an ordinary user cannot
            // join the user namespace.
            eventually(|| self.run(&["exec", id, "true"]).code() == 0);
        }
    }

    /// Removes a container, whatever it does.
    #[track_caller]
    pub fn delete(&self, id: &str) {
        self.run(&["delete", "--force", id]).ok();
    }

    /// The state of a container.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(&["state", id]).ok()).unwrap()
    }

    /// The cgroup of cgroup v2 of a container's first process, as the host calls it.
    #[track_caller]
    pub fn cgroup_of(&self, id: &str) -> String {
        self.cgroup_of_process(&self.state(id)["pid"].to_string())
    }

    /// The cgroup of cgroup v2 of a process, whose id is that in the host.
    #[track_caller]
    pub fn cgroup_of_process(&self, pid: &str) -> String {
        let text = self.host.run(User::Root, &["cat", &format!("/proc/{pid}/cgroup")]).ok();
        let line = text.lines().find_map(|line| line.strip_prefix("0::"));
        line.expect(&text).to_owned()
    }

    /// The properties of a unit of the user's manager.
    pub fn unit(&self, name: &str) -> BTreeMap<String, String> {
        self.host.unit(self.runtime.user, name)
    }

    /// Waits until the manager no longer has a unit.
    #[track_caller]
    pub fn waits_for_end_of(&self, unit: &str) {
        let state = || self.host.property(self.runtime.user, unit, "LoadState");
        assert!(eventually(|| state() == "not-found"), "{unit} is {}", state());
    }
}
