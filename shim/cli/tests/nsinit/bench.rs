//! What a test stands on: a directory of its own with a state root and a copy of the binary, a
//! way to call it, and a look at what it leaves.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

pub(crate) use crate::call::{Outcome, Program, eventually, find};

/// The ordinary user.
const NOBODY: u32 = 65534;

/// Who calls nsinit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    Ordinary,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Ordinary => "ordinary_user",
        }
    }

    pub(crate) fn needs(self) -> &'static [Need] {
        match self {
            Self::Root => &[Need::Root],
            Self::Ordinary => &[Need::Root, Need::UserNamespaces],
        }
    }
}

/// What a machine may lack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    Root,
    UserNamespaces,
    Busybox,
    /// setsid(1), to give a program a controlling terminal.
    Setsid,
    Python,
    /// A memory cgroup whose limit can be set.
    Memory,
    Freezer,
}

impl Need {
    pub(crate) fn missing(self) -> Option<String> {
        let refused = |reason: &str| Some(reason.to_owned());
        match self {
            Self::Root if !rustix::process::geteuid().is_root() => refused("needs root"),
            Self::UserNamespaces => {
                let unshare = Command::new("unshare").args(["-U", "true"]).uid(NOBODY).status();
                match unshare {
                    Ok(status) if status.success() => None,
                    other => Some(format!("needs user namespaces: unshare(1): {other:?}")),
                }
            }
            Self::Busybox if !Path::new(BUSYBOX).exists() => {
                refused("needs /usr/bin/busybox (package busybox-static)")
            }
            Self::Setsid if !Path::new("/usr/bin/setsid").exists() => {
                refused("needs setsid(1) (package util-linux)")
            }
            Self::Python if !Path::new("/usr/bin/python3").exists() => {
                refused("needs /usr/bin/python3 (package python3)")
            }
            Self::Memory if find(Path::new(CGROUPS), 3, "memory.oom_control").is_none() => {
                refused("needs a cgroup v1 hierarchy with the controller memory")
            }
            Self::Freezer if !Path::new("/sys/fs/cgroup/freezer").exists() => {
                refused("needs a cgroup v1 hierarchy with the controller freezer")
            }
            _ => None,
        }
    }
}

const BUSYBOX: &str = "/usr/bin/busybox";
const CGROUPS: &str = "/sys/fs/cgroup";

/// The ground of one test.
pub(crate) struct Bench {
    pub(crate) who: Who,
    directory: TempDir,
    /// The processes of nsinit that were started: containers' cgroups have their numbers.
    called: Mutex<Vec<u32>>,
    /// The cgroups of containers with a configuration of their own.
    named: Mutex<Vec<String>>,
}

