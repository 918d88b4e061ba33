//! The verbs beside `exec`.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::{Case, root_case};
use pidone_tests::{Bench, Call, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    root_case("pause_and_unpause", &[Need::Freezer], pause_and_unpause),
    root_case("state_and_stats", &[Need::Memory], state_and_stats),
    root_case(
        "oom_prints_a_line_for_each_event",
        &[Need::Memory],
        oom_prints_a_line_for_each_event,
    ),
    root_case("limits_are_applied", &[Need::Memory], limits_are_applied),
    root_case("help_is_everywhere", &[], help_is_everywhere),
    root_case("pages_and_completions", &[], pages_and_completions),
];

fn pause_and_unpause(bench: &Bench) {
    let place = bench.mkdir("shared");
    let bind = format!("{place}:/tmp");
    let line = "while :; do date +%N > /tmp/clock; sleep 0.01; done";
    let program = bench.spawn(&["exec", "--bind", &bind, "sh", "-c", line]);
    let clock = || std::fs::read_to_string(bench.path("shared/clock")).unwrap_or_default();
    let moves = || {
        let before = clock();
        // Long enough for a program that runs to write once.
        std::thread::sleep(Duration::from_millis(150));
        clock() != before
    };
    assert!(eventually(moves));
    bench.run(&["pause"]).ok();
    assert!(!moves(), "a paused container runs");
    // Its state can be seen, but nothing be started in it.
    bench.run(&["state"]).ok();
    let error = bench.exec(&["true"]).error(1);
    assert_eq!(error, "start `nsinit`: container is paused");
    bench.run(&["pause"]).ok();
    bench.run(&["unpause"]).ok();
    assert!(eventually(moves), "the container does not go on");
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 143);
}

