//! Bad input: one line, the right status, and nothing is left.

use serde_json::json;

use crate::{Case, case};
use pidone_tests::{Bench, Need, Who};

pub(crate) const CASES: &[Case] = &[
    case("wrong_options", &[], wrong_options),
    case("wrong_files", &[], wrong_files),
    case("wrong_roots", &[Need::Busybox], wrong_roots),
    case("wrong_programs", &[Need::Busybox], wrong_programs),
    case("wrong_limits", &[], wrong_limits),
    case("no_permission", &[], no_permission),
    case("the_log_has_the_error_too", &[], the_log_has_the_error_too),
    case("closed_and_full_descriptors", &[], closed_and_full_descriptors),
];

fn wrong_options(bench: &Bench) {
    let long = "x".repeat(1025);
    for (arguments, said) in [
        (
            &["exec"][..],
            "required arguments were not provided: <PROGRAM>... (see nsinit exec --help",
        ),
        (&["exec", "--bogus", "sh"], "unexpected argument '--bogus' found"),
        (&["exec", "--id"], "a value is required for '--id <ID>'"),
        (&["exec", "--id", "", "sh"], "id: not 1 to 1024 of A-Z"),
        (&["exec", "--id", "a/b", "sh"], "id `a/b`: not 1 to 1024 of"),
        (&["exec", "--id", "..", "sh"], "id `..`: not 1 to 1024 of"),
        (&["exec", "--id", &long, "sh"], "id `xxxx"),
        (&["exec", "--id=-x", "sh"], "id `-x`: not 1 to 1024 of"),
        (&["exec", "--env", "NOVALUE", "sh"], "configuration `env = NOVALUE`: not of the form"),
        (&["exec", "--user", "nobody-here", "sh"], "user `nobody-here`: no such user"),
        (&["exec", "--user", "1:2:3", "sh"], "user `1:2:3`: must be user, uid"),
        (&["exec", "--user", "4294967296", "sh"], "user `4294967296`: must be from 0"),
        (&["exec", "--groups", "nosuch", "sh"], "no such group"),
        (&["exec", "--cwd", "/nonexistent", "sh"], "/nonexistent"),
        (&["exec", "--net", "bridge", "sh"], "invalid value 'bridge' for '--net <NAMESPACE>'"),
        (&["exec", "--pid", "/nonexistent", "sh"], "/nonexistent`: No such file or directory"),
        (&["exec", "--bind", "/nonexistent:/tmp", "sh"], "/nonexistent`: No such file"),
        (&["exec", "--sysctl", "kernel.panic=1", "sh"], "kernel.panic"),
        (
            &["exec", "--hostname", "a\nb", "sh"],
            "configuration `hostname = \"a\\nb\"`: has a control",
        ),
        (&["exec", "--veth-address", "10.0.0.1/24", "sh"], "needs --veth-bridge"),
        (&["exec", ""], "configuration `args`: no program"),
        (&["pause", "--id", "nosuch"], "load `nosuch`: container does not exist"),
        (&["unpause", "--id", "nosuch"], "load `nosuch`: container does not exist"),
        (&["state", "--id", "nosuch"], "load `nosuch`: container does not exist"),
        (&["stats", "--id", "nosuch"], "load `nosuch`: container does not exist"),
        (&["oom", "--id", "nosuch"], "load `nosuch`: container does not exist"),
        (&["stray", "sh"], "command `stray`: unknown (see nsinit --help)"),
        (&["init"], "init: the init of containers is a program of its own"),
        (&["help", "stray"], "command `stray`: unknown"),
        (&["completions", "csh"], "invalid value 'csh' for '<SHELL>'"),
    ] {
        let error = bench.run(arguments).error(1);
        assert!(error.contains(said), "{arguments:?}: {error}");
        bench.check_nothing_is_left();
    }
    let error = bench.finish(&mut bench.bare_command(&["--bogus"])).error(1);
    assert_eq!(error, "option `--bogus`: unknown (see nsinit --help)");
    let error = bench.finish(&mut bench.bare_command(&["--root=", "state"])).error(1);
    assert!(error.starts_with("a value is required for '--root <DIR>'"), "{error}");
}

