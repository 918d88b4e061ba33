//! Further processes: exec, ps.

use std::fs;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("exec_returns_the_status", &[], exec_returns_the_status),
    case("exec_takes_options", &[], exec_takes_options),
    case("exec_takes_a_process", &[], exec_takes_a_process),
    case("exec_gives_no_inheritable_capability", &[], exec_gives_no_inheritable_capability),
    case("exec_needs_a_running_container", &[Need::Freezer], exec_needs_a_running_container),
    case("exec_in_a_paused_container", &[Need::Freezer], exec_in_a_paused_container),
    case("exec_detached", &[], exec_detached),
    case("exec_is_started_by_an_init_that_stays", &[], exec_is_started_by_an_init_that_stays),
    case("ps_lists_the_containers_processes", &[Need::PS], ps_lists_the_containers_processes),
];

fn exec_returns_the_status(bench: &Bench) {
    bench.keep("e", &bench.staying());
    for (args, code, stdout) in [
        (&["e", "sh", "-c", "echo $FROM; exit 9"][..], 9, "bundle\n"),
        (&["e", "sh", "-c", "kill -TERM $$"], 143, ""),
        (&["e", "sh", "-c", "echo \"$@\"", "-", "-t", "--", "--user"], 0, "-t -- --user\n"),
        (&["--", "e", "true"], 0, ""),
    ] {
        let outcome = bench.run(&[&["exec"], args].concat());
        assert_eq!(
            (outcome.code(), &*outcome.stdout, &*outcome.stderr),
            (code, stdout, ""),
            "{args:?}"
        );
    }
    for (args, said) in [
        (&["e", "nosuchcmd"][..], "exec: \"nosuchcmd\": executable file not found in $PATH"),
        (&["e", "/bin/nosuch"], "exec: \"/bin/nosuch\": no such file or directory"),
        (&["e", "/bin"], "permission denied"),
        (&["e"], "names no program"),
        (&["--cwd", "relative", "e", "true"], "relative"),
        (&["--env", "NOVALUE", "e", "true"], "NOVALUE"),
        (&["--cap", "CAP_BOGUS", "e", "true"], "CAP_BOGUS"),
        (&["--process", "/nonexistent", "e"], "open `/nonexistent`: No such file"),
        (&["--detach", "--tty", "e", "true"], "a detached process with a terminal needs one"),
        (&["--cgroup", "cpu:a", "--cgroup", "b", "e", "true"], "has no CONTROLLER:"),
    ] {
        let error = bench.run(&[&["exec"], args].concat()).error(255);
        assert!(error.contains(said), "{args:?}: {error}");
    }
    bench.delete("e");
}

/// Asked for by the option, or by the annotation.
fn exec_is_started_by_an_init_that_stays(bench: &Bench) {
    let parent = "while read -r name value; do [ $name = PPid: ] && echo $value; done \
                  < /proc/self/status; exit 9";
    for (option, annotation) in [(true, None), (false, Some("true")), (false, Some("false"))] {
        let mut config = bench.staying();
        if let Some(annotation) = annotation {
            config["annotations"] = json!({ "org.pidone.init": annotation });
        }
        let bundle = bench.bundle(&config);
        let line = ["create", "--bundle", &bundle, "e", "--init"];
        bench.detached(if option { &line } else { &line[..4] });
        assert_eq!(bench.state("e")["status"], "created");
        bench.run(&["start", "e"]).ok();
        let stays = annotation != Some("false");
        let outcome = bench.run(&["exec", "e", "sh", "-c", parent]);
        let parent = if stays { "1\n" } else { "0\n" };
        assert_eq!((outcome.code(), &*outcome.stdout), (9, parent), "{option} {annotation:?}");
        let killed = bench.run(&["exec", "e", "sh", "-c", "kill -TERM $$"]);
        assert_eq!(killed.code(), 143);
        let error = bench.run(&["exec", "e", "nosuchcmd"]).error(255);
        assert!(error.contains("executable file not found in $PATH"), "{error}");
        // The process that gets its pid waits for it: it is its parent, or a subreaper above.
        let file = bench.text("pid");
        bench.detached(&["exec", "--detach", "--pid-file", &file, "e", "sleep", "1000"]);
        let pid = fs::read_to_string(&file).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let init = bench.state("e")["pid"].to_string();
        assert!(!status.contains(&format!("PPid:\t{init}\n")), "{status}");
        // Process 1 passes it on to the program, which handles it.
        bench.run(&["kill", "e", "TERM"]).ok();
        bench.wait_for("e", "stopped");
        bench.delete("e");
    }
    let mut config = bench.staying();
    config["annotations"] = json!({ "org.pidone.init": "yes" });
    let bundle = bench.bundle(&config);
    let error = bench.run(&["run", "--bundle", &bundle, "e"]).error(1);
    assert!(error.contains("`annotations.org.pidone.init = yes`: not true or false"), "{error}");
    // The status is the program's.
    let bundle = bench.bundle(&bench.config(&["sh", "-c", "echo $$; exit 7"]));
    let outcome = bench.run(&["run", "--init", "--bundle", &bundle, "e"]);
    assert_eq!((outcome.code(), &*outcome.stdout), (7, "2\n"));
}

