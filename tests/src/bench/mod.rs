//! A directory, a state root and a program to call: for the tests of the command lines.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nsinit;
mod oci;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::leftover::{self, CGROUPS, MARK};
use crate::need::{BUSYBOX, NOBODY, Need};
use crate::{Call, Finished, Ground, Stop, Way, install};

pub use oci::set;

/// The root file system of the bundles of a bench.
const ROOT: &str = "rootfs";

/// The applets of the busybox in a root file system.
const APPLETS: [&str; 13] = [
    "sh", "cat", "ln", "id", "sleep", "true", "ls", "kill", "readlink", "tty", "env", "hostname",
    "mount",
];

/// The user who runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The user root.
    Root,
    /// A user without any privilege.
    Ordinary,
}

/// The program that the cases of a test program run, and its user.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    program: &'static str,
    who: Who,
    suffix: &'static str,
    needs: &'static [Need],
    bundles: bool,
}

impl Caller {
    /// Root calls the program at this path.
    #[must_use]
    pub const fn root(program: &'static str) -> Self {
        Self { program, who: Who::Root, suffix: "", needs: &[Need::Root], bundles: false }
    }

    /// An ordinary user calls the program at this path.
    #[must_use]
    pub const fn ordinary(program: &'static str) -> Self {
        let needs = &[Need::Root, Need::UserNamespaces];
        Self { program, who: Who::Ordinary, suffix: "", needs, bundles: false }
    }

    /// Adds this to the names of the cases.
    #[must_use]
    pub const fn named(mut self, suffix: &'static str) -> Self {
        self.suffix = suffix;
        self
    }

    /// Every case gets a root file system of busybox, and calls the program in its directory.
    #[must_use]
    pub const fn with_bundles(mut self) -> Self {
        self.needs = &[Need::Root, Need::Busybox];
        self.bundles = true;
        self
    }
}

impl Way for Caller {
    fn suffix(&self) -> &'static str {
        self.suffix
    }

    fn needs(&self) -> &'static [Need] {
        self.needs
    }
}

/// What one test of a command line works in.
#[derive(Debug)]
pub struct Bench {
    caller: Caller,
    directory: TempDir,
    /// Part of the names of all its cgroups; no other test has it.
    name: String,
    /// The program, where everybody may execute it.
    program: PathBuf,
    /// The processes that were started: some cgroups have their numbers.
    called: Mutex<Vec<u32>>,
    named: AtomicU32,
}

/// Each test program names its callers.
impl Ground for Bench {
    type Way = Caller;

    const WAYS: &'static [Caller] = &[];

    fn open(name: &str, caller: Caller) -> Result<Self, Stop> {
        let program = Path::new(caller.program);
        let file = program.file_name().unwrap_or_default();
        let prefix = format!("{}-{name}-", file.to_string_lossy());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp")?;
        let unique = directory.path().file_name().unwrap_or_default().to_string_lossy();
        let bench = Self {
            caller,
            name: format!("{unique}-{}", std::process::id()),
            program: match caller.who {
                Who::Root => program.to_owned(),
                Who::Ordinary => directory.path().join(file),
            },
            directory,
            called: Mutex::default(),
            named: AtomicU32::new(0),
        };
        fs::set_permissions(bench.path(""), Permissions::from_mode(0o755))?;
        bench.own("");
        if bench.program != program {
            // Where cargo built it may be a place that others may not look into.
            fs::hard_link(program, &bench.program).or_else(|_| {
                install(program, &bench.program).map_err(|_| std::io::Error::other("cp"))
            })?;
        }
        if caller.bundles {
            bench.make_root(ROOT);
        }
        Ok(bench)
    }

    fn close(self) -> Vec<String> {
        self.left()
    }
}

/// A test that fails leaves its containers, which would hold the pipes of this program open.
impl Drop for Bench {
    fn drop(&mut self) {
        if self.caller.bundles {
            for entry in fs::read_dir(self.path("state")).into_iter().flatten().flatten() {
                let mut command = self.command(&["delete", "--force", "--"]);
                let _ = command.arg(entry.file_name()).output();
            }
        }
    }
}

