//! Faults of the machine and of others while a container lives: the command fails in words or not
//! at all, and nothing is left.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::leftover::{CGROUPS, find};
use pidone_tests::{Bench, Call, DEADLINE, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("fault_damaged_state", &[], damaged_state),
    case("fault_reused_pid", &[], reused_pid),
    case("fault_creates_of_one_id", &[], creates_of_one_id),
    case("fault_verbs_at_once", &[], verbs_at_once),
    case("fault_cgroups_inside", &[Need::Freezer], cgroups_inside),
    case("fault_first_process_dies_in_exec", &[], first_process_dies_in_exec),
    case("fault_programs_that_end_at_once", &[], programs_that_end_at_once),
    case("fault_many_processes", &[], many_processes),
    case("fault_frozen", &[Need::Freezer], frozen),
    case("fault_cgroup_of_others", &[Need::Freezer], cgroup_of_others),
    case("fault_hooks", &[], hooks),
    case("fault_files_vanish", &[], files_vanish),
    case("fault_full_and_read_only_state", &[], full_and_read_only_state),
];

fn damaged_state(bench: &Bench) {
    for damage in ["", "{", "{\"id\":\"d\"", "null", "\0\0\0\0"] {
        bench.keep("d", &bench.staying());
        let pid = bench.state("d")["pid"].to_string();
        bench.write("state/d/state.json", damage);
        let mut config = bench.config(&["true"]);
        config["linux"]["cgroupsPath"] = json!(format!("/{}/other", bench.cgroup()));
        bench.create("other", &config);
        let list = bench.run(&["list", "-q"]);
        assert_eq!((list.code(), list.stdout.as_str()), (0, "d\nother\n"), "{list:?}");
        bench.delete("other");
        bench.delete("d");
        assert!(eventually(|| has_ended(&pid)), "{damage:?}: {pid} is left");
        bench.check_nothing_is_left();
    }
    // Without it too.
    bench.keep("d", &bench.staying());
    fs::remove_file(bench.path("state/d/state.json")).unwrap();
    bench.delete("d");
}

