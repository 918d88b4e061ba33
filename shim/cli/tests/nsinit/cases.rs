//! `nsinit exec`: what a program sees, how its end is reported, and which container is joined.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Signal;

use crate::{Case, case, ordinary_case, root_case};
use pidone_tests::{Bench, Need, Who, eventually};

pub(crate) const CASES: &[Case] = &[
    case("exit_statuses", &[], exit_statuses),
    case("a_container_is_private", &[], a_container_is_private),
    case("the_host_is_read_only_and_keeps_its_secrets", &[], the_host_is_read_only),
    case("options_of_the_process", &[], options_of_the_process),
    root_case("users_of_bound_files", &[], users_of_bound_files),
    case("a_second_exec_joins", &[], a_second_exec_joins),
    case("an_init_that_stays_starts_what_follows", &[], an_init_that_stays),
    case("the_end_of_process_1_ends_all", &[], the_end_of_process_1_ends_all),
    case("many_start_one_container", &[], many_start_one_container),
    case("leftovers_of_a_killed_nsinit_are_removed", &[], what_a_killed_nsinit_leaves),
    case("the_root_moves_the_state", &[], the_root_moves_the_state),
    case("shared_namespaces", &[], shared_namespaces),
    case("create_options", &[Need::Busybox], create_options),
];

/// Cases that root has no part in.
pub(crate) const ORDINARY: &[Case] = &[
    // That of root is the host's, and not for tests.
    ordinary_case("the_default_root", &[], the_default_root),
    ordinary_case("a_user_without_an_id_is_named", &[], a_user_without_an_id_is_named),
    ordinary_case("in_a_user_namespace", &[], in_a_user_namespace),
    ordinary_case("without_user_namespaces", &[], without_user_namespaces),
];

fn exit_statuses(bench: &Bench) {
    for (line, status) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("nosuch", 127)] {
        assert_eq!(bench.shell(line).code(), status, "{line}");
    }
    assert!(bench.exec(&["nosuch"]).error(127).contains("nosuch"));
    assert!(bench.exec(&["/no/such"]).error(127).contains("/no/such"));
    assert!(bench.exec(&["/etc/passwd/x"]).error(127).contains("/etc/passwd/x"));
    assert!(bench.exec(&["/etc/passwd"]).error(126).contains("/etc/passwd"));
    assert!(bench.exec(&["/etc"]).error(126).contains("/etc"));
}

fn a_container_is_private(bench: &Bench) {
    let seen = bench
        .shell(
            "hostname; echo $$; id -u; id -g; sed -n s/CapEff:.//p /proc/self/status; pwd; \
             ls -d /proc/[0-9]* | wc -l; cat /proc/net/dev | grep -c :; \
             grep -c ' / ' /proc/self/mountinfo",
        )
        .ok();
    let seen: Vec<_> = seen.lines().map(str::trim).collect();
    // The shell and the two of the pipeline.
    assert_eq!(seen[..6], ["nsinit", "1", "0", "0", "00000000a80425fb", "/"]);
    assert!((1..=4).contains(&seen[6].parse::<u32>().unwrap()), "processes: {}", seen[6]);
    assert_eq!(seen[7], "1", "interfaces");

    let mounts = bench.exec(&["cat", "/proc/self/mounts"]).ok();
    for (place, kind) in [
        ("/", "tmpfs"),
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/tmp", "tmpfs"),
    ] {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(place));
        let found = line.and_then(|line| line.split(' ').nth(2));
        assert_eq!(found, Some(kind), "{place} in {mounts}");
    }
    let env = bench.exec(&["env"]).ok();
    let mut env: Vec<_> = env.lines().collect();
    env.sort_unstable();
    assert_eq!(
        env[1..],
        [
            "HOSTNAME=nsinit",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ]
    );
    assert!(env[0].starts_with("HOME=/"), "{env:?}");
}

fn the_host_is_read_only(bench: &Bench) {
    let tries = bench.shell(
        "for path in /etc /usr /bin /; do touch $path/nsinit-test 2>/dev/null && echo $path; done; \
         cat /etc/shadow; touch /tmp/x /run/x /var/tmp/x && echo scratch; \
         (echo > /proc/sys/kernel/hostname) 2>/dev/null && echo sysctl; true",
    );
    assert_eq!(tries.ok(), "scratch\n");
}

