//! The life of a container: create, start, run, state, list, kill, delete.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::need::NOBODY;
use pidone_tests::{Bench, Call, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("create_and_start", &[], create_and_start),
    case("states_in_their_order", &[], states_in_their_order),
    case("list_shows_all_containers", &[], list_shows_all_containers),
    case("run_in_the_foreground", &[], run_in_the_foreground),
    case("run_detached", &[], run_detached),
    case("signals_to_run_are_passed_on", &[], signals_to_run_are_passed_on),
    case("signals_by_name_and_number", &[], signals_by_name_and_number),
    case("signals_end_a_created_container", &[], signals_end_a_created_container),
    case("a_signal_right_after_the_start", &[], a_signal_right_after_the_start),
    case("kill_without_a_pid_namespace", &[], kill_without_a_pid_namespace),
    case("delete_in_every_state", &[Need::Freezer], delete_in_every_state),
    case("programs_that_cannot_be_executed", &[], programs_that_cannot_be_executed),
    case("without_a_cgroup", &[], without_a_cgroup),
    case("an_ordinary_user_has_containers", &[Need::UserNamespaces], an_ordinary_user),
];

fn create_and_start(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["sh", "-c", "cat /proc/1/comm; exit 7"]));
    let (pid, out) = (bench.text("pid"), bench.path("out"));
    let mut create = bench.command(&["create", "c1", "-b", &bundle, "--pid-file", &pid]);
    let outcome = bench.finish(
        create
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(bench.path("err")).unwrap()),
    );
    assert_eq!(outcome.code(), 0, "{:?}", fs::read_to_string(bench.path("err")));
    let state = bench.state("c1");
    assert_eq!(fs::read_to_string(&pid).unwrap(), state["pid"].to_string());
    assert_eq!(fs::read_to_string(&out).unwrap(), "", "the program runs before it is started");
    let second = bench.run(&["create", "-b", &bundle, "c1"]).error(1);
    assert!(second.contains("a container with this id exists"), "{second}");
    bench.run(&["start", "c1"]).ok();
    bench.wait_for("c1", "stopped");
    assert_eq!(fs::read_to_string(&out).unwrap(), "sh\n");
    bench.run(&["delete", "c1"]).ok();
}

fn states_in_their_order(bench: &Bench) {
    bench.create("s.1+x", &bench.staying());
    let text = bench.run(&["state", "s.1+x"]).ok();
    assert!(
        text.starts_with("{\n  \"ociVersion\": \"1.3.0\",\n  \"id\": \"s.1+x\",\n  \"pid\": "),
        "{text}"
    );
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bench.text("bundle"));
    assert_eq!(state["rootfs"], bench.text("rootfs"));
    assert_eq!(state["annotations"]["org.example.key"], "value");
    assert_eq!(state["owner"], "root");
    let created = state["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z'), "{created}");
    bench.run(&["start", "s.1+x"]).ok();
    let state = bench.state("s.1+x");
    assert_eq!((&state["status"], &state["created"]), (&"running".into(), &created.into()));
    let again = bench.run(&["start", "s.1+x"]).error(1);
    assert!(again.contains("cannot start an already running container"), "{again}");
    let refused = bench.run(&["delete", "s.1+x"]).error(1);
    assert!(
        refused.contains("cannot delete a container that is not stopped: running"),
        "{refused}"
    );
    bench.run(&["kill", "s.1+x", "KILL"]).ok();
    bench.wait_for("s.1+x", "stopped");
    assert_eq!(bench.state("s.1+x")["pid"], 0);
    let over = bench.run(&["start", "s.1+x"]).error(1);
    assert!(over.contains("cannot start a container that has stopped"), "{over}");
    let dead = bench.run(&["kill", "s.1+x", "KILL"]).error(1);
    assert!(dead.contains("container not running"), "{dead}");
    bench.run(&["kill", "--all", "s.1+x", "9"]).ok();
    bench.run(&["delete", "s.1+x"]).ok();
    assert!(bench.run(&["state", "s.1+x"]).error(1).contains("container does not exist"));
}