fn exec_takes_options(bench: &Bench) {
    bench.keep("e", &bench.staying());
    let line = "id -u; id -g; id -G; echo $A $B $FROM; readlink /proc/self/cwd; \
                cat /proc/self/status";
    let text = bench
        .run(&[
            "exec",
            "-u",
            "7:8",
            "-g",
            "9",
            "--additional-gids",
            "10",
            "-e",
            "A=1",
            "--env",
            "B= x",
            "--cwd",
            "/tmp",
            "--no-new-privs",
            "-c",
            "CAP_NET_RAW",
            "e",
            "sh",
            "-c",
            line,
        ])
        .ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..5], ["7", "8", "8 9 10", "1 x bundle", "/tmp"], "{text}");
    let field = |name: &str| {
        lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    // kill, chown and what was added.
    assert_eq!(bounding, 1 << 5 | 1 | 1 << 13, "{text}");
    // Without a user everything is the bundle's.
    let text = bench.run(&["exec", "e", "sh", "-c", "id -u; readlink /proc/self/cwd"]).ok();
    assert_eq!(text, "0\n/\n");
    let text = bench.run(&["exec", "--user", "5", "e", "sh", "-c", "id -u; id -g"]).ok();
    assert_eq!(text, "5\n0\n");
    bench.delete("e");
}

fn exec_takes_a_process(bench: &Bench) {
    bench.keep("e", &bench.staying());
    let process = json!({
        "args": ["sh", "-c", "id -u; echo $FROM$X; exit 4"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "X=file"],
        "user": { "uid": 3, "gid": 3 },
    });
    let path = bench.write("process.json", process.to_string());
    let outcome = bench.run(&["exec", "--process", &path, "e"]);
    assert_eq!((outcome.code(), &*outcome.stdout), (4, "3\nfile\n"), "{outcome:?}");
    for (text, said) in [
        ("", "empty"),
        ("{", "process"),
        ("{\"args\": [], \"cwd\": \"/\"}", "args"),
        ("{\"args\": [\"true\"], \"cwd\": \"x\"}", "cwd"),
    ] {
        let path = bench.write("bad.json", text);
        let error = bench.run(&["exec", "-p", &path, "e"]).error(255);
        assert!(error.contains(said) || error.contains("EOF"), "{text}: {error}");
    }
    let error = bench.run(&["exec", "-p", &path, "e", "true"]).error(255);
    assert!(error.contains("there can be no other"), "{error}");
    bench.delete("e");
}

fn exec_gives_no_inheritable_capability(bench: &Bench) {
    bench.keep("e", &bench.staying());
    let text = bench.run(&["exec", "--cap", "CAP_NET_RAW", "e", "cat", "/proc/self/status"]).ok();
    let set = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let raw = 1 << 13;
    assert_ne!(set("CapBnd:") & raw, 0, "{text}");
    assert_ne!(set("CapEff:") & raw, 0, "{text}");
    assert_ne!(set("CapPrm:") & raw, 0, "{text}");
    assert_eq!((set("CapInh:"), set("CapAmb:")), (0, 0), "{text}");
    bench.delete("e");
    // Where the bundle has it inheritable, it is ambient too, as in runc.
    let mut config = bench.staying();
    config["process"]["capabilities"]["inheritable"] = json!(["CAP_NET_RAW"]);
    for set in ["bounding", "permitted"] {
        config["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"]);
    }
    bench.keep("e", &config);
    for (arguments, ambient) in
        [(&["--cap", "CAP_NET_RAW", "--cap", "CAP_SETUID"][..], raw), (&[], 0)]
    {
        let line = [&["exec"], arguments, &["e", "cat", "/proc/self/status"]].concat();
        let text = bench.run(&line).ok();
        let line = text.lines().find_map(|line| line.strip_prefix("CapAmb:")).unwrap();
        assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), ambient, "{arguments:?}");
    }
    bench.delete("e");
}