fn options_of_the_process(bench: &Bench) {
    let line = "echo $A-$B-$TERM-$HOSTNAME; pwd";
    let options = ["--env", "A=1", "-e", "TERM=vt100", "-e", "B=x y", "--cwd", "/tmp"];
    let seen = bench.exec(&[&options[..], &["--hostname", "box", "sh", "-c", line]].concat());
    assert_eq!(seen.ok(), "1-x y-vt100-box\n/tmp\n");
    let home = bench.exec(&["-e", "HOME=/x", "sh", "-c", "echo $HOME"]).ok();
    assert_eq!(home, "/x\n");
    // The rest of the line is the program's, whatever it looks like.
    assert_eq!(bench.exec(&["echo", "--tty", "--", "-x"]).ok(), "--tty -- -x\n");
    assert_eq!(bench.exec(&["--", "echo", "--id"]).ok(), "--id\n");
    let who = bench.exec(&["--user", "1:2", "sh", "-c", "id -u; id -g; id -G"]);
    match bench.who() {
        Who::Root => assert_eq!(who.ok(), "1\n2\n2\n"),
        // There is no such user in the user namespace.
        Who::Ordinary => assert!(who.error(1).contains("`user = 1`: not in the id map")),
    }
}

/// Names, and the group of a number, are those of the files in the container.
fn users_of_bound_files(bench: &Bench) {
    bench.write("passwd", "root:x:0:0::/:/bin/sh\nmine:x:1500:1501::/home/mine:/bin/sh\n");
    bench.write("group", "other:x:1502:mine\n");
    let file = |name: &str| format!("{}:/etc/{name}", bench.text(name));
    let (passwd, group) = (file("passwd"), file("group"));
    let line = ["sh", "-c", "id -u; id -g; id -G; echo $HOME"];
    let binds = ["--bind", &passwd, "--bind", &group];
    let seen = "1500\n1501\n1501 1502\n/home/mine\n";
    let run = |options: &[&str], user: &str| {
        bench.exec(&[options, &["--user", user], &line[..]].concat())
    };
    // The control: the host has no such user.
    assert!(run(&[], "mine").error(1).contains("no such user in etc/passwd"));
    for init in [&[][..], &["--init"]] {
        let options = [&binds[..], init].concat();
        for user in ["mine", "1500"] {
            assert_eq!(run(&options, user).ok(), seen, "{init:?}");
        }
        assert!(run(&options, "daemon").error(1).contains("no such user in etc/passwd"));
        let first = bench.stay(&options);
        for user in ["mine", "1500"] {
            assert_eq!(run(&[], user).ok(), seen, "{init:?}");
        }
        first.signal(Signal::TERM);
        assert_eq!(first.finish().code(), 0);
    }
    // Without these the users are the host's, whose files are bound.
    assert_eq!(bench.exec(&["--user", "daemon", "id", "-u"]).ok(), "1\n");
}

fn a_second_exec_joins(bench: &Bench) {
    let first = bench.stay(&["--hostname", "joined"]);
    let seen = bench
        .exec(&["sh", "-c", "hostname; echo $HOSTNAME; id -u; grep -c . /proc/1/cmdline; echo $$"])
        .ok();
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(seen[..3], ["joined", "joined", "0"]);
    assert!(seen[4].parse::<u32>().unwrap() > 1, "{seen:?}");
    assert!(bench.exec(&["nosuch"]).error(127).contains("nosuch"));
    assert_eq!(bench.shell("exit 5").code(), 5);
    // It is no process 1: signals have their defaults.
    assert_eq!(bench.shell("kill -TERM $$").code(), 143);
    assert_eq!(bench.shell("kill -KILL $$").code(), 137);
    // A container with another name is another one.
    assert_eq!(bench.exec(&["--id", "other", "hostname"]).ok(), "nsinit\n");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
}

fn an_init_that_stays(bench: &Bench) {
    let first = bench.stay(&["--init", "--hostname", "box"]);
    let seen =
        bench.exec(&["sh", "-c", "hostname; echo $PPID; tr '\\0' ' ' < /proc/1/cmdline"]).ok();
    let seen: Vec<_> = seen.lines().collect();
    assert_eq!(seen[..2], ["box", "1"]);
    assert!(seen[2].starts_with("pidone-init "), "{seen:?}");
    assert_eq!(bench.shell("exit 5").code(), 5);
    assert_eq!(bench.shell("kill -TERM $$").code(), 143);
    assert!(bench.exec(&["nosuch"]).error(127).contains("nosuch"));
    first.signal(Signal::TERM);
    // Process 1 passes it on to the program, which handles it.
    assert_eq!(first.finish().code(), 0);
}