fn list_shows_all_containers(bench: &Bench) {
    assert_eq!(bench.run(&["list", "-q"]).ok(), "");
    assert_eq!(bench.run(&["list", "--format=json"]).ok(), "[]\n");
    bench.create("one", &bench.staying());
    // What is left of a start that was killed is listed; what is none of ours is not.
    fs::create_dir(bench.path("state/broken")).unwrap();
    fs::write(bench.path("state/broken/state.json"), "{").unwrap();
    fs::create_dir(bench.path("state/not an id")).unwrap();
    let quiet = bench.run(&["list", "-q"]);
    assert_eq!(quiet.code(), 0);
    assert!(quiet.stdout.lines().any(|id| id == "one"), "{quiet:?}");
    fs::remove_dir(bench.path("state/not an id")).unwrap();
    bench.delete("broken");
    let table = bench.run(&["list"]).ok();
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!((lines[1][0], lines[1][2], lines[1][5]), ("one", "created", "root"));
    assert!(table.starts_with("ID          PID "), "{table}");
    let all: Value = serde_json::from_str(&bench.run(&["list", "-f", "json"]).ok()).unwrap();
    assert_eq!(all, json!([bench.state("one")]));
    bench.delete("one");
}

fn run_in_the_foreground(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["sh", "-c", "echo out; echo err >&2; exit 5"]));
    let outcome = bench.run(&["run", "--bundle", &bundle, "r"]);
    assert_eq!((outcome.code(), &*outcome.stdout, &*outcome.stderr), (5, "out\n", "err\n"));
    assert!(bench.run(&["state", "r"]).error(1).contains("does not exist"));
    // The kernel keeps process 1 of a namespace from killing itself.
    let mut config = bench.config(&["sh", "-c", "kill -KILL $$"]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let bundle = bench.bundle(&config);
    assert_eq!(bench.run(&["run", "-b", &bundle, "r"]).code(), 137);
    let bundle = bench.bundle(&bench.config(&["true"]));
    bench.run(&["run", "--keep", "--no-subreaper", "-b", &bundle, "r"]).ok();
    assert_eq!(bench.state("r")["status"], "stopped");
    bench.run(&["delete", "r"]).ok();
}

fn run_detached(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    let pid = bench.text("pid");
    bench.detached(&["run", "-d", "--pid-file", &pid, "-b", &bundle, "r"]);
    let state = bench.state("r");
    assert_eq!(state["status"], "running");
    assert_eq!(fs::read_to_string(&pid).unwrap(), state["pid"].to_string());
    bench.delete("r");
    assert!(eventually(|| has_ended(&state["pid"])));
    // A pid file that cannot be written leaves no container.
    let error = bench.run(&["run", "-d", "--pid-file", "/nonexistent/x", "-b", &bundle, "r"]);
    let error = error.error(1);
    assert!(error.contains("/nonexistent/x"), "{error}");
    assert_eq!(bench.run(&["list", "-q"]).ok(), "");
}

fn signals_to_run_are_passed_on(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    let program = Call::start(&mut bench.command(&["run", "-b", &bundle, "r"]));
    assert!(eventually(|| bench.run(&["state", "r"]).stdout.contains("running")));
    // The shell sets its trap a moment later.
    let trapped = || {
        let path = format!("/proc/{}/status", bench.state("r")["pid"]);
        let status = fs::read_to_string(path).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        caught.is_some_and(|set| {
            u64::from_str_radix(set.trim(), 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
        })
    };
    assert!(eventually(trapped));
    let stat = fs::read_to_string(format!("/proc/{}/stat", bench.state("r")["pid"])).unwrap();
    let parent = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap();
    assert_eq!(parent, program.pid().to_string(), "not the child of run");
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 3);
    assert_eq!(bench.run(&["list", "-q"]).ok(), "");
}