fn wrong_files(bench: &Bench) {
    let directory = bench.mkdir("here");
    let cgroup = bench.new_cgroup();
    for (text, said) in [
        (json!({"hostnam": "x"}).to_string(), "`hostnam = \"x\"`: unknown field"),
        (json!({"capabilities": ["KILL", "CAP_NO"]}).to_string(), "unknown capability"),
        (json!({"namespaces": [{"type": "NEWFOO"}]}).to_string(), "unknown namespace"),
        (json!({"hostname": "x"}).to_string(), "needs a UTS namespace (NEWUTS)"),
        (
            json!({"mounts": [{"device": "ext9", "destination": "/x"}],
            "namespaces": [{"type": "NEWNS"}]})
            .to_string(),
            "unknown mount device",
        ),
        (json!({"cgroups": {"name": cgroup, "memory": "64x"}}).to_string(), "`cgroups.memory"),
        (json!({"cgroups": {"name": "../x"}}).to_string(), "`cgroups.name"),
        (json!({"rlimits": [{"type": 7, "soft": 9, "hard": 1}]}).to_string(), "`rlimits[0]"),
        ("{".to_owned(), "line 1 column 1"),
        (String::new(), "empty"),
        ("\u{0}".to_owned(), "line 1 column 1"),
        ("[".repeat(200_000), "line 1"),
    ] {
        let file = bench.write("here/container.json", &text);
        let short = &text[..text.len().min(60)];
        let named = bench.exec(&["--config", &file, "/bin/sh"]).error(1);
        assert!(named.contains(said), "{short}: {named}");
        let mut found = bench.command(&["exec", "/bin/sh"]);
        let found = bench.finish(found.current_dir(&directory)).error(1);
        assert!(found.contains(said), "{short}: {found}");
        bench.check_nothing_is_left();
    }
    // A huge file, and one that is none.
    let file = bench.write("here/container.json", "");
    std::fs::File::options().write(true).open(&file).unwrap().set_len(17 << 20).unwrap();
    let mut found = bench.command(&["exec", "/bin/sh"]);
    let error = bench.finish(found.current_dir(&directory)).error(1);
    assert!(error.contains("larger than 16 MiB"), "{error}");
    std::fs::remove_file(&file).unwrap();
    bench.mkdir("here/container.json");
    let mut found = bench.command(&["exec", "/bin/sh"]);
    let error = bench.finish(found.current_dir(&directory)).error(1);
    assert!(error.starts_with("open `container.json`: not a regular file"), "{error}");
}

fn wrong_roots(bench: &Bench) {
    let root = bench.make_root("busybox");
    let file = bench.write("file", "");
    std::os::unix::fs::symlink(&root, bench.path("link")).unwrap();
    let link = bench.text("link");
    let missing = bench.text("missing");
    for (root, said) in [
        (&missing, "No such file or directory"),
        (&file, "not a directory"),
        (&link, "leads through a symbolic link"),
    ] {
        let error = bench.exec(&["--rootfs", root, "/bin/sh"]).error(1);
        assert!(error.contains(said) && error.contains(root.as_str()), "{error}");
        bench.check_nothing_is_left();
    }
    // A current directory that is gone.
    let gone = bench.mkdir("gone");
    let line = format!("cd {gone} && rmdir {gone} && exec \"$@\"");
    let state = bench.text("state");
    let binary = bench.program().to_str().unwrap();
    let all = ["-c", &line, "sh", binary, "--root", &state, "exec", "true"];
    let shell = std::path::Path::new("/bin/sh");
    let error = bench.finish(&mut bench.command_of(shell, &all)).error(1);
    assert_eq!(error, "getcwd: No such file or directory");
}

