//! Hooks that run on the host: OCI runtime specification, "POSIX-platform Hooks".

use std::path::Path;
use std::time::Duration;

use pidone_config::config::Hook;
use pidone_config::{Error, Result};

use crate::container::hook::program::HostProgram;
use crate::trace;

/// Runs the hooks of a step, one behind the other, until one fails.
///
/// `place` is the specification's name of the step, as in `createRuntime`; `state` the state object
/// in JSON, which they read; `directory` their working directory, the bundle.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] as in ``hook `createRuntime[1] /bin/x`: exited with status 3``, with
/// the last line that the hook wrote to its standard error.
pub(crate) fn run_until_failure(
    hooks: &[Hook],
    place: &'static str,
    state: &[u8],
    directory: &Path,
) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|hook| run_hook(hook, place, state, directory))
}

/// Runs all hooks of a step, whatever becomes of each: for steps whose failure changes nothing.
pub(crate) fn run_all(
    hooks: &[Hook],
    place: &'static str,
    state: &[u8],
    directory: &Path,
) -> Vec<Error> {
    let all = hooks.iter().enumerate();
    all.filter_map(|hook| run_hook(hook, place, state, directory).err()).collect()
}

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
        env: &hook.env,
        directory,
        mounts: None,
        input: state,
        timeout: hook_timeout(hook),
    };
    trace::span_of("run a hook", || program.name.clone(), || program.run())
}

/// What errors call a hook.
pub(crate) fn hook_name(hook: &Hook, place: &'static str, index: usize) -> String {
    format!("{place}[{index}] {}", hook.path)
}

