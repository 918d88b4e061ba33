//! Users that are not root: their stdio, working directory and home, and filters of system calls.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Need, eventually, set};

pub(crate) const CASES: &[Case] = &[
    case("stdio_belongs_to_the_user", &[], stdio_belongs_to_the_user),
    case("devices_keep_their_owner", &[], devices_keep_their_owner),
    case("filters_refuse_newer_calls", &[], filters_refuse_newer_calls),
    case("filters_allow_few_calls", &[], filters_allow_few_calls),
    case("working_directories_of_root", &[], working_directories_of_root),
    case("an_empty_home_is_unset", &[], an_empty_home_is_unset),
    case("homes_of_files_that_are_mounted", &[], homes_of_files_that_are_mounted),
    case("hostile_files_of_users", &[], hostile_files_of_users),
    case(
        "users_without_the_right_to_trace",
        &[Need::File("/usr/bin/setpriv", "util-linux")],
        users_without_the_right_to_trace,
    ),
];

/// Without an init that stays, and with one.
const INITS: [&[&str]; 2] = [&[], &["--init"]];

/// The configuration of a container that runs a shell script as user 1000.
fn script(bench: &Bench, script: &str) -> Value {
    let mut config = bench.config(&["sh", "-c", script]);
    config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    config
}

/// Runs a container in the foreground, and returns what it prints.
#[track_caller]
fn run(bench: &Bench, init: &[&str], config: &Value) -> String {
    let bundle = bench.bundle(config);
    bench.run(&[&["run", "--bundle", &bundle, "c"], init].concat()).ok()
}

/// A name in /dev leads to the same file as the descriptor, and is opened with its permissions.
fn stdio_belongs_to_the_user(bench: &Bench) {
    let both = "echo out > /dev/stdout; echo err > /dev/stderr";
    let null = fs::metadata("/dev/null").unwrap();
    for (init, mapped) in INITS.into_iter().flat_map(|init| [(init, false), (init, true)]) {
        let map = |config: &mut Value| {
            if mapped {
                let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
                set(config, "linux/uidMappings", ids.clone());
                set(config, "linux/gidMappings", ids);
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
        };
        let mut config = script(bench, both);
        map(&mut config);
        let bundle = bench.bundle(&config);
        let outcome = bench.run(&[&["run", "--bundle", &bundle, "c"], init].concat());
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("out\n", "err\n"), "{init:?} {mapped}");

        // A file, to which the descriptor of a created container leads.
        let mut config = script(bench, "echo made > /dev/stderr");
        map(&mut config);
        let bundle = bench.bundle(&config);
        bench.detached(&[&["create", "--bundle", &bundle, "c"], init].concat());
        let log = bench.path("detached.log");
        assert_eq!(fs::metadata(&log).unwrap().uid(), if mapped { 101_000 } else { 1000 });
        bench.run(&["start", "c"]).ok();
        assert!(eventually(|| fs::read(&log).unwrap() == b"made\n"), "{init:?} {mapped}");
        bench.delete("c");

        let mut config = bench.staying();
        map(&mut config);
        let bundle = bench.bundle(&config);
        bench.detached(&[&["run", "--detach", "--bundle", &bundle, "c"], init].concat());
        for user in ["1000:1000", "0"] {
            let exec = bench.run(&["exec", "--user", user, "c", "sh", "-c", both]);
            assert_eq!((&*exec.stdout, &*exec.stderr), ("out\n", "err\n"), "{init:?} {mapped}");
        }
        bench.delete("c");
    }
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.uid(), after.gid()), (null.uid(), null.gid()));
}

/// What is not a pipe, a socket or a file is the host's, and files of the kernel are, too.
fn devices_keep_their_owner(bench: &Bench) {
    let bundle = bench.bundle(&script(bench, "exit 4"));
    for path in ["/dev/zero", "/proc/sys/kernel/ostype"] {
        let owner = || fs::metadata(path).unwrap().uid();
        let before = owner();
        let mut command = bench.command(&["run", "--bundle", &bundle, "c"]);
        command.stdin(fs::File::open(path).unwrap()).stdout(Stdio::null());
        assert_eq!(bench.finish(&mut command).code(), 4, "{path}");
        assert_eq!(owner(), before, "{path}");
    }
}

/// Calls that profiles written years ago do not know, or that an engine refuses to its containers.
const REFUSED: [&str; 11] = [
    "close_range",
    "openat2",
    "fchdir",
    "open_tree",
    "move_mount",
    "mount_setattr",
    "fsopen",
    "fsconfig",
    "dup3",
    "sendmsg",
    "execveat",
];

