//! What a test stands on: a directory of its own with a state root and bundles, a way to call the
//! binary, and a look at what it leaves.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use crate::call::{Outcome, Program, eventually, find};

/// What a machine may lack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    Root,
    Busybox,
    /// A memory cgroup whose limit can be set.
    Memory,
    Freezer,
    /// ps(1), with `-ef`.
    Ps,
    UserNamespaces,
    Strace,
}

/// The variable that all commands of a test have, with its name.
const MARK: &str = "PIDONE_TEST";

/// The ordinary user.
pub(crate) const NOBODY: u32 = 65534;

const BUSYBOX: &str = "/usr/bin/busybox";
const CGROUPS: &str = "/sys/fs/cgroup";

impl Need {
    pub(crate) fn missing(self) -> Option<String> {
        let exists = |path: &str| Path::new(path).exists();
        let (there, lacking) = match self {
            Self::Root => (rustix::process::geteuid().is_root(), "needs root"),
            Self::Busybox => (exists(BUSYBOX), "needs /usr/bin/busybox (package busybox-static)"),
            Self::Memory => (
                find(Path::new(CGROUPS), 3, "memory.oom_control").is_some(),
                "needs a cgroup v1 hierarchy with the controller memory",
            ),
            Self::Freezer => (
                exists("/sys/fs/cgroup/freezer"),
                "needs a cgroup v1 hierarchy with the controller freezer",
            ),
            Self::UserNamespaces => {
                let mut unshare = Command::new("unshare");
                let made = unshare.args(["-U", "true"]).uid(NOBODY).status();
                (made.is_ok_and(|status| status.success()), "needs user namespaces for all users")
            }
            Self::Strace => {
                let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
                (traced.is_ok_and(|status| status.success()), "needs strace(1), and to trace")
            }
            Self::Ps => (exists("/usr/bin/ps"), "needs ps(1) (package procps)"),
        };
        (!there).then(|| lacking.to_owned())
    }
}

/// The ground of one test.
pub(crate) struct Bench {
    directory: TempDir,
    /// The cgroup of its containers; no other test has the name.
    cgroup: String,
}

/// A test that fails leaves its containers, which would hold up whoever reads its output.
impl Drop for Bench {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
            let mut command = self.command(&["delete", "--force", "--"]);
            let _ = command.arg(entry.file_name()).output();
        }
    }
}