impl Bench {
    pub(crate) fn new(name: &str, who: Who) -> Self {
        let prefix = format!("nsinit-{name}-");
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp").unwrap();
        let bench = Self { who, directory, called: Mutex::default(), named: Mutex::default() };
        fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        bench.own("");
        bench
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        // Of its real path, as root file systems need it.
        let directory = self.directory.path().canonicalize().unwrap();
        if name.is_empty() { directory } else { directory.join(name) }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file that belongs to the caller.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o644)).unwrap();
        self.own(name);
        self.text(name)
    }

    /// Makes a directory that belongs to the caller.
    pub(crate) fn mkdir(&self, name: &str) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        self.own(name);
        self.text(name)
    }

    fn own(&self, name: &str) {
        if self.who == Who::Ordinary {
            chown(self.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Makes a root file system of busybox.
    pub(crate) fn busybox(&self) -> String {
        let root = self.mkdir("busybox");
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            self.mkdir(&format!("busybox/{name}"));
        }
        fs::copy(BUSYBOX, self.path("busybox/bin/busybox")).unwrap();
        for name in ["sh", "cat", "id", "hostname", "sleep", "true", "mount", "ls", "kill"] {
            std::os::unix::fs::symlink("/bin/busybox", self.path("busybox/bin").join(name))
                .unwrap();
        }
        root
    }

    /// A name for a cgroup that no other test has.
    pub(crate) fn cgroup(&self) -> String {
        let name = format!("test-{}-{}", std::process::id(), self.named.lock().unwrap().len());
        let name = format!("{name}-{}", self.path("").file_name().unwrap().to_string_lossy());
        self.named.lock().unwrap().push(name.clone());
        name
    }

    /// The command, as the caller, in a directory that is no root file system.
    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        self.command_of(binary(), arguments)
    }

    /// Another command, as the caller.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/")
            .current_dir("/")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.who == Who::Ordinary {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// The command with the test's own state root.
    pub(crate) fn nsinit(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["--root"]);
        command.arg(self.path("state")).args(arguments);
        command
    }

    /// Starts a command.
    pub(crate) fn start(&self, command: &mut Command) -> Program {
        let program = Program::start(command);
        self.called.lock().unwrap().push(program.pid());
        program
    }

    /// Starts nsinit with the test's own state root.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Program {
        self.start(&mut self.nsinit(arguments))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn finish(&self, command: &mut Command) -> Outcome {
        self.start(command).finish()
    }

    /// Runs nsinit to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.spawn(arguments).finish()
    }

    /// Runs `nsinit exec` to its end.
    #[track_caller]
    pub(crate) fn exec(&self, arguments: &[&str]) -> Outcome {
        self.run(&[&["exec"], arguments].concat())
    }

    /// Runs a shell's line in a container.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> Outcome {
        self.exec(&["/bin/sh", "-c", line])
    }

    /// Starts a container that stays until it is signalled, or told to end by a file.
    pub(crate) fn keep(&self, options: &[&str]) -> Program {
        let line = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"];
        let program = self.spawn(&[&["exec"], options, &line].concat());
        let at = options.iter().position(|option| *option == "--id");
        let id = at.and_then(|at| options.get(at + 1)).unwrap_or(&"nsinit");
        self.wait_for(id);
        program
    }

    /// Waits until a container runs, and answers its state.
    pub(crate) fn wait_for(&self, id: &str) -> serde_json::Value {
        let mut state = serde_json::Value::Null;
        let runs = eventually(|| {
            let outcome = self.run(&["state", "--id", id]);
            if outcome.code() != 0 {
                return false;
            }
            state = serde_json::from_str(&outcome.stdout).unwrap();
            // It is known from the clone on; these are told when the program runs.
            state["namespace_paths"]["NEWPID"].is_string()
        });
        assert!(runs, "{id} does not run");
        state
    }

    /// Nothing of a container may outlive it.
    pub(crate) fn check_nothing_is_left(&self) {
        if let Ok(states) = fs::read_dir(self.path("state")) {
            let states: Vec<_> = states.map(|entry| entry.unwrap().file_name()).collect();
            assert!(states.is_empty(), "states are left: {states:?}");
        }
        let called = self.called.lock().unwrap();
        let mut names: Vec<String> = self.named.lock().unwrap().clone();
        names.extend(called.iter().map(|pid| format!("nsinit-{pid}")));
        names.extend(called.iter().map(|pid| format!("busybox-{pid}")));
        for name in names {
            let left = find(Path::new(CGROUPS), 6, &name);
            assert_eq!(left, None, "a cgroup is left");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.text("");
        assert!(!mounts.contains(&own), "mounts are left: {mounts}");
    }
}

/// Where the binary is, for every user to execute.
static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// The binary.
pub(crate) fn binary() -> &'static Path {
    BINARY.get_or_init(|| {
        let directory = tempfile::Builder::new().prefix("nsinit-binary-").tempdir_in("/tmp");
        let directory = directory.unwrap().keep();
        let path = directory.join("nsinit");
        fs::copy(env!("CARGO_BIN_EXE_nsinit"), &path).unwrap();
        for path in [&directory, &path] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        path
    })
}

/// Removes the binary when all tests are done.
pub(crate) fn remove_binary() {
    if let Some(directory) = BINARY.get().and_then(|path| path.parent()) {
        fs::remove_dir_all(directory).unwrap();
    }
}
