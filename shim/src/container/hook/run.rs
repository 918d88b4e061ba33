//! Running hooks on the host: OCI runtime specification, "POSIX-platform Hooks".

use std::path::Path;
use std::time::Duration;

use pidone_config::config::Hook;
use pidone_config::{Error, Result};

use crate::container::hook::program::HostProgram;
use crate::trace;

/// Runs hooks in order, until one fails.
///
/// `place` is the specification's name for them, such as `createRuntime`; `state` is the state
/// object in JSON, their standard input; `directory` is their working directory, the bundle.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] as in
/// ``hook `createRuntime[1] /bin/x`: exited with status 3``, with the last line that the hook wrote
/// to its standard error.
pub(crate) fn run_until_failure(
    hooks: &[Hook],
    place: &'static str,
    state: &[u8],
    directory: &Path,
) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|hook| run_hook(hook, place, state, directory))
}

/// Runs all hooks and returns their errors, for steps that go on after a failure.
pub(crate) fn run_all(
    hooks: &[Hook],
    place: &'static str,
    state: &[u8],
    directory: &Path,
) -> Vec<Error> {
    let all = hooks.iter().enumerate();
    all.filter_map(|hook| run_hook(hook, place, state, directory).err()).collect()
}

/// Runs a hook, given with its index.
fn run_hook(
    (index, hook): (usize, &Hook),
    place: &'static str,
    state: &[u8],
    directory: &Path,
) -> Result<()> {
    let program = HostProgram {
        step: "hook",
        name: hook_name(hook, place, index),
        path: &hook.path,
        args: &hook.args,
        env: hook.env.as_deref(),
        directory,
        mounts: None,
        input: state,
        timeout: hook_timeout(hook),
    };
    trace::span_of("run a hook", || program.name.clone(), || program.run())
}

/// Returns the name of a hook in errors.
pub(crate) fn hook_name(hook: &Hook, place: &'static str, index: usize) -> String {
    format!("{place}[{index}] {}", hook.path)
}