impl Bench {
    /// What its containers have left on the host.
    fn left(&self) -> Vec<String> {
        let (directory, states) = (self.path(""), self.path("state"));
        let mut left = leftover::states(&states);
        left.extend(leftover::cgroups(&self.name));
        for pid in self.called.lock().unwrap().iter() {
            let own = self.program.file_name().unwrap_or_default().to_string_lossy();
            let names = [format!("{own}-{pid}"), format!("busybox-{pid}")];
            let found = names.iter().filter_map(|name| leftover::find(Path::new(CGROUPS), 6, name));
            left.extend(found.map(|path| format!("cgroup {}", path.display())));
        }
        left.extend(leftover::mounts(&directory));
        left.extend(leftover::interfaces(&self.text("state")));
        if left.is_empty() {
            left = leftover::settled(|| {
                let mut left = leftover::processes(&self.name);
                left.extend(leftover::viewers(&self.text("")));
                left
            });
        }
        left
    }

    /// Checks that nothing of a container outlives it.
    #[track_caller]
    pub fn check_nothing_is_left(&self) {
        assert_eq!(self.left(), [] as [String; 0]);
    }

    /// The user who runs the program.
    pub fn who(&self) -> Who {
        self.caller.who
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        // Root file systems need their real path, and /tmp may be a link.
        let directory = self.directory.path().canonicalize().unwrap();
        if name.is_empty() { directory } else { directory.join(name) }
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file that belongs to the caller, and returns its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        if self.caller.who == Who::Ordinary {
            fs::set_permissions(self.path(name), Permissions::from_mode(0o644)).unwrap();
        }
        self.own(name);
        self.text(name)
    }

    /// Makes a directory that belongs to the caller, and returns its path.
    pub fn mkdir(&self, name: &str) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        self.own(name);
        self.text(name)
    }

    fn own(&self, name: &str) {
        if self.caller.who == Who::Ordinary {
            chown(self.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Makes a root file system of busybox, and returns its path.
    pub fn make_root(&self, root: &str) -> String {
        let path = self.mkdir(root);
        for name in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            self.mkdir(&format!("{root}/{name}"));
        }
        let bin = self.path(root).join("bin");
        let copied = Command::new("cp").arg(BUSYBOX).arg(bin.join("busybox")).status();
        assert!(copied.unwrap().success());
        for name in APPLETS {
            symlink("/bin/busybox", bin.join(name)).unwrap();
        }
        path
    }

    /// The name of the cgroups of this test's containers, where one is enough.
    pub fn cgroup(&self) -> &str {
        &self.name
    }

    /// A new name for a cgroup, with [`Bench::cgroup`] in it.
    pub fn new_cgroup(&self) -> String {
        format!("test-{}-{}", self.named.fetch_add(1, Ordering::Relaxed), self.name)
    }

    /// The program, where the caller may execute it.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The program with these arguments, as the caller.
    pub fn bare_command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        self.command_of(&self.program, arguments)
    }

    /// Another program with these arguments, as the caller.
    pub fn command_of(&self, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env(MARK, &self.name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.caller.bundles {
            command.current_dir(self.path(""));
        } else {
            // That is not where a program looks for a root file system or a configuration.
            command.env("HOME", "/").current_dir("/");
        }
        if self.caller.who == Who::Ordinary {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// The program with the test's own state root and these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare_command(&["--root"]);
        command.arg(self.path("state")).args(arguments);
        command
    }

    /// Starts a command.
    pub fn start(&self, command: &mut Command) -> Call {
        let call = Call::start(command);
        self.called.lock().unwrap().push(call.pid());
        call
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn finish(&self, command: &mut Command) -> Finished {
        self.start(command).finish()
    }

    /// Runs the program with these arguments to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.finish(&mut self.command(arguments))
    }
}