fn signals_by_name_and_number(bench: &Bench) {
    let line = "trap 'echo usr1 >> /tmp/got' USR1; trap 'echo hup >> /tmp/got' HUP; \
                trap 'echo term >> /tmp/got' TERM; touch /tmp/got; while :; do sleep 0.05; done";
    bench.keep("k", &bench.config(&["sh", "-c", line]));
    let got = || bench.run(&["exec", "k", "cat", "/tmp/got"]).stdout;
    assert!(eventually(|| bench.run(&["exec", "k", "cat", "/tmp/got"]).code() == 0));
    for (signal, line) in [
        (Some("SIGUSR1"), "usr1\n"),
        (Some("hup"), "usr1\nhup\n"),
        (Some("10"), "usr1\nhup\nusr1\n"),
        (None, "usr1\nhup\nusr1\nterm\n"),
    ] {
        bench.run(&[&["kill", "k"][..], signal.as_slice()].concat()).ok();
        assert!(eventually(|| got() == line), "{signal:?}: {}", got());
    }
    bench.run(&["kill", "k", "0"]).ok();
    bench.run(&["kill", "k", "--all", "SIGKILL"]).ok();
    bench.wait_for("k", "stopped");
    bench.delete("k");
}

/// As with runc, although process 1 of a pid namespace gets no signal that it does not handle.
fn signals_end_a_created_container(bench: &Bench) {
    for init in [false, true] {
        for namespace in [true, false] {
            let mut config = bench.staying();
            config["annotations"]["org.pidone.init"] = json!(init.to_string());
            if !namespace {
                let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != "pid");
            }
            for arguments in [
                &["kill", "k"][..],
                &["kill", "k", "HUP"],
                &["kill", "k", "2"],
                &["kill", "-a", "k"],
            ] {
                bench.create("k", &config);
                // Without an effect on a process that does not handle them.
                for signal in ["WINCH", "CONT", "CHLD"] {
                    bench.run(&["kill", "k", signal]).ok();
                }
                assert_eq!(bench.state("k")["status"], "created");
                bench.run(arguments).ok();
                assert!(
                    eventually(|| bench.state("k")["status"] == "stopped"),
                    "{arguments:?}, init {init}, pid namespace {namespace}"
                );
                let over = bench.run(&["start", "k"]).error(1);
                assert!(over.contains("cannot start a container that has stopped"), "{over}");
                bench.run(&["delete", "k"]).ok();
            }
            // One that was started gets the signal itself.
            bench.keep("k", &config);
            bench.run(&["kill", "k", "WINCH"]).ok();
            assert_eq!(bench.state("k")["status"], "running");
            bench.delete("k");
        }
    }
}

/// The init that stays passes on every signal from the moment on at which the container runs.
fn a_signal_right_after_the_start(bench: &Bench) {
    for _ in 0..10 {
        let bundle = bench.bundle(&bench.config(&["sleep", "1000"]));
        bench.detached(&["run", "--detach", "--init", "--bundle", &bundle, "s"]);
        bench.run(&["kill", "s", "TERM"]).ok();
        bench.wait_for("s", "stopped");
        bench.run(&["delete", "s"]).ok();
        let mut config = bench.config(&["sleep", "1000"]);
        config["annotations"]["org.pidone.init"] = json!("true");
        bench.keep("s", &config);
        bench.run(&["kill", "s", "USR1"]).ok();
        bench.wait_for("s", "stopped");
        bench.run(&["delete", "s"]).ok();
    }
}