impl Bench {
    pub(crate) fn new(name: &str) -> Self {
        let prefix = format!("pidone-{name}-");
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp").unwrap();
        let unique = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let bench = Self { directory, cgroup: format!("{unique}-{}", std::process::id()) };
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(bench.path("rootfs").join(name)).unwrap();
        }
        let copied = Command::new("cp").arg(BUSYBOX).arg(bench.path("rootfs/bin/busybox")).status();
        assert!(copied.unwrap().success());
        for name in
            ["sh", "cat", "ln", "id", "sleep", "true", "ls", "kill", "readlink", "tty", "env"]
        {
            symlink("/bin/busybox", bench.path("rootfs/bin").join(name)).unwrap();
        }
        bench
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    /// The name of the cgroups of this test's containers.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The configuration of a container that runs a program.
    pub(crate) fn config(&self, args: &[&str]) -> Value {
        let namespaces: Vec<Value> = ["pid", "mount", "uts", "ipc", "network"]
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        let capabilities = ["CAP_KILL", "CAP_CHOWN"];
        json!({
            "ociVersion": "1.3.0",
            "process": {
                "args": args,
                "cwd": "/",
                "env": ["PATH=/bin", "FROM=bundle"],
                "user": { "uid": 0, "gid": 0 },
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "root": { "path": self.path("rootfs"), "readonly": true },
            "hostname": "box",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["newinstance", "ptmxmode=0666"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
            ],
            "annotations": { "org.example.key": "value" },
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{}", self.cgroup) },
        })
    }

    /// Writes a bundle, and answers its directory.
    pub(crate) fn bundle(&self, config: &Value) -> String {
        fs::create_dir_all(self.path("bundle")).unwrap();
        self.write("bundle/config.json", config.to_string());
        self.text("bundle")
    }

    /// The command with the test's own state root.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pidone"));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env(MARK, &self.cgroup)
            .current_dir(self.directory.path())
            .arg("--root")
            .arg(self.path("state"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.finish(&mut self.command(arguments))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn finish(&self, command: &mut Command) -> Outcome {
        Program::start(command).finish()
    }

    /// Makes a container that stays, and lets it run. What it prints goes nowhere: it outlives the
    /// command.
    #[track_caller]
    pub(crate) fn keep(&self, id: &str, config: &Value) {
        self.create(id, config);
        self.run(&["start", id]).ok();
    }

    /// Makes a container.
    #[track_caller]
    pub(crate) fn create(&self, id: &str, config: &Value) {
        let bundle = self.bundle(config);
        self.detached(&["create", "--bundle", &bundle, id]);
    }

    /// Runs a command to its end that leaves a process, which must not have its pipes.
    #[track_caller]
    pub(crate) fn detached(&self, arguments: &[&str]) {
        assert_eq!(self.quietly(arguments), (0, String::new()), "{arguments:?}");
    }

    /// Runs a command that must fail, and answers its one line. Should it succeed, the process that
    /// it leaves does not have its pipes.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let (code, said) = self.quietly(arguments);
        assert_eq!((code, said.lines().count()), (1, 1), "{arguments:?}: {said}");
        let line = said.strip_prefix("pidone: ").and_then(|said| said.strip_suffix('\n'));
        line.filter(|line| !line.contains(char::is_control)).expect(&said).to_owned()
    }

    /// Runs a command without the test's pipes; its status and what it said on standard error.
    #[track_caller]
    pub(crate) fn quietly(&self, arguments: &[&str]) -> (i32, String) {
        let log = self.path("detached.log");
        let errors = fs::File::create(&log).unwrap();
        let mut command = self.command(arguments);
        let outcome = self.finish(command.stdout(Stdio::null()).stderr(errors));
        (outcome.code(), fs::read_to_string(&log).unwrap())
    }

    /// The configuration of a container that stays until it is told to end.
    pub(crate) fn staying(&self) -> Value {
        self.config(&["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"])
    }

    /// The state of a container.
    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(&["state", id]).ok()).unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, id: &str, status: &str) {
        assert!(eventually(|| self.state(id)["status"] == status), "{id} is not {status}");
    }

    /// Removes a container, whatever it does.
    #[track_caller]
    pub(crate) fn delete(&self, id: &str) {
        self.run(&["delete", "--force", id]).ok();
    }

    /// Nothing of a container may outlive it.
    pub(crate) fn check_nothing_is_left(&self) {
        if let Ok(states) = fs::read_dir(self.path("state")) {
            let states: Vec<_> = states.map(|entry| entry.unwrap().file_name()).collect();
            assert!(states.is_empty(), "states are left: {states:?}");
        }
        assert_eq!(find(Path::new(CGROUPS), 6, &self.cgroup), None, "a cgroup is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.text("")), "mounts are left: {mounts}");
        let mut links = fs::read_dir("/sys/class/net").unwrap().flatten();
        let owner = self.text("state");
        let link = links.find(|link| {
            // It names whom an interface belongs to.
            let alias = fs::read_to_string(link.path().join("ifalias"));
            alias.is_ok_and(|alias| alias.contains(&owner))
        });
        assert!(link.is_none(), "an interface is left: {link:?}");
        // Those that were just killed take a moment for their end.
        assert!(eventually(|| self.processes().is_empty()), "left: {:?}", self.processes());
    }

    /// The commands of this test, and all processes that see one of its roots.
    fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.cgroup);
        let directory = self.text("");
        let contains = |file: &Path, text: &str| {
            let bytes = fs::read(file).unwrap_or_default();
            bytes.windows(text.len()).any(|part| part == text.as_bytes())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        entries
            .filter(|path| path.join("stat").is_file())
            .filter(|path| {
                contains(&path.join("environ"), &mark)
                    || contains(&path.join("mountinfo"), &directory)
            })
            .map(|path| {
                let line = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
                format!("{} {}", path.display(), line.replace('\0', " "))
            })
            .collect()
    }
}

/// Sets a property of a document, by the names and numbers on the way to it.
pub(crate) fn set(document: &mut Value, place: &str, value: Value) {
    let mut at = document;
    for name in place.split('/') {
        at = match name.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[name],
        };
    }
    *at = value;
}