fn state_and_stats(bench: &Bench) {
    let first = bench.stay(&["--id", "c-1.x"]);
    let text = bench.run(&["state", "--id", "c-1.x"]).ok();
    assert!(text.starts_with("{\n\t\"id\": \"c-1.x\",\n"), "{text}");
    let state: Value = serde_json::from_str(&text).unwrap();
    let pid = state["init_process_pid"].as_u64().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(state["config"]["hostname"], "nsinit");
    for kind in ["NEWNS", "NEWPID", "NEWNET", "NEWUTS", "NEWIPC", "NEWUSER"] {
        let path = state["namespace_paths"][kind].as_str().unwrap();
        assert!(path.starts_with(&format!("/proc/{pid}/ns/")), "{path}");
    }
    let memory = state["cgroup_paths"]["memory"].as_str().unwrap();
    assert!(std::path::Path::new(memory).join("cgroup.procs").exists(), "{memory}");

    let stats: Value = serde_json::from_str(&bench.run(&["stats", "--id", "c-1.x"]).ok()).unwrap();
    let cgroup = &stats["CgroupStats"];
    assert!(cgroup["memory_stats"]["usage"]["usage"].as_u64().unwrap() > 0, "{stats}");
    assert!(cgroup["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["Interfaces"].is_array(), "{stats}");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}

fn oom_prints_a_line_for_each_event(bench: &Bench) {
    let line = "trap 'exit 0' TERM; while [ ! -e /tmp/go ]; do sleep 0.05; done; \
                tail /dev/zero; echo killed $?; while :; do sleep 0.05; done";
    let options = ["exec", "--memory-limit", "32m", "--memory-swap", "32m"];
    // Their output is read while they run. No process joins the container for this: without memory
    // it could be killed instead.
    let start = |name: &str, arguments: &[&str]| {
        let output = std::fs::File::create(bench.path(name)).unwrap();
        bench.start(bench.command(arguments).stdout(output))
    };
    let printed = |name: &str| std::fs::read_to_string(bench.path(name)).unwrap();
    let program = start("program", &[&options[..], &["sh", "-c", line]].concat());
    bench.wait_running("nsinit");
    let watcher = start("watcher", &["oom"]);
    // It must wait before anything happens.
    assert!(eventually(|| has_eventfd(&watcher)));
    bench.shell("touch /tmp/go").ok();
    assert!(eventually(|| printed("program") == "killed 137\n"), "{}", printed("program"));
    assert!(eventually(|| !printed("watcher").is_empty()));
    program.signal(Signal::TERM);
    program.finish();
    assert_eq!(watcher.finish().ok(), "");
    let printed = printed("watcher");
    assert!(printed.lines().all(|line| line == "OOM notification received"), "{printed}");
}

/// Whether a process waits for notices of the kernel.
fn has_eventfd(program: &Call) -> bool {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", program.pid())) else { return false };
    fds.filter_map(Result::ok)
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .any(|target| target.to_string_lossy().contains("eventfd"))
}

fn limits_are_applied(bench: &Bench) {
    let first = bench.stay(&["--memory-limit", "64m", "--cpushares", "300"]);
    let state: Value = serde_json::from_str(&bench.run(&["state"]).ok()).unwrap();
    let read = |controller: &str, file: &str| {
        let directory = state["cgroup_paths"][controller].as_str().unwrap();
        let text = std::fs::read_to_string(std::path::Path::new(directory).join(file)).unwrap();
        text.trim().to_owned()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(read("cpu", "cpu.shares"), "300");
    first.signal(Signal::TERM);
    first.finish();
}

fn help_is_everywhere(bench: &Bench) {
    let help = |arguments: &[&str]| bench.finish(&mut bench.bare_command(arguments)).ok();
    let top = help(&["--help"]);
    for word in ["Usage: nsinit", "exec", "config", "oom", "unpause", "--root", "completions"] {
        assert!(top.contains(word), "{word} in {top}");
    }
    assert!(!top.contains("\n  init"), "{top}");
    for arguments in [&["help"][..], &["h"], &["-h"], &[]] {
        assert_eq!(help(arguments), top, "{arguments:?}");
    }
    for verb in ["exec", "config", "oom", "pause", "unpause", "stats", "state", "help"] {
        let own = help(&[verb, "--help"]);
        assert!(own.contains(&format!("Usage: nsinit {verb}")), "{own}");
        assert!(own.contains("--root <DIR>"), "{own}");
        assert_eq!(help(&["help", verb]), own);
        assert_eq!(help(&["--debug", verb, "-h"]), own);
    }
    for flag in [
        "--tty",
        "--id",
        "--config",
        "--user",
        "--cwd",
        "--env",
        "--systemd",
        "--read-only",
        "--bind",
        "--tmpfs",
        "--cpushares",
        "--memory-limit",
        "--memory-swap",
        "--memory-swappiness",
        "--cpuset-cpus",
        "--cpuset-mems",
        "--apparmor-profile",
        "--process-label",
        "--mount-label",
        "--rootfs",
        "--userns-root-uid",
        "--hostname",
        "--net",
        "--ipc",
        "--pid",
        "--uts",
        "--mnt",
        "--veth-bridge",
        "--veth-address",
        "--veth-gateway",
        "--veth-mtu",
        "--cgroup",
        "--sysctl",
        "--groups",
        "--security",
        "--parent-death-signal",
    ] {
        assert!(help(&["exec", "-h"]).contains(flag), "{flag}");
    }
    for arguments in
        [&["--version"][..], &["-v"], &["exec", "-v"], &["--debug", "state", "--version"]]
    {
        let version = concat!("nsinit version ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(help(arguments), version, "{arguments:?}");
    }
}

fn pages_and_completions(bench: &Bench) {
    let print = |arguments: &[&str]| bench.finish(&mut bench.bare_command(arguments)).ok();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef nsinit"), ("fish", "complete -c")]
    {
        let script = print(&["completions", shell]);
        assert!(script.contains(word) && script.contains("memory-limit"), "{shell}");
    }
    let page = print(&["man"]);
    assert!(page.contains(".TH nsinit 1") && page.contains("nsinit\\-exec"), "{page}");
    let page = print(&["man", "exec"]);
    assert!(page.contains(".TH nsinit-exec 1"), "{page}");
    assert!(page.contains("\\-\\-memory\\-limit"), "{page}");
    // bash takes the script.
    if let Ok(output) = Command::new("bash")
        .args(["-c", "source /dev/stdin && complete -p nsinit"])
        .stdin(Stdio::from(script_file(bench, &print(&["completions", "bash"]))))
        .output()
    {
        assert!(output.status.success(), "{output:?}");
    }
}

fn script_file(bench: &Bench, script: &str) -> std::fs::File {
    std::fs::File::open(bench.write("script", script)).unwrap()
}
