//! The process: its user, standard streams, working directory, privileges and end.

use super::situation::Situation;

const fn inside(name: &'static str, inside: &'static str) -> Situation {
    Situation::inside(name, inside)
}

const USER: (&str, &str) = ("process/user", r#"{ "uid": 1000, "gid": 1000 }"#);
const WRITABLE: (&str, &str) = ("root/readonly", "false");
const PRIVILEGED: (&str, &str) = ("process/noNewPrivileges", "false");
/// A user namespace; the root file system belongs to its root.
const USER_NAMESPACE: [(&str, &str); 3] = [
    ("linux/namespaces/+", r#"{ "type": "user" }"#),
    ("linux/uidMappings", r#"[{ "containerID": 0, "hostID": 100000, "size": 65536 }]"#),
    ("linux/gidMappings", r#"[{ "containerID": 0, "hostID": 100000, "size": 65536 }]"#),
];
const OPEN: &str = "chown -R 100000:100000 . && chmod 755 ..";

/// A filter that refuses one system call, as localhost profiles do.
macro_rules! refusing {
    ($call:literal) => {
        (
            "linux/seccomp",
            concat!(
                r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": [""#,
                $call,
                r#""], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }] }"#
            ),
        )
    };
}

pub(crate) const SITUATIONS: &[Situation] = &[
    // Standard streams.
    inside("stdout_of_a_user_can_be_opened", "echo hi >/dev/stdout")
        .config(&[USER])
        .by("t r run c | cat"),
    inside("stderr_of_a_user_can_be_opened", "echo hi >/dev/stderr")
        .config(&[USER])
        .by("t r run c 2>&1 | cat"),
    inside("stdout_of_a_user_namespace", "echo hi >/dev/stdout")
        .config(&USER_NAMESPACE)
        .image(OPEN)
        .by("t r run c | cat"),
    Situation::steps(
        "stdout_of_a_further_user",
        "up; t r exec -u 1000 c sh -c 'echo hi >/dev/stdout' | cat",
    ),
    inside("stdin_is_passed", "cat").by("echo words | t r run c"),
    // The user.
    inside("home_from_passwd", "echo $HOME").config(&[USER]),
    inside("an_empty_home_is_unset", "echo $HOME")
        .config(&[USER, ("process/env", r#"["PATH=/bin", "HOME="]"#)]),
    inside("home_of_a_user_that_passwd_lacks", "echo $HOME")
        .config(&[("process/user", r#"{ "uid": 1234, "gid": 1234 }"#)]),
    inside("home_of_a_bound_passwd", "echo $HOME")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/etc/passwd", "type": "bind", "options": ["bind"],
            "source": "@BUNDLE/passwd" }"#,
            ),
        ])
        .image("echo 'user:x:1000:1000:user:/bound:/bin/sh' >../passwd"),
    inside("home_of_a_bound_etc", "echo $HOME")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/etc", "type": "bind", "options": ["bind"],
            "source": "@BUNDLE/etc" }"#,
            ),
        ])
        .image("mkdir ../etc && echo 'user:x:1000:1000:user:/bound:/bin/sh' >../etc/passwd"),
    inside("home_of_an_empty_etc", "echo $HOME").config(&[
        USER,
        ("mounts/+", r#"{ "destination": "/etc", "type": "tmpfs", "source": "tmpfs" }"#),
    ]),
    inside("home_of_an_overlay", "echo $HOME")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/etc", "type": "overlay", "source": "overlay",
            "options": ["lowerdir=@BUNDLE/upper:@BUNDLE/lower"] }"#,
            ),
        ])
        .image(
            "mkdir ../lower ../upper && echo 'user:x:1000:1000:user:/low:/bin/sh' >../lower/passwd
            echo 'user:x:1000:1000:user:/up:/bin/sh' >../upper/passwd",
        ),
    inside("home_of_a_mount_at_a_link_to_etc", "echo $HOME")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/data/alias", "type": "bind", "options": ["bind"],
            "source": "@BUNDLE/etc" }"#,
            ),
        ])
        .image(
            "ln -s ../etc data/alias
            mkdir ../etc && echo 'user:x:1000:1000:user:/bound:/bin/sh' >../etc/passwd",
        ),
    inside("home_of_a_mount_at_a_link_to_a_file", "echo $HOME")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/etc/alias", "type": "bind", "options": ["bind"],
            "source": "@BUNDLE/passwd" }"#,
            ),
        ])
        .image("ln -s passwd etc/alias; echo 'user:x:1000:1000:user:/bound:/bin/sh' >../passwd"),
    inside("home_of_a_mount_that_etc_leads_to", "echo $HOME")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/data", "type": "bind", "options": ["rbind"],
            "source": "@BUNDLE/data" }"#,
            ),
        ])
        .image(
            "mv etc data; ln -s /data/etc etc
            mkdir -p ../data/etc && echo 'user:x:1000:1000:user:/bound:/bin/sh' >../data/etc/passwd",
        ),
    inside("home_of_a_link_without_mounts", "echo $HOME")
        .config(&[USER])
        .image("mv etc/passwd data; ln -s ../data/passwd etc"),
    inside("home_of_a_masked_passwd", "echo $HOME")
        .config(&[USER, ("linux/maskedPaths/+", r#""/etc/passwd""#)]),
    inside("home_of_a_hook", "echo $HOME")
        .config(&[
            USER,
            (
                "hooks/createRuntime",
                r#"[{ "path": "/bin/sh", "args": ["sh", "-c",
            "echo 'user:x:1000:1000:user:/hook:/bin/sh' >@BUNDLE/rootfs/etc/passwd"] }]"#,
            ),
        ]),
    inside("a_given_home_is_kept", "echo $HOME").config(&[
        USER,
        ("process/env", r#"["PATH=/bin", "HOME=/mine"]"#),
        ("mounts/+", r#"{ "destination": "/etc", "type": "tmpfs", "source": "tmpfs" }"#),
    ]),
    inside("home_in_a_user_namespace", "echo $HOME")
        .config(&[
            USER,
            USER_NAMESPACE[0],
            USER_NAMESPACE[1],
            USER_NAMESPACE[2],
            (
                "mounts/+",
                r#"{ "destination": "/etc/passwd", "type": "bind", "options": ["bind"],
            "source": "@BUNDLE/passwd" }"#,
            ),
        ])
        .image(
            "chown -R 100000:100000 . && chmod 755 ..
            echo 'user:x:1000:1000:user:/bound:/bin/sh' >../passwd",
        ),
    Situation::steps("home_of_a_bound_etc_by_create", "r create c >out 2>&1; t r start c; ready; t r exec -u 1000 c sh -c 'echo $HOME; id -u; id -g'; r exec c cat /dev/shm/home")
        .first("echo $HOME >/dev/shm/home; echo ready >/dev/shm/ready; while :; do sleep 0.05; done")
        .config(&[
            USER,
            (
                "mounts/+",
                r#"{ "destination": "/etc", "type": "bind", "options": ["bind"],
            "source": "@BUNDLE/etc" }"#,
            ),
        ])
        .image("mkdir ../etc && echo 'user:x:1000:44:user:/bound:/bin/sh' >../etc/passwd"),
    Situation::steps("home_of_a_further_user", "up; t r exec -u 1000 c sh -c 'echo $HOME'"),
    inside("additional_groups", "id -G")
        .config(&[("process/user", r#"{ "uid": 1000, "gid": 1000, "additionalGids": [29, 7] }"#)]),
    inside("umask_is_set", "umask")
        .config(&[("process/user", r#"{ "uid": 0, "gid": 0, "umask": 63 }"#)]),
    inside("umask_by_default", "umask"),
    inside("a_user_without_a_group_entry", "id -u; id -g")
        .config(&[("process/user", r#"{ "uid": 4242, "gid": 4343 }"#)]),
    // The working directory.
    inside("a_missing_cwd_is_made", "pwd; stat -c '%a %u' .")
        .config(&[("process/cwd", r#""/made/for/this""#), WRITABLE]),
    inside("a_missing_cwd_in_a_read_only_root", "pwd; stat -c '%a %u' .")
        .config(&[("process/cwd", r#""/made/for/this""#)]),
    inside("a_missing_cwd_of_a_user", "pwd; stat -c '%a %u' .").config(&[
        USER,
        ("process/cwd", r#""/made/for/this""#),
        WRITABLE,
    ]),
    inside("a_cwd_that_only_root_may_enter", "pwd")
        .config(&[USER, ("process/cwd", r#""/private""#)])
        .image("chmod 700 private"),
    inside("a_cwd_that_only_the_user_may_enter", "pwd")
        .config(&[USER, ("process/cwd", r#""/private""#), ("process/capabilities", "{}")])
        .image("chown 1000 private; chmod 700 private"),
    inside("a_cwd_that_is_a_file", "pwd").config(&[("process/cwd", r#""/etc/passwd""#)]),
    inside("a_cwd_by_a_link", "pwd -P")
        .config(&[("process/cwd", r#""/link""#)])
        .image("ln -s /data link"),
    inside("a_relative_cwd", "pwd").config(&[("process/cwd", r#""data""#)]),
    Situation::steps("a_further_relative_cwd", "up; t r exec --cwd data c pwd"),
    Situation::steps("a_further_missing_cwd", "up; t r exec --cwd /missing/one c pwd"),
    Situation::steps("a_further_cwd", "up; t r exec --cwd /data c pwd"),
    // The program.
    inside("no_program", "").config(&[("process/args", "[]")]),
    inside("a_missing_program", "").config(&[("process/args", r#"["nothing-here"]"#)]),
    inside("a_missing_path", "").config(&[("process/args", r#"["/nothing/here"]"#)]),
    inside("a_program_that_is_a_directory", "").config(&[("process/args", r#"["/etc"]"#)]),
    inside("a_program_without_permission", "").config(&[("process/args", r#"["/etc/passwd"]"#)]),
    inside("a_program_relative_to_cwd", "")
        .config(&[("process/args", r#"["./own", "x"]"#), ("process/cwd", r#""/data""#)])
        .image("printf '#!/bin/sh\\necho own $1\\n' >data/own; chmod 755 data/own"),
    inside("a_script_without_interpreter_line", "")
        .config(&[("process/args", r#"["/data/plain"]"#)])
        .image("echo 'echo plain' >data/plain; chmod 755 data/plain"),
    inside("an_empty_entry_of_path", "")
        .config(&[
            ("process/args", r#"["own"]"#),
            ("process/env", r#"["PATH=:/bin"]"#),
            ("process/cwd", r#""/data""#),
        ])
        .image("printf '#!/bin/sh\\necho own\\n' >data/own; chmod 755 data/own"),
    inside("no_path_at_all", "")
        .config(&[("process/args", r#"["busybox", "echo", "found"]"#), ("process/env", "[]")]),
    inside("the_environment_as_given", "env | sort")
        .config(&[("process/env", r#"["PATH=/bin", "A=1", "A=2", "EMPTY=", "S=a b"]"#)]),
    inside("an_environment_without_equals_sign", "env")
        .config(&[("process/env", r#"["PATH=/bin", "ALONE"]"#)]),
    // The end.
    inside("an_exit_status_is_passed_on", "exit 42"),
    inside("the_status_of_a_signal", "sh -c 'kill -TERM $$'; echo $?"),
    inside("a_first_process_that_is_killed", "sleep 60")
        .by("r run -d c >out; r kill c KILL; until_true status_is stopped; t r delete c"),
    inside("a_zombie_is_not_in_the_way", "sleep 0.01 & exit 5"),
    // Privileges.
    inside("no_new_privileges", "grep NoNewPrivs /proc/self/status"),
    inside("new_privileges", "grep NoNewPrivs /proc/self/status").config(&[PRIVILEGED]),
    inside("capabilities_by_default", "grep Cap /proc/self/status"),
    inside("capabilities_of_a_user", "grep Cap /proc/self/status").config(&[USER]),
    inside("no_capabilities", "grep Cap /proc/self/status")
        .config(&[("process/capabilities", "{}")]),
    inside("capabilities_are_absent", "grep Cap /proc/self/status")
        .config(&[("process/capabilities", "null")]),
    inside("an_unknown_capability", "echo runs")
        .config(&[("process/capabilities", r#"{ "bounding": ["CAP_KILL", "CAP_UNKNOWN"] }"#)]),
    inside("ambient_capabilities_reach_a_user", "grep CapAmb /proc/self/status").config(&[
        USER,
        ("process/capabilities/inheritable", r#"["CAP_KILL"]"#),
        ("process/capabilities/ambient", r#"["CAP_KILL"]"#),
    ]),
    Situation::steps(
        "capabilities_of_a_further_process",
        "up; t r exec --cap CAP_CHOWN c grep Cap /proc/self/status",
    ),
    inside("limits_are_set", "ulimit -n; ulimit -Hn; ulimit -c").config(&[(
        "process/rlimits",
        r#"[{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 128 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]"#,
    )]),
    inside("an_unknown_limit", "echo runs").config(&[(
        "process/rlimits",
        r#"[{ "type": "RLIMIT_NOTHING", "soft": 64, "hard": 128 }]"#,
    )]),
    inside("a_soft_limit_above_the_hard_one", "echo runs").config(&[(
        "process/rlimits",
        r#"[{ "type": "RLIMIT_NOFILE", "soft": 256, "hard": 128 }]"#,
    )]),
    inside("oom_score_adj", "cat /proc/self/oom_score_adj")
        .config(&[("process/oomScoreAdj", "123")]),
    inside("the_callers_processors_are_reset", "grep Cpus_allowed_list /proc/self/status")
        .by("t taskset -c 0 \"$RUNTIME\" --root \"$BUNDLE/state\" run c"),
    Situation::steps(
        "a_further_process_has_the_cpuset",
        "up; t taskset -c 0 \"$RUNTIME\" --root \"$BUNDLE/state\" exec c grep Cpus_allowed_list /proc/self/status",
    ),
    // Filters.
    inside("a_filter_refuses_mkdir", "mkdir /tmp/a; echo $?").config(&[refusing!("mkdir")]),
    inside("a_filter_without_close_range", "echo runs")
        .config(&[refusing!("close_range"), PRIVILEGED]),
    inside("a_filter_without_openat2", "echo runs").config(&[refusing!("openat2"), PRIVILEGED]),
    inside("a_filter_without_fchdir", "echo runs").config(&[refusing!("fchdir"), PRIVILEGED]),
    inside("a_filter_without_dup3", "echo runs").config(&[refusing!("dup3"), PRIVILEGED]),
    inside("a_filter_without_sendmsg", "echo runs").config(&[refusing!("sendmsg"), PRIVILEGED]),
    inside("a_filter_without_execveat", "echo runs").config(&[refusing!("execveat"), PRIVILEGED]),
    inside("a_filter_without_open_tree", "echo runs").config(&[refusing!("open_tree"), PRIVILEGED]),
    inside("a_filter_of_a_user", "echo runs").config(&[refusing!("close_range"), PRIVILEGED, USER]),
    Situation::steps("a_filter_and_a_further_process", "up; t r exec c echo runs")
        .config(&[refusing!("close_range"), PRIVILEGED]),
    inside("an_unknown_system_call_in_a_filter", "echo runs").config(&[refusing!("no_such_call")]),
    inside("an_unknown_action_of_a_filter", "echo runs")
        .config(&[("linux/seccomp", r#"{ "defaultAction": "SCMP_ACT_WISH" }"#)]),
];