fn wrong_programs(bench: &Bench) {
    use std::os::unix::fs::PermissionsExt;
    let root = bench.make_root("busybox");
    for (name, text, mode) in [
        ("plain", "#!/bin/sh\n", 0o644),
        ("lost", "#!/no/interpreter\n", 0o755),
        ("garbage", "\u{1}\u{2}\u{3}", 0o755),
    ] {
        let path = bench.write(&format!("busybox/bin/{name}"), text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for (program, code, said) in [
        ("nosuch", 127, "nosuch"),
        ("/bin/nosuch", 127, "/bin/nosuch"),
        ("/bin/sh/x", 127, "/bin/sh/x"),
        ("plain", 126, "/bin/plain"),
        ("/bin/plain", 126, "/bin/plain"),
        ("/bin", 126, "/bin"),
        ("lost", 126, "/bin/lost"),
        ("garbage", 126, "/bin/garbage"),
    ] {
        for tty in [&[][..], &["--tty"]] {
            let outcome = bench.exec(&[&["--rootfs", &root], tty, &[program]].concat());
            let error = outcome.error(code);
            assert!(error.contains(said), "{program}: {error}");
            bench.check_nothing_is_left();
        }
    }
}

fn wrong_limits(bench: &Bench) {
    for (arguments, said) in [
        (["--cpuset-cpus", "4000"], "cpuset.cpus"),
        (["--cpuset-cpus", "a-b"], "cgroups.cpuset_cpus"),
        (["--memory-limit", "1"], "memory"),
        (["--cpushares", "-5"], "cgroups.cpu_shares"),
        (["--memory-swappiness", "101"], "cgroups.memory_swappiness"),
    ] {
        let outcome = bench.exec(&[&arguments[..], &["true"]].concat());
        let error = outcome.error(1);
        let named = match bench.who() {
            Who::Root => said.to_owned(),
            Who::Ordinary => "cgroups.".to_owned(),
        };
        assert!(error.contains(&named), "{arguments:?}: {error}");
        bench.check_nothing_is_left();
    }
    if bench.who() == Who::Ordinary {
        let error = bench.exec(&["--memory-limit", "64m", "true"]).error(1);
        let said = "configuration `cgroups.memory`: needs a cgroup, and this user can make none";
        assert_eq!(error, said);
    }
}

fn no_permission(bench: &Bench) {
    // A state root of somebody else's.
    let other = bench.path("other");
    std::fs::create_dir(&other).unwrap();
    let (uid, said) = match bench.who() {
        Who::Root => (65534, "Operation not permitted (it belongs to another user)"),
        Who::Ordinary => (0, "Operation not permitted (it belongs to another user)"),
    };
    std::os::unix::fs::chown(&other, Some(uid), Some(uid)).unwrap();
    let mut command = bench.bare_command(&["--root"]);
    let error = bench.finish(command.arg(&other).args(["exec", "true"])).error(1);
    assert!(error.ends_with(said), "{error}");
    assert!(std::fs::read_dir(&other).unwrap().next().is_none());
    if bench.who() == Who::Root {
        return;
    }
    let mut command = bench.bare_command(&["--root", "/proc/nsinit", "exec", "true"]);
    assert!(bench.finish(&mut command).error(1).starts_with("mkdir `/proc/nsinit`: "));
    let mut command = bench.bare_command(&["--root", "/usr/nsinit", "exec", "true"]);
    let error = bench.finish(&mut command).error(1);
    assert_eq!(error, "mkdir `/usr/nsinit`: Permission denied");
    let error = bench.exec(&["--net", "/proc/1/ns/net", "true"]).error(1);
    assert!(error.contains("/proc/1/ns/net`: Permission denied"), "{error}");
    let error = bench.exec(&["--veth-bridge", "br0", "--veth-address", "10.0.0.2/24", "true"]);
    let error = error.error(1);
    assert!(error.contains("Operation not permitted") || error.contains("br0"), "{error}");
}

fn the_log_has_the_error_too(bench: &Bench) {
    bench.mkdir("log");
    let log = bench.text("log/nsinit.log");
    let error = bench.run(&["--log-file", &log, "exec", "nosuch"]).error(127);
    bench.run(&["exec", "--log-file", &log, "true"]).ok();
    bench.run(&["--debug", "exec", "--log-file", &log, "true"]).ok();
    let debug = bench.run(&["--debug", "exec", "true"]);
    assert_eq!((debug.code(), debug.stdout.as_str()), (0, ""));
    assert!(debug.stderr.contains("| init pivot_root"), "{debug:?}");
    assert!(debug.stderr.lines().all(|line| line.contains(" level=debug ")), "{debug:?}");
    let file = bench.text("trace.json");
    bench.run(&["exec", "--trace", &file, "true"]).ok();
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let named = |name| trace["spans"].as_array().unwrap().iter().any(|span| span["name"] == name);
    assert!(named("read the configuration") && named("pivot_root"), "{trace:#}");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let told = error.replace('"', "\\\"");
    assert!(lines[0].ends_with(&format!("level=error msg=\"{told}\"")), "{text}");
    assert!(lines[1..].iter().all(|line| line.contains("level=debug")), "{text}");
    let error = bench.run(&["--log-file", "/nonexistent/log", "exec", "true"]).error(1);
    assert_eq!(error, "open `/nonexistent/log`: No such file or directory");
}

fn closed_and_full_descriptors(bench: &Bench) {
    let shell = |line: &str| {
        let binary = bench.program().to_str().unwrap();
        let state = bench.text("state");
        let line = format!("N() {{ {binary} --root {state} \"$@\"; }}; {line}");
        bench.finish(&mut bench.command_of(std::path::Path::new("/bin/sh"), &["-c", &line]))
    };
    // Closed ones are the null device inside.
    let seen = shell("N exec sh -c 'echo lost; readlink /proc/self/fd/0' <&-");
    assert_eq!(seen.ok(), "lost\n/dev/null\n");
    assert_eq!(shell("N exec sh -c 'echo x; exit 4' <&- >&- 2>&-; echo $?").ok(), "4\n");
    assert_eq!(shell("N exec nosuch 2>&-; echo $?").ok(), "127\n");
    // Nobody reads, once `true` has ended: no panic, and no message.
    let seen = shell(
        "trap '' PIPE; { while echo 2>/dev/null; do sleep 0.01; done; N config; echo $? >&2; } | true",
    );
    assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("", "0\n"));
    let seen = shell("N config > /dev/full");
    assert_eq!(seen.error(1), "write `stdout`: No space left on device");
    let seen = shell("N --help > /dev/full");
    assert_eq!(seen.error(1), "write `stdout`: No space left on device");
    // A descriptor that the caller leaks is not seen inside.
    let seen = shell("exec 7</etc/hostname; N exec ls /proc/self/fd").ok();
    let fds: Vec<_> = seen.lines().collect();
    assert_eq!(fds, ["0", "1", "2", "3"], "ls has the directory itself open");
}