fn the_end_of_process_1_ends_all(bench: &Bench) {
    let first = bench.stay(&[]);
    let joined = bench.spawn(&["exec", "sh", "-c", "echo there > /tmp/joined; sleep 1000"]);
    assert!(eventually(|| bench.shell("cat /tmp/joined 2>/dev/null").stdout == "there\n"));
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), 0);
    assert_eq!(joined.finish().code(), 137);
}

fn many_start_one_container(bench: &Bench) {
    for _ in 0..3 {
        // Each stays until all have been there, so that none has to start a second container.
        let line = "touch /tmp/$0; while [ $(ls /tmp | wc -l) -lt 6 ]; do sleep 0.02; done; \
                    cat /proc/sys/kernel/random/boot_id > /dev/null; sleep 0.3";
        let programs: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .iter()
            .map(|name| bench.spawn(&["exec", "sh", "-c", line, name]))
            .collect();
        let outcomes: Vec<_> = programs.into_iter().map(|program| program.finish()).collect();
        // The end of the first may come before that of the others.
        for outcome in &outcomes {
            assert!(matches!(outcome.code(), 0 | 137), "{outcome:?}");
            assert_eq!(outcome.stderr, "");
        }
        assert!(outcomes.iter().any(|outcome| outcome.code() == 0), "{outcomes:?}");
        bench.check_nothing_is_left();
    }
}

fn what_a_killed_nsinit_leaves(bench: &Bench) {
    let first = bench.stay(&["--hostname", "old"]);
    let pid = bench.wait_running("nsinit")["init_process_pid"].as_u64().unwrap();
    first.signal(Signal::KILL);
    assert_eq!(first.finish().code(), 137);
    // The program went with it.
    let process = Path::new("/proc").join(pid.to_string());
    assert!(eventually(|| !process.exists()), "the container outlives nsinit");
    assert_eq!(bench.run(&["state"]).error(1), "state `nsinit`: container destroyed");
    // The id is free, and the configuration is that of the new one.
    assert_eq!(bench.exec(&["hostname"]).ok(), "nsinit\n");
}

fn the_root_moves_the_state(bench: &Bench) {
    let first = bench.stay(&["--hostname", "first"]);
    let elsewhere = bench.text("elsewhere/state");
    bench.mkdir("elsewhere");
    let with_root = |arguments: &[&str]| {
        let arguments = [arguments, &[]].concat();
        let mut command = bench.bare_command(&["--root"]);
        command.arg(&elsewhere).args(arguments);
        command
    };
    let seen = bench.finish(&mut with_root(&["exec", "hostname"])).ok();
    assert_eq!(seen, "nsinit\n", "the same id is another container there");
    let state = bench.finish(&mut with_root(&["state"]));
    assert_eq!(state.error(1), "load `nsinit`: container does not exist");
    assert!(bench.path("state/nsinit/state.json").exists());
    // A relative one starts at the current directory; options may be on either side.
    let mut relative = bench.bare_command(&["exec", "--root", "state", "hostname"]);
    relative.current_dir(bench.path(""));
    assert_eq!(bench.finish(&mut relative).ok(), "first\n");
    first.signal(Signal::TERM);
    first.finish();
    assert_eq!(bench.path("state").metadata().unwrap().mode() & 0o777, 0o700);
}

fn the_default_root(bench: &Bench) {
    let runtime = bench.mkdir("runtime");
    let id = format!("test-{}", std::process::id());
    let line = ["exec", "--id", &id, "sh", "-c", "echo up; read line; echo $line"];
    let mut command = bench.bare_command(&line);
    command.env("XDG_RUNTIME_DIR", &runtime).stdin(std::process::Stdio::piped());
    let program = bench.start(&mut command);
    let state = bench.path("runtime/nsinit").join(&id).join("state.json");
    assert!(eventually(|| state.exists()));
    drop(program);
    assert!(eventually(|| {
        let mut again = bench.bare_command(&["exec", "--id", &id, "true"]);
        again.env("XDG_RUNTIME_DIR", &runtime);
        bench.finish(&mut again).code() == 0 && !state.exists()
    }));
    // Without that variable it is a directory of the user's own below /tmp.
    let line = ["exec", "--id", &id, "sh", "-c", "exec sleep 1000"];
    let program = bench.start(&mut bench.bare_command(&line));
    let own = Path::new("/tmp/nsinit-65534");
    assert!(eventually(|| own.join(&id).exists()));
    let metadata = own.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (65534, 0o700));
    program.signal(Signal::TERM);
    assert_eq!(program.finish().code(), 143);
    assert!(!own.join(&id).exists());
    // Unless somebody else has a container there.
    let _ = std::fs::remove_dir(own);
}