fn exec_needs_a_running_container(bench: &Bench) {
    bench.keep("e", &bench.staying());
    bench.run(&["pause", "e"]).ok();
    assert_eq!(bench.state("e")["status"], "paused");
    let error = bench.run(&["exec", "e", "true"]).error(255);
    assert!(error.contains("cannot exec in a paused container"), "{error}");
    let error = bench.run(&["pause", "e"]).error(1);
    assert!(error.contains("container not running or created: paused"), "{error}");
    let error = bench.run(&["start", "e"]).error(1);
    assert!(error.contains("cannot start a container in the paused state"), "{error}");
    bench.run(&["resume", "e"]).ok();
    assert!(bench.run(&["resume", "e"]).error(1).contains("container not paused"));
    bench.run(&["exec", "e", "true"]).ok();
    bench.run(&["kill", "e", "KILL"]).ok();
    bench.wait_for("e", "stopped");
    let error = bench.run(&["exec", "e", "true"]).error(255);
    assert!(error.contains("cannot exec in a stopped container"), "{error}");
    for verb in ["pause", "resume", "events", "update"] {
        let error = bench.run(&[verb, "e"]).error(1);
        assert!(error.contains("not running"), "{verb}: {error}");
    }
    bench.delete("e");
}

fn exec_in_a_paused_container(bench: &Bench) {
    bench.keep("e", &bench.staying());
    bench.run(&["pause", "e"]).ok();
    let mut command = bench.command(&["exec", "--ignore-paused", "e", "sh", "-c", "echo ran"]);
    let mut program = Call::start(&mut command);
    // Long enough for the program to end if it ran.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(program.is_running());
    bench.run(&["resume", "e"]).ok();
    assert_eq!(program.finish().ok(), "ran\n");
    bench.delete("e");
}

fn exec_detached(bench: &Bench) {
    bench.keep("e", &bench.staying());
    let pid = bench.text("pid");
    let line = ["sh", "-c", "touch /tmp/began; sleep 1000"];
    bench.detached(&[&["exec", "-d", "--pid-file", &pid, "e"][..], &line].concat());
    let pid: i32 = fs::read_to_string(&pid).unwrap().parse().unwrap();
    assert!(eventually(|| bench.run(&["exec", "e", "ls", "/tmp/began"]).code() == 0));
    let pids: Vec<i32> = serde_json::from_str(&bench.run(&["ps", "-f", "json", "e"]).ok()).unwrap();
    assert!(pids.contains(&pid), "{pid} in {pids:?}");
    bench.delete("e");
    assert!(eventually(|| !std::path::Path::new(&format!("/proc/{pid}/root")).exists()));
}

fn ps_lists_the_containers_processes(bench: &Bench) {
    bench.keep("p", &bench.config(&["sh", "-c", "sleep 1234567 & wait"]));
    let json = || -> Value {
        serde_json::from_str(&bench.run(&["ps", "--format", "json", "p"]).ok()).unwrap()
    };
    assert!(eventually(|| json().as_array().unwrap().len() == 2));
    assert!(json().as_array().unwrap().contains(&bench.state("p")["pid"]));
    assert!(eventually(|| bench.run(&["ps", "p"]).stdout.contains("sleep 1234567")));
    let table = bench.run(&["ps", "p"]).ok();
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = bench.run(&["ps", "p", "-e", "-o", "pid,comm"]).ok();
    assert!(table.contains("PID COMMAND") && table.lines().count() == 3, "{table}");
    assert!(bench.run(&["ps", "p", "-e", "-o", "comm"]).error(1).contains("no column PID"));
    bench.run(&["ps", "p", "--bogus"]).error(1);
    bench.run(&["kill", "p", "KILL"]).ok();
    bench.wait_for("p", "stopped");
    assert_eq!(bench.run(&["ps", "p"]).ok(), "");
    assert_eq!(bench.run(&["ps", "--format", "json", "p"]).ok(), "[]\n");
    bench.delete("p");
}