fn kill_without_a_pid_namespace(bench: &Bench) {
    let mut config = bench.config(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bench.keep("k", &config);
    let pids = || -> Vec<i32> {
        serde_json::from_str(&bench.run(&["ps", "-f", "json", "k"]).ok()).unwrap()
    };
    assert!(eventually(|| pids().len() == 3));
    let pids = pids();
    bench.run(&["kill", "k", "9"]).ok();
    assert!(eventually(|| pids.iter().all(|pid| has_ended(pid))), "{pids:?} are left");
    bench.delete("k");
}

/// Whether a process has ended. Its parent may not have reaped it yet.
fn has_ended(pid: &dyn std::fmt::Display) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn delete_in_every_state(bench: &Bench) {
    bench.run(&["delete", "--force", "none"]).ok();
    bench.create("d", &bench.staying());
    bench.run(&["delete", "d"]).ok();
    bench.create("d", &bench.staying());
    bench.run(&["delete", "d", "-f"]).ok();
    bench.keep("d", &bench.staying());
    bench.run(&["pause", "d"]).ok();
    let refused = bench.run(&["delete", "d"]).error(1);
    assert!(refused.contains("not stopped: paused"), "{refused}");
    bench.run(&["delete", "--force", "d"]).ok();
    bench.run(&["delete", "--force", "d"]).ok();
    // The bundle and the root may be gone.
    bench.keep("d", &bench.staying());
    fs::remove_file(bench.path("bundle/config.json")).unwrap();
    bench.run(&["delete", "--force", "d"]).ok();
}

fn programs_that_cannot_be_executed(bench: &Bench) {
    fs::write(bench.path("rootfs/bin/plain"), "x").unwrap();
    for (program, said) in [
        ("nosuchcmd", "exec: \"nosuchcmd\": executable file not found in $PATH"),
        ("/bin/nosuchcmd", "exec: \"/bin/nosuchcmd\": no such file or directory"),
        ("/bin/plain", "permission denied"),
        ("/bin", "permission denied"),
    ] {
        let bundle = bench.bundle(&bench.config(&[program]));
        let error = bench.run(&["run", "-b", &bundle, "p"]).error(1);
        assert!(error.contains(said), "{program}: {error}");
        // podman derives 127 from the message of create.
        let error = bench.run(&["create", "-b", &bundle, "p"]).error(1);
        assert!(error.contains(said), "{program}: {error}");
        assert_eq!(bench.run(&["list", "-q"]).ok(), "");
    }
}

fn without_a_cgroup(bench: &Bench) {
    let mut config = bench.staying();
    config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    let bundle = bench.bundle(&config);
    bench.detached(&["--cgroup-manager", "disabled", "create", "-b", &bundle, "n"]);
    bench.run(&["start", "n"]).ok();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let theirs = fs::read_to_string(format!("/proc/{}/cgroup", bench.state("n")["pid"])).unwrap();
    assert_eq!(own, theirs);
    bench.delete("n");
}

fn an_ordinary_user(bench: &Bench) {
    // What the user is to reach.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_pidone")).arg(bench.path("pidone"));
    assert!(copy.status().unwrap().success());
    fs::create_dir(bench.path("run")).unwrap();
    fs::create_dir(bench.path("bundle")).unwrap();
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["run", "bundle"] {
        chown(bench.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(bench.path("pidone"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_RUNTIME_DIR", bench.path("run"))
            .current_dir(bench.path("bundle"))
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        bench.finish(&mut command)
    };
    run(&["spec", "--rootless"]).ok();
    let path = bench.path("bundle/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["root"]["path"] = bench.text("rootfs").into();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["sh", "-c", "id -u; exit 6"]);
    fs::write(&path, config.to_string()).unwrap();
    let outcome = run(&["run", "u"]);
    assert_eq!((outcome.code(), &*outcome.stdout, &*outcome.stderr), (6, "0\n", ""));
    // Its states are where $XDG_RUNTIME_DIR is cleaned up by age, and stay.
    let states = fs::metadata(bench.path("run/pidone")).unwrap();
    assert_eq!((states.mode() & 0o7777, states.uid()), (0o1700, NOBODY));
    config["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 } });
    fs::write(&path, config.to_string()).unwrap();
    let error = run(&["run", "u"]).error(1);
    assert!(error.contains("needs a cgroup, and this user can make none"), "{error}");
    // A cgroup that the configuration names is needed too, as in runc.
    config["linux"].as_object_mut().unwrap().remove("resources");
    config["linux"]["cgroupsPath"] = json!("/theirs/u");
    fs::write(&path, config.to_string()).unwrap();
    for options in [&[][..], &["--rootless", "true"]] {
        let error = run(&[options, &["run", "u"]].concat()).error(1);
        let said = "`linux.cgroupsPath = /theirs/u`: this user cannot make the cgroup";
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(run(&["--cgroup-manager", "disabled", "run", "u"]).code(), 6);
    assert_eq!(run(&["list", "-q"]).ok(), "");
}