/// How long a hook may take.
pub(crate) fn hook_timeout(hook: &Hook) -> Option<Duration> {
    hook.timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;

    /// A hook that is a line of the shell.
    fn shell(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..Hook::default()
        }
    }

    fn limited(script: &str, seconds: i64) -> Hook {
        Hook { timeout: Some(seconds), ..shell(script) }
    }

    /// What has nobody left to reap it stays a zombie for a while.
    fn ended(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    struct Bench {
        directory: TempDir,
    }

    impl Bench {
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
    fn gets_the_state_and_its_environment_and_nothing_else() {
        let bench = Bench::new();
        let mut hook = shell("/bin/cat >state; /usr/bin/env >environment; pwd >directory");
        hook.env = vec!["A=b=c".into(), "EMPTY=".into()];
        bench.run(&[hook], b"{\"id\":\"x\"}").unwrap();
        assert_eq!(bench.read("state"), "{\"id\":\"x\"}");
        let environment = bench.read("environment");
        // The shell adds where it is.
        let mut own: Vec<_> =
            environment.lines().filter(|line| !line.starts_with("PWD=")).collect();
        own.retain(|line| !line.starts_with("_=") && !line.starts_with("SHLVL="));
        own.sort_unstable();
        assert_eq!(own, ["A=b=c", "EMPTY="]);
        let directory = bench.directory.path().canonicalize().unwrap();
        assert_eq!(Path::new(bench.read("directory").trim_end()), directory);
    }

    #[test]
    fn has_an_empty_environment_unless_one_is_configured() {
        let bench = Bench::new();
        bench.run(&[shell("/bin/cat /proc/$$/environ >environ; : >done")], b"").unwrap();
        assert!(bench.directory.path().join("done").exists());
        assert_eq!(bench.read("environ"), "");
    }

    #[test]
    fn has_the_name_that_its_arguments_give() {
        let bench = Bench::new();
        let mut hook = shell("echo $0 >name; /bin/cat /proc/$$/cmdline >line");
        hook.args[0] = "other".into();
        bench.run(&[hook], b"").unwrap();
        assert!(bench.read("line").starts_with("other\0-c\0"), "{}", bench.read("line"));
        // Without arguments it reads its program from the input.
        let hook = Hook { path: "/bin/sh".into(), ..Hook::default() };
        bench.run(&[hook], b"/bin/cat /proc/$$/cmdline >line").unwrap();
        assert_eq!(bench.read("line"), "/bin/sh\0");
    }

    #[test]
    fn the_first_failure_ends_a_step() {
        let bench = Bench::new();
        let hooks = [shell("echo 1 >>log"), shell("echo why >&2; exit 3"), shell("echo 3 >>log")];
        let error = bench.run(&hooks, b"").unwrap_err().to_string();
        assert_eq!(error, "hook `createRuntime[1] /bin/sh`: exited with status 3 (why)");
        assert_eq!(bench.read("log"), "1\n");
        let errors = run_all(&hooks, "poststop", b"", bench.directory.path());
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "hook `poststop[1] /bin/sh`: exited with status 3 (why)");
        assert_eq!(bench.read("log"), "1\n1\n3\n");
    }

    #[test]
    fn names_what_cannot_be_executed() {
        let bench = Bench::new();
        let hook = Hook { path: "/nowhere/hook".into(), ..Hook::default() };
        let start = "hook `createRuntime[0] /nowhere/hook`: No such file or directory";
        assert_eq!(bench.error(hook), start);
        let gone = bench.directory.path().join("gone");
        let error =
            run_until_failure(&[shell(":")], "poststop", b"", &gone).unwrap_err().to_string();
        assert!(error.ends_with(&format!("(no directory `{}`)", gone.display())), "{error}");
    }

    #[test]
    fn tells_a_signal_and_escapes_what_a_hook_says() {
        let bench = Bench::new();
        let error = bench.error(shell("printf 'a\\033[31mb\\n' >&2; kill -9 $$"));
        let expected = "hook `createRuntime[0] /bin/sh`: killed by signal 9 (a\\u{1b}[31mb)";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_hook_may_read_nothing_of_a_large_state_and_write_much() {
        let bench = Bench::new();
        let state = vec![b' '; 1 << 20];
        bench.run(&[shell("exec <&-; exit 0")], &state).unwrap();
        let hook =
            shell("/usr/bin/head -c 300000 /dev/zero; /usr/bin/head -c 300000 /dev/zero >&2");
        bench.run(&[hook], &state).unwrap();
        bench.run(&[shell("/usr/bin/wc -c >size")], &state).unwrap();
        assert_eq!(bench.read("size").trim(), "1048576");
    }

    #[test]
    fn its_time_ends_all_of_its_group() {
        let bench = Bench::new();
        let begin = Instant::now();
        // The shell, its child, and that one's child, which all hold the standard error.
        let script = "echo $$ >pids; sh -c 'echo $$ >>pids; /bin/sleep 100' & wait";
        let error = bench.error(limited(&format!("PATH=/bin:/usr/bin; {script}"), 1));
        let expected = "hook `createRuntime[0] /bin/sh`: not done after 1 s, and killed";
        assert_eq!(error, expected);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        let pids = bench.read("pids");
        assert_eq!(pids.lines().count(), 2);
        while !pids.lines().all(ended) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{pids} live");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_hook_that_writes_without_end_is_ended_by_its_time() {
        let bench = Bench::new();
        let error = bench.error(limited("while :; do echo line >&2; done", 1));
        // It may be killed in the middle of a line.
        let expected = "hook `createRuntime[0] /bin/sh`: not done after 1 s, and killed (l";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn who_keeps_the_pipe_does_not_hold_up_the_caller() {
        let bench = Bench::new();
        let begin = Instant::now();
        let script = "/bin/sleep 100 & echo $! >pid; echo last >&2; exit 1";
        let error = bench.error(shell(script));
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert!(error.ends_with("exited with status 1 (last)"), "{error}");
        // What a hook leaves behind on purpose lives on.
        let pid: i32 = bench.read("pid").trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn gets_no_descriptor_of_the_caller() {
        use std::os::fd::AsRawFd as _;
        let bench = Bench::new();
        let leaked = fs::File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        bench.run(&[shell("/bin/ls /proc/self/fd >descriptors")], b"").unwrap();
        let listed = bench.read("descriptors");
        let listed: Vec<i32> = listed.lines().map(|fd| fd.parse().unwrap()).collect();
        // The fourth is the directory that is listed.
        assert!(!listed.contains(&leaked.as_raw_fd()) || leaked.as_raw_fd() == 3, "{listed:?}");
        assert_eq!(listed.len(), 4, "{listed:?}");
    }

    #[test]
    fn has_a_process_group_of_its_own() {
        let bench = Bench::new();
        bench
            .run(
                &[shell(
                    "read -r x <&0; /usr/bin/cut -d' ' -f5 /proc/$$/stat >group; echo $$ >pid",
                )],
                b"\n",
            )
            .unwrap();
        assert_eq!(bench.read("group"), bench.read("pid"));
    }

    #[test]
    fn dies_with_its_caller() {
        const DIRECTORY: &str = "PIDONE_TEST_HOOK_DIRECTORY";
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            let hook = shell("echo $$ >new; /bin/mv new pid; exec /bin/sleep 100");
            run_until_failure(&[hook], "poststart", b"", Path::new(&directory)).unwrap();
            return;
        }
        let bench = Bench::new();
        let begin = Instant::now();
        let wait_until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(begin.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        // The same test in a process of its own, which can be killed.
        let mut caller = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "container::hook::run::tests::dies_with_its_caller"])
            .env(DIRECTORY, bench.directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_until(&|| !bench.read("pid").is_empty());
        let pid = bench.read("pid").trim().to_owned();
        assert!(!ended(&pid));
        caller.kill().unwrap();
        caller.wait().unwrap();
        wait_until(&|| ended(&pid));
    }
}