fn filters_refuse_newer_calls(bench: &Bench) {
    let filtered = |names: &[&str], action: &str, no_new_privileges: bool, uid: u32| {
        let mut config = bench.config(&["cat", "/proc/self/status"]);
        config["process"]["user"] = json!({ "uid": uid, "gid": uid });
        config["process"]["cwd"] = json!("/tmp");
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": names, "action": action }],
        });
        config
    };
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        for (no_new_privileges, uid) in [(false, 0), (false, 1000), (true, 0), (true, 1000)] {
            for call in REFUSED {
                let config = filtered(&[call], action, no_new_privileges, uid);
                let status = run(bench, &[], &config);
                assert!(status.contains("Seccomp:\t2\n"), "{call} {action} {uid}: {status}");
                let mine = format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n");
                assert!(status.contains(&mine), "{call} {action}: {status}");
                let said = format!("NoNewPrivs:\t{}\n", u8::from(no_new_privileges));
                assert!(status.contains(&said), "{call} {action}: {status}");
            }
            for init in INITS {
                let mut config = filtered(&REFUSED, action, no_new_privileges, uid);
                let status = run(bench, init, &config);
                assert!(status.contains("Seccomp:\t2\n"), "{action} {init:?}: {status}");
                config["process"]["args"] = bench.staying()["process"]["args"].clone();
                let bundle = bench.bundle(&config);
                bench.detached(&[&["run", "--detach", "--bundle", &bundle, "c"], init].concat());
                let status = bench.run(&["exec", "c", "cat", "/proc/self/status"]).ok();
                assert!(status.contains("Seccomp:\t2\n"), "{action} {init:?}: {status}");
                // A program that is missing is still reported.
                let error = bench.run(&["exec", "c", "nosuchcmd"]).error(255);
                assert!(error.contains("executable file not found in $PATH"), "{error}");
                bench.delete("c");
            }
        }
    }
}

/// The calls of the program, and those of runc between the filter and the program.
fn filters_allow_few_calls(bench: &Bench) {
    let program = [
        "brk",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlink",
        "readlinkat",
        "getrandom",
        "mprotect",
        "mmap",
        "munmap",
        "exit_group",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "setuid",
        "setgid",
        "newfstatat",
        "uname",
    ];
    let start = [
        "setgroups",
        "setresuid",
        "setresgid",
        "capset",
        "prctl",
        "chdir",
        "fstat",
        "write",
        "execve",
    ];
    for (init, no_new_privileges) in
        INITS.into_iter().flat_map(|init| [(init, false), (init, true)])
    {
        let mut config = bench.config(&["true"]);
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [7] });
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let names = [&program[..], &start].concat();
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_KILL_PROCESS",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
        });
        run(bench, init, &config);
        // The control: without one of them the program is killed.
        let names: Vec<_> = names.into_iter().filter(|name| *name != "exit_group").collect();
        set(&mut config, "linux/seccomp/syscalls/0/names", json!(names));
        let bundle = bench.bundle(&config);
        let outcome = bench.run(&[&["run", "--bundle", &bundle, "c"], init].concat());
        assert_eq!(outcome.code(), 159, "{init:?}: {}", outcome.stderr);
    }
}

/// Root may enter them, its program of another user is there then.
fn working_directories_of_root(bench: &Bench) {
    let only = bench.path("rootfs/only");
    fs::create_dir(&only).unwrap();
    fs::set_permissions(&only, Permissions::from_mode(0o700)).unwrap();
    for init in INITS {
        let mut config = script(bench, "pwd");
        config["process"]["cwd"] = json!("/only");
        assert_eq!(run(bench, init, &config), "/only\n");
        // One that is missing is made, although the root is read-only.
        let made = bench.path("rootfs/made/here");
        config["process"]["cwd"] = json!("/made/here");
        assert_eq!(run(bench, init, &config), "/made/here\n");
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!((mode(&made), mode(&bench.path("rootfs/made"))), (0o040_755, 0o040_755));
        fs::remove_dir(&made).unwrap();
        fs::remove_dir(bench.path("rootfs/made")).unwrap();

        let bundle = bench.bundle(&bench.staying());
        bench.detached(&[&["run", "--detach", "--bundle", &bundle, "c"], init].concat());
        let exec =
            |cwd| bench.run(&["exec", "--user", "1000:1000", "--cwd", cwd, "c", "sh", "-c", "pwd"]);
        assert_eq!(exec("/only").ok(), "/only\n");
        let error = exec("/made").error(255);
        assert!(error.contains("open `/made`") && error.contains("No such file"), "{error}");
        for cwd in ["only", "./only", ""] {
            let error = exec(cwd).error(255);
            assert!(error.contains("must be an absolute path"), "{cwd}: {error}");
        }
        bench.delete("c");
    }
}

fn an_empty_home_is_unset(bench: &Bench) {
    fs::create_dir_all(bench.path("rootfs/etc")).unwrap();
    bench.write("rootfs/etc/passwd", "one:x:1000:1000::/srv/one:/bin/sh\n");
    for env in [&["PATH=/bin", "HOME="][..], &["PATH=/bin"]] {
        let mut config = script(bench, "echo $HOME");
        config["process"]["env"] = json!(env);
        assert_eq!(run(bench, &[], &config), "/srv/one\n");
        config["process"]["env"] = json!(["PATH=/bin", "HOME=", "HOME=/mine"]);
        assert_eq!(run(bench, &[], &config), "/mine\n");
    }
}