/// An ordinary user maps few ids, if any but its own.
fn a_user_without_an_id_is_named(bench: &Bench) {
    for user in ["4000000", "0:4000000"] {
        let error = bench.exec(&["--user", user, "true"]).error(1);
        let field = if user == "4000000" { "user" } else { "group" };
        assert!(error.contains(&format!("`{field} = 4000000`: not in the id map")), "{error}");
    }
}

/// Who is root of a user namespace already is no root of the host.
fn in_a_user_namespace(bench: &Bench) {
    let state = bench.text("state");
    let nsinit = bench.program().to_str().unwrap();
    for options in [&["-U", "-r"][..], &["-U", "-r", "-m"], &["-U", "-r", "-n"]] {
        let line = [nsinit, "--root", &state, "exec", "sh", "-c", "id -u; hostname; echo $$"];
        let all = [options, &line].concat();
        let seen = bench.finish(&mut bench.command_of(Path::new("/usr/bin/unshare"), &all));
        assert_eq!(seen.ok(), "0\nnsinit\n1\n", "{options:?}");
    }
}

fn without_user_namespaces(bench: &Bench) {
    let line = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} --root {} exec true",
        bench.program().display(),
        bench.text("state")
    );
    let all = ["-U", "-r", "sh", "-c", &line];
    let seen = bench.finish(&mut bench.command_of(Path::new("/usr/bin/unshare"), &all));
    let said = "clone3: No space left on device (user.max_user_namespaces is 0)";
    assert_eq!(seen.error(1), said);
}

fn shared_namespaces(bench: &Bench) {
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    assert_eq!(bench.exec(&["--uts", "host", "sh", "-c", "hostname"]).ok().trim(), host);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let shared = bench.exec(&["--net", "host", "readlink", "/proc/self/ns/net"]);
    // Only for the owner of a network namespace is there a sysfs.
    let warned = shared.stderr.contains("nothing is mounted on /sys");
    assert_eq!((shared.code(), warned), (0, bench.who() == Who::Ordinary), "{shared:?}");
    let seen = shared.stdout;
    assert_eq!(seen.trim(), own.to_str().unwrap());
    let seen = bench.exec(&["--net=", "--ipc", "private", "readlink", "/proc/self/ns/net"]).ok();
    assert_ne!(seen.trim(), own.to_str().unwrap());
    let ipc = std::fs::read_link("/proc/self/ns/ipc").unwrap();
    let seen = bench.exec(&["--ipc", "host", "readlink", "/proc/self/ns/ipc"]).ok();
    assert_eq!(seen.trim(), ipc.to_str().unwrap());
}

fn create_options(bench: &Bench) {
    let root = bench.make_root("busybox");
    bench.write("file", "bound\n");
    let file = format!("{}:/tmp/file:ro", bench.text("file"));
    let line = "cat /tmp/file; echo x > /tmp/file; echo x > /file; echo y > /mnt/x; cat /mnt/x; \
                cat /proc/sys/net/ipv4/ip_default_ttl; true";
    let options = [
        "--rootfs",
        &root,
        "--read-only",
        "--bind",
        &file,
        "--tmpfs",
        "/mnt",
        "--sysctl",
        "net.ipv4.ip_default_ttl=17",
        "sh",
        "-c",
        line,
    ];
    std::fs::create_dir(bench.path("busybox/mnt")).unwrap();
    std::fs::write(bench.path("busybox/tmp/file"), "").unwrap();
    let seen = bench.exec(&options);
    assert_eq!((seen.code(), seen.stdout.as_str()), (0, "bound\ny\n17\n"), "{seen:?}");
    assert_eq!(seen.stderr.matches("Read-only file system").count(), 2, "{seen:?}");
    // The profiles refuse what they should.
    let chroot = ["--rootfs", &root, "--security"];
    let line = ["sh", "-c", "mount -t tmpfs x /tmp 2>/dev/null && echo mounted; echo $?"];
    for profile in ["high", "medium", "low"] {
        let seen = bench.exec(&[&chroot[..], &[profile], &line].concat());
        assert_eq!(seen.ok(), "1\n", "{profile}");
    }
}