/// Whether a process has ended; its new parent may not have reaped it.
fn has_ended(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// When a process began, in ticks since the boot: field 22 of `/proc/PID/stat`, proc_pid_stat(5).
fn start_time(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(19).unwrap().to_owned()
}

/// A process that did not begin in the same tick as `pid`, as a later owner of its number would
/// not: a tick is 10 ms, and a start takes less.
fn stranger_to(pid: &str) -> Child {
    loop {
        let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
        if start_time(&stranger.id().to_string()) != start_time(pid) {
            return stranger;
        }
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

fn reused_pid(bench: &Bench) {
    bench.keep("r", &bench.staying());
    let path = bench.path("state/r/state.json");
    let mut stranger = stranger_to(&bench.state("r")["pid"].to_string());
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let own = state["init_process_pid"].clone();
    state["init_process_pid"] = json!(stranger.id());
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(bench.state("r")["status"], "stopped");
    bench.run(&["kill", "r", "KILL"]).error(1);
    bench.run(&["kill", "--all", "r", "TERM"]).ok();
    bench.run(&["exec", "r", "true"]).error(255);
    bench.delete("r");
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
    assert!(eventually(|| has_ended(&own.to_string())));
    // Nor one of another boot.
    bench.keep("r", &bench.staying());
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(bench.state("r")["status"], "stopped");
    bench.delete("r");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// Runs commands at the same time, whose processes do not have the test's pipes.
fn at_once(bench: &Bench, lines: &[&[&str]]) -> Vec<(i32, String)> {
    let start = |(index, line): (usize, &&[&str])| {
        let log = bench.path(&format!("log.{index}"));
        let mut command = bench.command(line);
        command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        (Call::start(&mut command), log)
    };
    let started: Vec<_> = lines.iter().enumerate().map(start).collect();
    let finish = |(program, log): (Call, PathBuf)| {
        (program.finish().code(), fs::read_to_string(log).unwrap())
    };
    started.into_iter().map(finish).collect()
}

fn creates_of_one_id(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    let line = ["create", "-b", &bundle, "one"];
    for _ in 0..3 {
        let outcomes = at_once(bench, &[&line[..]; 12]);
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(code, _)| *code == 0);
        assert_eq!(won.len(), 1, "{outcomes:?}");
        for (code, said) in lost {
            assert!(*code == 1 && said.contains("a container with this id exists"), "{said}");
        }
        bench.run(&["start", "one"]).ok();
        bench.delete("one");
        bench.check_nothing_is_left();
    }
}

fn verbs_at_once(bench: &Bench) {
    for round in 0..4 {
        bench.create("v", &bench.staying());
        let lines: [&[&str]; 10] = [
            &["start", "v"],
            &["start", "v"],
            &["delete", "--force", "v"],
            &["delete", "v"],
            &["kill", "v", "KILL"],
            &["state", "v"],
            &["list"],
            &["list", "-f", "json"],
            &["ps", "v"],
            &["delete", "--force", "v"],
        ];
        for ((code, said), line) in at_once(bench, &lines).iter().zip(lines) {
            let never_fails = line[0] == "list" || line.contains(&"--force");
            assert!(*code == 0 || !never_fails, "{round} {line:?}: {said}");
            assert!(*code <= 1 && said.lines().count() <= 1, "{round} {line:?}: {said}");
        }
        bench.delete("v");
        bench.check_nothing_is_left();
    }
}

/// The container's cgroup on one hierarchy.
fn cgroup(bench: &Bench, controller: &str) -> PathBuf {
    PathBuf::from("/sys/fs/cgroup").join(controller).join(bench.cgroup())
}

fn cgroups_inside(bench: &Bench) {
    // One is busy when the container ends, and one is frozen.
    bench.keep("c", &bench.config(&["sh", "-c", "sleep 1000 & sleep 1000"]));
    let pids: Vec<i32> = serde_json::from_str(&bench.run(&["ps", "-f", "json", "c"]).ok()).unwrap();
    let inside = cgroup(bench, "freezer").join("a/b");
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir_all(cgroup(bench, "pids").join("x/y/z")).unwrap();
    let member = pids.last().unwrap().to_string();
    fs::write(inside.join("cgroup.procs"), &member).unwrap();
    fs::write(inside.join("freezer.state"), "FROZEN").unwrap();
    bench.delete("c");
    assert!(eventually(|| has_ended(&member)));
}

fn first_process_dies_in_exec(bench: &Bench) {
    for _ in 0..5 {
        bench.keep("e", &bench.staying());
        let line = ["exec", "e", "sh", "-c", "echo in; while :; do :; done"];
        let out = bench.path("out");
        let mut command = bench.command(&line);
        let program = Call::start(command.stdout(fs::File::create(&out).unwrap()));
        assert!(eventually(|| fs::read_to_string(&out).unwrap() == "in\n"));
        bench.run(&["kill", "e", "KILL"]).ok();
        assert_eq!(program.finish().code(), 137);
        bench.delete("e");
    }
    // While the process is only made it is an error, or already the end.
    bench.keep("e", &bench.staying());
    let execs: Vec<_> =
        (0..8).map(|_| Call::start(&mut bench.command(&["exec", "e", "sleep", "1000"]))).collect();
    bench.run(&["kill", "e", "KILL"]).ok();
    for exec in execs {
        let outcome = exec.finish();
        assert!([137, 255].contains(&outcome.code()), "{outcome:?}");
    }
    bench.delete("e");
}

fn programs_that_end_at_once(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["sh", "-c", "exit 9"]));
    thread::scope(|scope| {
        for worker in 0..6 {
            let bundle = &bundle;
            scope.spawn(move || {
                // A cgroup each, for one that is in use is refused.
                let id = format!("p{worker}");
                let mut config: Value =
                    serde_json::from_slice(&fs::read(format!("{bundle}/config.json")).unwrap())
                        .unwrap();
                config["linux"]["cgroupsPath"] = json!(format!("/{}{id}", bench.cgroup()));
                let directory = bench.path(&format!("bundle.{worker}"));
                fs::create_dir(&directory).unwrap();
                fs::write(directory.join("config.json"), config.to_string()).unwrap();
                for round in 0..50 {
                    let outcome = bench.run(&["run", "-b", directory.to_str().unwrap(), &id]);
                    assert_eq!(outcome.code(), 9, "{id} {round}: {outcome:?}");
                }
            });
        }
    });
    for worker in 0..6 {
        let name = format!("{}p{worker}", bench.cgroup());
        assert_eq!(find(Path::new(CGROUPS), 2, &name), None);
    }
}

fn many_processes(bench: &Bench) {
    let many = "n=0; while [ $n -lt 500 ]; do sleep 1000 & n=$((n+1)); done; echo > /tmp/all; wait";
    // It still grows when it is killed.
    let bomb = "b() { b & b & exec sleep 1000; }; b & exec sleep 1000";
    for (line, enough, shares_pids) in
        [(many, 500, false), (many, 500, true), (bomb, 200, false), (bomb, 200, true)]
    {
        let mut config = bench.config(&["sh", "-c", line]);
        config["linux"]["resources"] = json!({ "pids": { "limit": 600 } });
        if shares_pids {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
        bench.keep("m", &config);
        let count = || {
            let text = fs::read_to_string(cgroup(bench, "pids").join("pids.current"));
            text.unwrap().trim().parse::<u32>().unwrap()
        };
        assert!(eventually(|| count() >= enough), "{}", count());
        let begin = Instant::now();
        bench.delete("m");
        let took = begin.elapsed();
        // A second on a machine with nothing else to do.
        assert!(took < DEADLINE, "{took:?}: {line}, pids shared: {shares_pids}");
        bench.check_nothing_is_left();
    }
}

fn frozen(bench: &Bench) {
    bench.keep("f", &bench.staying());
    bench.run(&["pause", "f"]).ok();
    bench.run(&["kill", "f", "KILL"]).ok();
    bench.wait_for("f", "stopped");
    bench.run(&["delete", "f"]).ok();
    bench.create("f", &bench.staying());
    bench.run(&["pause", "f"]).ok();
    bench.delete("f");
    // By somebody else.
    bench.keep("f", &bench.staying());
    fs::write(cgroup(bench, "freezer").join("freezer.state"), "FROZEN").unwrap();
    bench.delete("f");
}

fn cgroup_of_others(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    let create = || bench.refused(&["create", "-b", &bundle, "c"]);
    let own = cgroup(bench, "freezer");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("freezer.state"), "FROZEN").unwrap();
    let error = create();
    assert!(error.contains("the cgroup is frozen") && error.contains(bench.cgroup()), "{error}");
    fs::write(own.join("freezer.state"), "THAWED").unwrap();
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(own.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let error = create();
    let pid = stranger.id().to_string();
    assert!(error.contains("it exists and has processes") && error.contains(&pid), "{error}");
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
    assert!(own.exists(), "somebody else's cgroup was removed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(eventually(|| fs::remove_dir(&own).is_ok()));
}

fn hooks(bench: &Bench) {
    let hook = |line: &str, timeout: u32| json!([{ "path": "/bin/sh", "args": ["sh", "-c", line], "timeout": timeout }]);
    // Its children too, which hold its pipes.
    for line in ["sleep 1000", "sleep 1000 & sleep 1000", "while :; do echo x; done"] {
        let mut config = bench.staying();
        config["hooks"] = json!({ "createRuntime": hook(line, 1) });
        let bundle = bench.bundle(&config);
        let begin = Instant::now();
        let error = bench.refused(&["create", "-b", &bundle, "h"]);
        assert!(error.contains("createRuntime") && error.len() < 2000, "{line}: {error}");
        assert!(begin.elapsed() < DEADLINE, "{line}");
        bench.check_nothing_is_left();
    }
    let mut config = bench.staying();
    let line = "echo ran >> poststop; exit 3";
    let directory = bench.path("").display().to_string();
    config["hooks"] = json!({ "poststop": hook(&format!("cd {directory}; {line}"), 9) });
    let again = config["hooks"]["poststop"][0].clone();
    config["hooks"]["poststop"].as_array_mut().unwrap().push(again);
    bench.keep("h", &config);
    let outcome = bench.run(&["delete", "--force", "h"]);
    assert_eq!((outcome.code(), &*outcome.stdout), (0, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("`poststop[0] /bin/sh`: exited with status 3"), "{outcome:?}");
    assert!(outcome.stderr.contains("`poststop[1] /bin/sh`: "), "{outcome:?}");
    assert_eq!(fs::read_to_string(bench.path("poststop")).unwrap(), "ran\nran\n");
    bench.check_nothing_is_left();
    // The command is killed while a hook runs.
    let mut config = bench.staying();
    config["hooks"] = json!({ "createRuntime": hook("exec sleep 1000", 999) });
    let bundle = bench.bundle(&config);
    let mut command = bench.command(&["create", "-b", &bundle, "h"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let create = Call::start(&mut command);
    let hook_runs = || {
        let children = format!("/proc/{0}/task/{0}/children", create.pid());
        fs::read_to_string(children).unwrap_or_default().split_whitespace().count() >= 2
    };
    assert!(eventually(hook_runs));
    create.signal(rustix::process::Signal::KILL);
    assert_eq!(create.finish().code(), 137);
    bench.delete("h");
}

fn files_vanish(bench: &Bench) {
    let moved = |there: bool| {
        for name in ["rootfs", "bundle"] {
            let (from, to) = (bench.path(name), bench.path(&format!("{name}.gone")));
            let (from, to) = if there { (to, from) } else { (from, to) };
            fs::rename(from, to).unwrap();
        }
    };
    for start in [false, true] {
        bench.create("v", &bench.staying());
        moved(false);
        if start {
            bench.run(&["start", "v"]).ok();
            let process =
                json!({ "args": ["sh", "-c", "echo in"], "cwd": "/", "env": ["PATH=/bin"] });
            let process = bench.write("process.json", process.to_string());
            assert_eq!(bench.run(&["exec", "--process", &process, "v"]).ok(), "in\n");
        }
        assert_ne!(bench.state("v")["status"], "stopped");
        bench.delete("v");
        moved(true);
        bench.check_nothing_is_left();
    }
}

fn full_and_read_only_state(bench: &Bench) {
    let bundle = bench.bundle(&bench.staying());
    fs::create_dir(bench.path("small")).unwrap();
    // `$0` is pidone, `$1` the state root and `$2` the bundle.
    let shell = |line: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", line, env!("CARGO_BIN_EXE_pidone")])
            .args([&bench.text("small"), &bundle])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(bench.path("said")).unwrap());
        let code = bench.finish(&mut command).code();
        (code, fs::read_to_string(bench.path("said")).unwrap())
    };
    let small = "mount -t tmpfs -o size=64k,nr_inodes=20 none \"$1\"";
    let tries = [
        (format!("{small}; dd if=/dev/zero of=\"$1\"/full bs=4k 2>/dev/null"), "No space left"),
        (
            format!(
                "{small}; for n in 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k; do \
                 touch \"$1\"/$n 2>/dev/null; done"
            ),
            "No space left",
        ),
        (format!("{small}; mount -o remount,ro \"$1\""), "Read-only file system"),
    ];
    for (prepare, said) in &tries {
        let create = "\"$0\" --root \"$1\" create -b \"$2\" x";
        let line =
            format!("{prepare}; {create}; code=$?; ls \"$1\"/x/* >&2 2>/dev/null; exit $code");
        let (code, told) = shell(&line);
        assert_eq!(code, 1, "{prepare}: {told}");
        assert!(told.contains(said) && told.starts_with("pidone: "), "{prepare}: {told}");
        assert_eq!(told.lines().count(), 1, "{prepare}: {told}");
        bench.check_nothing_is_left();
    }
    // Full from some moment on: whatever was begun can be removed.
    for pages in 1..8 {
        let line = format!(
            "{small}; dd if=/dev/zero of=\"$1\"/full bs=4k count={pages} 2>/dev/null; \
             \"$0\" --root \"$1\" create -b \"$2\" y; dd if=/dev/zero of=\"$1\"/z bs=1k 2>/dev/null; \
             \"$0\" --root \"$1\" start y; \"$0\" --root \"$1\" delete --force y && ! [ -e \"$1\"/y ]",
            pages = 16 - pages,
        );
        let (code, told) = shell(&line);
        assert_eq!(code, 0, "{pages}: {told}");
        assert!(!told.contains("panicked"), "{told}");
        bench.check_nothing_is_left();
    }
    let mut file = fs::File::create(bench.path("state.file")).unwrap();
    file.write_all(b"x").unwrap();
    let mut command = bench.command(&["--root"]);
    let error = bench.finish(command.arg(bench.path("state.file")).arg("list")).error(1);
    assert!(error.contains("state.file"), "{error}");
}