/// First and further processes find the same files, at `run` and at `create`.
fn homes_of_files_that_are_mounted(bench: &Bench) {
    let image = bench.path("rootfs/etc");
    fs::create_dir_all(&image).unwrap();
    fs::create_dir(bench.path("bound")).unwrap();
    fs::write(image.join("passwd"), "one:x:1000:1000::/image:/bin/sh\n").unwrap();
    bench.write("bound/passwd", "one:x:1000:1000::/bound:/bin/sh\n");
    let directory = bench.text("bound");
    let mounts = [
        (json!([]), "/image"),
        (json!([{ "destination": "/etc", "type": "bind", "options": ["bind"] }]), "/bound"),
        (json!([{ "destination": "/etc/passwd", "type": "bind", "options": ["bind"] }]), "/bound"),
        (json!([{ "destination": "/etc", "type": "tmpfs", "source": "tmpfs" }]), "/"),
    ];
    for (mut mounts, home) in mounts {
        for mount in mounts.as_array_mut().unwrap() {
            if mount["type"] == "bind" {
                let file = mount["destination"] == "/etc/passwd";
                let source = if file { format!("{directory}/passwd") } else { directory.clone() };
                mount["source"] = json!(source);
            }
        }
        for (init, mapped) in INITS.into_iter().flat_map(|init| [(init, false), (init, true)]) {
            let mut config = script(bench, "echo $HOME >/home/is; exec sleep 60");
            let all = config["mounts"].as_array_mut().unwrap();
            all.push(json!({ "destination": "/home", "type": "tmpfs", "options": ["mode=777"] }));
            all.extend(mounts.as_array().unwrap().iter().cloned());
            if mapped {
                let ids = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
                set(&mut config, "linux/uidMappings", ids.clone());
                set(&mut config, "linux/gidMappings", ids);
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
            let bundle = bench.bundle(&config);
            let context = format!("{home} {init:?} {mapped}");
            for verbs in [&["run", "--detach"][..], &["create"]] {
                bench.detached(&[verbs, &["--bundle", &bundle, "c"], init].concat());
                if verbs == ["create"] {
                    bench.run(&["start", "c"]).ok();
                }
                let first = || bench.run(&["exec", "c", "cat", "/home/is"]).stdout;
                assert!(eventually(|| first().ends_with('\n')), "{context}");
                assert_eq!(first().trim_end(), home, "{context}");
                let exec = bench.run(&["exec", "--user", "1000", "c", "sh", "-c", "echo $HOME"]);
                assert_eq!(exec.ok().trim_end(), home, "{context}");
                bench.delete("c");
            }
        }
    }
}

/// What is bound over the files holds nothing up, and names nothing of the host.
fn hostile_files_of_users(bench: &Bench) {
    fs::create_dir_all(bench.path("rootfs/etc")).unwrap();
    fs::create_dir(bench.path("bound")).unwrap();
    bench.write("secret", "one:x:1000:1000::/secret:/bin/sh\n");
    let passwd = bench.path("bound/passwd");
    for init in INITS {
        let mut config = script(bench, "echo $HOME");
        let source = bench.text("bound");
        let mount = json!({ "destination": "/etc", "type": "bind", "options": ["bind"] });
        config["mounts"].as_array_mut().unwrap().push(mount);
        let last = config["mounts"].as_array().unwrap().len() - 1;
        config["mounts"][last]["source"] = json!(source);
        std::os::unix::fs::symlink(bench.path("secret"), &passwd).unwrap();
        assert_eq!(run(bench, init, &config), "/\n");
        fs::remove_file(&passwd).unwrap();
        let bundle = bench.bundle(&config);
        let refused = || bench.run(&[&["run", "--bundle", &bundle, "c"], init].concat()).error(1);
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(refused().contains("open `etc/passwd`: not a regular file"), "{init:?}");
        fs::remove_file(&passwd).unwrap();
        fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap();
        assert!(refused().contains("larger than 8 MiB"), "{init:?}");
        // With a home in the environment, no file is read.
        config["process"]["env"] = json!(["PATH=/bin", "HOME=/mine"]);
        assert_eq!(run(bench, init, &config), "/mine\n");
        fs::remove_file(&passwd).unwrap();
    }
}

/// A runtime in a container often may mount, but not look at the init by /proc.
fn users_without_the_right_to_trace(bench: &Bench) {
    fs::create_dir_all(bench.path("rootfs/etc")).unwrap();
    let passwd = bench.write("passwd", "one:x:1000:1000::/bound:/bin/sh\n");
    let mut config = script(bench, "echo $HOME");
    let mount = json!({ "destination": "/etc/passwd", "type": "bind", "options": ["bind"],
        "source": passwd });
    config["mounts"].as_array_mut().unwrap().push(mount);
    let bundle = bench.bundle(&config);
    for init in INITS {
        let command = bench.command(&[&["run", "--bundle", &bundle, "c"], init].concat());
        let mut without = Command::new("setpriv");
        without.args(["--bounding-set", "-sys_ptrace"]);
        without.arg(command.get_program()).args(command.get_args()).env_clear();
        without.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        without.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert_eq!(bench.finish(&mut without).ok(), "/bound\n", "{init:?}");
    }
}