/// Returns the time limit of a hook.
pub(crate) fn hook_timeout(hook: &Hook) -> Option<Duration> {
    hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;

    /// Returns a hook that runs a shell script without an environment.
    fn shell(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: Some(Vec::new()),
            ..Hook::default()
        }
    }

    /// Returns a hook that runs a shell script with a time limit.
    fn limited(script: &str, seconds: i64) -> Hook {
        Hook { timeout: Some(seconds), ..shell(script) }
    }

    /// Whether a process has ended. One that nobody reaps stays a zombie for a while.
    fn ended(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    /// A working directory for hooks.
    struct Bundle {
        directory: TempDir,
    }

    impl Bundle {
        fn new() -> Self {
            Self { directory: TempDir::new().unwrap() }
        }

        fn run(&self, hooks: &[Hook], state: &[u8]) -> Result<()> {
            run_until_failure(hooks, "createRuntime", state, self.directory.path())
        }

        fn error(&self, hook: Hook) -> String {
            self.run(&[hook], b"{}").unwrap_err().to_string()
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
        }
    }

    #[test]
    fn hook_gets_the_state_its_directory_and_only_its_environment() {
        let bundle = Bundle::new();
        let mut hook = shell("/bin/cat >state; /usr/bin/env >environment; pwd >directory");
        hook.env = Some(vec!["A=b=c".into(), "EMPTY=".into()]);
        bundle.run(&[hook], b"{\"id\":\"x\"}").unwrap();
        assert_eq!(bundle.read("state"), "{\"id\":\"x\"}");
        let environment = bundle.read("environment");
        // The shell adds some variables.
        let added = ["PWD=", "_=", "SHLVL="];
        let mut environment: Vec<_> = environment
            .lines()
            .filter(|line| !added.iter().any(|name| line.starts_with(name)))
            .collect();
        environment.sort_unstable();
        assert_eq!(environment, ["A=b=c", "EMPTY="]);
        let directory = bundle.directory.path().canonicalize().unwrap();
        assert_eq!(Path::new(bundle.read("directory").trim_end()), directory);
    }

    #[test]
    fn environment_is_the_callers_unless_configured() {
        let bundle = Bundle::new();
        let mut hook = shell("/bin/cat /proc/$$/environ >environ; : >done");
        bundle.run(&[hook.clone()], b"").unwrap();
        assert!(bundle.directory.path().join("done").exists());
        assert_eq!(bundle.read("environ"), "");
        hook.env = None;
        bundle.run(&[hook], b"").unwrap();
        let own = format!("PATH={}\0", std::env::var("PATH").unwrap());
        assert!(bundle.read("environ").contains(&own), "{}", bundle.read("environ"));
    }

    #[test]
    fn first_argument_is_the_name_of_the_program() {
        let bundle = Bundle::new();
        let mut hook = shell("echo $0 >name; /bin/cat /proc/$$/cmdline >line");
        hook.args[0] = "other".into();
        bundle.run(&[hook], b"").unwrap();
        assert!(bundle.read("line").starts_with("other\0-c\0"), "{}", bundle.read("line"));
        // Without arguments, the path is the name, and the shell reads its script from the input.
        let hook = Hook { path: "/bin/sh".into(), ..Hook::default() };
        bundle.run(&[hook], b"/bin/cat /proc/$$/cmdline >line").unwrap();
        assert_eq!(bundle.read("line"), "/bin/sh\0");
    }

    #[test]
    fn first_failure_ends_a_step_unless_all_hooks_run() {
        let bundle = Bundle::new();
        let hooks = [shell("echo 1 >>log"), shell("echo why >&2; exit 3"), shell("echo 3 >>log")];
        let error = bundle.run(&hooks, b"").unwrap_err().to_string();
        assert_eq!(error, "hook `createRuntime[1] /bin/sh`: exited with status 3 (why)");
        assert_eq!(bundle.read("log"), "1\n");
        let errors = run_all(&hooks, "poststop", b"", bundle.directory.path());
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "hook `poststop[1] /bin/sh`: exited with status 3 (why)");
        assert_eq!(bundle.read("log"), "1\n1\n3\n");
    }

    #[test]
    fn missing_program_or_directory_is_named() {
        let bundle = Bundle::new();
        let hook = Hook { path: "/nowhere/hook".into(), ..Hook::default() };
        let start = "hook `createRuntime[0] /nowhere/hook`: No such file or directory";
        assert_eq!(bundle.error(hook), start);
        let gone = bundle.directory.path().join("gone");
        let error =
            run_until_failure(&[shell(":")], "poststop", b"", &gone).unwrap_err().to_string();
        assert!(error.ends_with(&format!("(no directory `{}`)", gone.display())), "{error}");
    }

    #[test]
    fn signal_is_reported_and_output_is_escaped() {
        let bundle = Bundle::new();
        let error = bundle.error(shell("printf 'a\\033[31mb\\n' >&2; kill -9 $$"));
        let expected = "hook `createRuntime[0] /bin/sh`: killed by signal 9 (a\\u{1b}[31mb)";
        assert_eq!(error, expected);
    }

    #[test]
    fn large_state_may_stay_unread_and_large_output_is_discarded() {
        let bundle = Bundle::new();
        let state = vec![b' '; 1 << 20];
        bundle.run(&[shell("exec <&-; exit 0")], &state).unwrap();
        let hook =
            shell("/usr/bin/head -c 300000 /dev/zero; /usr/bin/head -c 300000 /dev/zero >&2");
        bundle.run(&[hook], &state).unwrap();
        bundle.run(&[shell("/usr/bin/wc -c >size")], &state).unwrap();
        assert_eq!(bundle.read("size").trim(), "1048576");
    }

    #[test]
    fn timeout_kills_the_process_group() {
        let bundle = Bundle::new();
        let begin = Instant::now();
        // The shell, its child and its grandchild all hold the standard error open.
        let script = "echo $$ >pids; sh -c 'echo $$ >>pids; /bin/sleep 100' & wait";
        let error = bundle.error(limited(&format!("PATH=/bin:/usr/bin; {script}"), 1));
        let expected = "hook `createRuntime[0] /bin/sh`: not done after 1 s, and killed";
        assert_eq!(error, expected);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        let pids = bundle.read("pids");
        assert_eq!(pids.lines().count(), 2);
        while !pids.lines().all(ended) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{pids} live");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn timeout_ends_a_hook_that_writes_without_end() {
        let bundle = Bundle::new();
        let error = bundle.error(limited("while :; do echo line >&2; done", 1));
        // It may be killed in the middle of a line.
        let expected = "hook `createRuntime[0] /bin/sh`: not done after 1 s, and killed (l";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn process_that_keeps_the_pipe_open_does_not_block_the_caller() {
        let bundle = Bundle::new();
        let begin = Instant::now();
        let script = "/bin/sleep 100 & echo $! >pid; echo last >&2; exit 1";
        let error = bundle.error(shell(script));
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert!(error.ends_with("exited with status 1 (last)"), "{error}");
        // A process that a hook leaves running on purpose is not killed.
        let pid: i32 = bundle.read("pid").trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn descriptors_of_the_caller_are_not_inherited() {
        use std::os::fd::AsRawFd as _;
        let bundle = Bundle::new();
        let leaked = fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        bundle.run(&[shell("/bin/ls /proc/self/fd >descriptors")], b"").unwrap();
        let listed = bundle.read("descriptors");
        let listed: Vec<i32> = listed.lines().map(|fd| fd.parse().unwrap()).collect();
        // The fourth is that of the listed directory.
        assert!(!listed.contains(&leaked.as_raw_fd()) || leaked.as_raw_fd() == 3, "{listed:?}");
        assert_eq!(listed.len(), 4, "{listed:?}");
    }

    #[test]
    fn hook_leads_its_own_process_group() {
        let bundle = Bundle::new();
        bundle
            .run(
                &[shell(
                    "read -r x <&0; /usr/bin/cut -d' ' -f5 /proc/$$/stat >group; echo $$ >pid",
                )],
                b"\n",
            )
            .unwrap();
        assert_eq!(bundle.read("group"), bundle.read("pid"));
    }

    #[test]
    fn hook_is_killed_when_its_caller_is() {
        const DIRECTORY: &str = "PIDONE_TEST_HOOK_DIRECTORY";
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            let hook = shell("echo $$ >new; /bin/mv new pid; exec /bin/sleep 100");
            run_until_failure(&[hook], "poststart", b"", Path::new(&directory)).unwrap();
            return;
        }
        let bundle = Bundle::new();
        let begin = Instant::now();
        let wait_until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(begin.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        // Runs this test in another process, which can be killed.
        let mut caller = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "container::hook::run::tests::hook_is_killed_when_its_caller_is"])
            .env(DIRECTORY, bundle.directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_until(&|| !bundle.read("pid").is_empty());
        let pid = bundle.read("pid").trim().to_owned();
        assert!(!ended(&pid));
        caller.kill().unwrap();
        caller.wait().unwrap();
        wait_until(&|| ended(&pid));
    }
}
