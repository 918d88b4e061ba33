//! A cgroup that a test has to itself, and processes in it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pidone_config::config;
use pidone_host::cgroup::Cgroups;

use pidone_tests::{Stop, until};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Fails a test with the text of a condition that does not hold.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(pidone_tests::Stop::Failed(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

/// A configuration of a cgroup whose name nothing else has. It allows all devices and limits
/// nothing.
pub(crate) fn config() -> config::Cgroup {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    config::Cgroup {
        parent: format!("/pidone-test-{}-{count}", std::process::id()),
        name: "box".into(),
        allow_all_devices: true,
        memory_swappiness: -1,
        ..config::Cgroup::default()
    }
}

/// A cgroup that is killed and removed at the end of the test, however it ends.
pub(crate) struct TestCgroup {
    pub(crate) cgroups: Cgroups,
    pub(crate) config: config::Cgroup,
}

impl TestCgroup {
    /// Makes the cgroup after a change of its configuration.
    pub(crate) fn new(change: impl FnOnce(&mut config::Cgroup)) -> Result<Self, Stop> {
        let mut config = config();
        change(&mut config);
        let cgroups = Cgroups::locate(&config)?;
        let mut sandbox = Self { cgroups, config };
        sandbox.cgroups.create(&sandbox.config)?;
        Ok(sandbox)
    }

    /// The directory with the files of a controller.
    pub(crate) fn directory(&self, controller: &str) -> Result<&Path, Stop> {
        let paths = self.cgroups.paths();
        let path = paths.get(controller).map(PathBuf::as_path);
        path.ok_or_else(|| Stop::Lacking(format!("the cgroup controller {controller}")))
    }

    /// The content of a file of a controller.
    pub(crate) fn read(&self, controller: &str, file: &str) -> Result<String, Stop> {
        let path = self.directory(controller)?.join(file);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))?;
        Ok(text.trim().to_owned())
    }

    /// Runs a shell script that starts in the cgroup.
    pub(crate) fn run(&self, script: &str) -> Result<Script, Stop> {
        let mut process = Script::waiting(script)?;
        self.cgroups.attach(process.pid())?;
        process.go()?;
        Ok(process)
    }

    /// Removes the cgroup and checks that nothing is left, the parent included.
    pub(crate) fn remove(&self) -> Result<(), Stop> {
        self.cgroups.destroy()?;
        for path in self.cgroups.paths().values() {
            let parent = path.parent().unwrap_or(path);
            ensure!(!parent.exists(), "{} is left", parent.display());
        }
        Ok(())
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let killed = self.cgroups.kill();
        let removed = self.cgroups.destroy();
        for error in [killed, removed].into_iter().filter_map(Result::err) {
            eprintln!("clean-up: {error}");
        }
    }
}

/// A process that is killed and reaped at the end.
pub(crate) struct Script(Child);

impl Script {
    /// A shell that waits for [`Script::go`] before it runs the script.
    ///
    /// It is PID 1 of a pid namespace, so that it takes all its children along.
    pub(crate) fn waiting(script: &str) -> Result<Self, Stop> {
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "sh", "-c"])
            .arg(format!("read go; {script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // unshare forks; both are to be attached, or the script would stay outside.
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        let script = Self(child);
        until("unshare forks", || Ok(!std::fs::read_to_string(&path)?.trim().is_empty()))?;
        Ok(script)
    }

    /// The process that runs the script.
    pub(crate) fn pid(&self) -> i32 {
        let path = format!("/proc/{0}/task/{0}/children", self.0.id());
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children.trim().parse().unwrap_or(-1)
    }

    /// Lets the script start.
    pub(crate) fn go(&mut self) -> Result<(), Stop> {
        if let Some(mut stdin) = self.0.stdin.take() {
            stdin.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Waits for the end of the script.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, Stop> {
        Ok(self.0.wait()?)
    }

    /// The processor time that the script itself has used, in clock ticks.
    pub(crate) fn ticks(&self) -> Result<u64, Stop> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        Ok(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The text of an error that must occur.
pub(crate) fn refused<T>(result: pidone_config::Result<T>) -> Result<String, Stop> {
    match result {
        Ok(_) => Err(Stop::Failed("an error was expected".into())),
        Err(error) => Ok(error.to_string()),
    }
}
