//! What the verbs do, in which order they may come, and what hooks see.

use super::situation::Situation;

const fn steps(name: &'static str, steps: &'static str) -> Situation {
    Situation::steps(name, steps)
}

pub(crate) const SITUATIONS: &[Situation] = &[
    // The order of verbs.
    steps("create_and_start", "t r create c >out 2>&1; status_is created && echo created; t r start c; ready; status_is running && echo running"),
    steps("start_twice", "r create c >out 2>&1; r start c; t r start c"),
    steps("start_of_nothing", "t r start c"),
    steps("state_of_nothing", "t r state c"),
    steps("delete_of_nothing", "t r delete c; t r delete --force c"),
    steps("delete_of_a_running_one", "up; t r delete c; status_is running && echo running"),
    steps("delete_of_a_created_one", "r create c >out 2>&1; t r delete c; t r state c"),
    steps("delete_by_force", "up; t r delete --force c; t r state c"),
    steps("kill_of_a_created_one", "r create c >out 2>&1; t r kill c TERM; until_true status_is stopped && echo stopped"),
    steps("kill_by_term", "up; t r kill c TERM; until_true status_is stopped && echo stopped; t r delete c"),
    steps("kill_by_name_and_number", "up; t r kill c 0; t r kill c SIGUSR9; t r kill c 15; until_true status_is stopped && echo stopped"),
    steps("kill_of_a_stopped_one", "up; r kill c KILL; until_true status_is stopped; t r kill c TERM; t r kill --all c TERM"),
    steps("an_id_twice", "up; t r run --detach c >out 2>&1"),
    steps("a_wrong_id", "t r run 'a/b'; t r run ..; t r run ''; t r state 'x y'"),
    steps("a_missing_bundle", "t r run -b \"$BUNDLE/nowhere\" c"),
    steps("a_damaged_configuration", "echo '{' >config.json; t r run c"),
    // Further processes.
    steps("the_status_of_a_further_process", "up; t r exec c sh -c 'exit 7'"),
    steps("a_further_program_that_is_missing", "up; t r exec c nothing-here"),
    steps("a_further_program_without_permission", "up; t r exec c /etc/passwd"),
    steps("a_further_process_of_a_stopped_one", "up; r kill c KILL; until_true status_is stopped; t r exec c true"),
    steps("a_further_process_of_a_created_one", "r create c >out 2>&1; t r exec c echo runs"),
    steps("the_environment_of_a_further_process", "up; t r exec -e OWN=1 c sh -c 'echo $OWN $TERM'"),
    steps("the_user_of_a_further_process", "up; t r exec -u 1000:29 c id"),
    steps("a_further_process_of_a_file", "up; echo '{ \"args\": [\"sh\", \"-c\", \"echo $A; pwd\"], \"env\": [\"A=b\", \"PATH=/bin\"], \"cwd\": \"/data\" }' >process.json; t r exec --process process.json c"),
    steps("a_further_process_in_the_background", "up; t r exec --detach --pid-file pid c sleep 60 >out 2>&1; kill -0 $(cat pid) && echo runs"),
    steps("a_terminal_prints_plain_lines", "up; t script -qec \"$RUNTIME --root $BUNDLE/state exec -t c echo line\" log | plain"),
    steps("three_terminals_in_a_row", "up; for i in 1 2 3; do script -qec \"$RUNTIME --root $BUNDLE/state exec -t c tty\" log; done | plain; r exec c ls /dev/pts /dev/console"),
    steps("a_first_terminal", "t script -qec \"$RUNTIME --root $BUNDLE/state run c\" log | plain")
        .config(&[("process/terminal", "true")]).first("tty; echo line; stty size"),
    // Suspension.
    steps("pause_and_resume", "up; t r pause c; status_is paused && echo paused; t r exec c true; t r resume c; status_is running && echo running"),
    steps("pause_twice", "up; t r pause c; t r pause c; r resume c; t r resume c"),
    steps("kill_of_a_paused_one", "up; r pause c; t r kill c KILL; r resume c; until_true status_is stopped && echo stopped"),
    steps("delete_of_a_paused_one", "up; r pause c; t r delete --force c; t r state c"),
    // Limits.
    steps("update_of_pids", "up; t r update --pids-limit 77 c; cat /sys/fs/cgroup/pids/$CGROUP/pids.max"),
    steps("update_from_a_file", "up; echo '{ \"pids\": { \"limit\": 55 } }' >r.json; t r update -r r.json c; t r update -r missing.json c"),
    steps("a_limit_of_processes", "t r run c").first("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done 2>&1 | grep -c fork; true")
        .config(&[("linux/resources/pids", r#"{ "limit": 4 }"#)]),
    steps("a_memory_limit", "r run c; cat limit").first("true").config(&[
        ("linux/resources/memory", r#"{ "limit": 33554432 }"#),
        ("hooks/createRuntime", r#"[{ "path": "/bin/sh", "args": ["sh", "-c", "cat /sys/fs/cgroup/memory@CGROUP/memory.limit_in_bytes >@BUNDLE/limit"] }]"#),
    ]),
    steps("a_share_of_the_processor", "r run c; cat limit").first("true").config(&[
        ("linux/resources/cpu", r#"{ "shares": 512, "quota": 20000, "period": 50000 }"#),
        ("hooks/createRuntime", r#"[{ "path": "/bin/sh", "args": ["sh", "-c", "cd /sys/fs/cgroup/cpu@CGROUP; cat cpu.shares cpu.cfs_quota_us cpu.cfs_period_us >@BUNDLE/limit"] }]"#),
    ]),
    // Lists.
    steps("list_of_ids", "up; t r list --quiet; r list | head -n 1 | tr -s ' '"),
    steps("a_foreign_directory_in_the_root", "mkdir -p state/foreign; up; t r list --quiet"),
    steps("ps_of_a_running_one", "up; t r ps --format json c | tr -dc '[]0-9' | wc -l; r ps c | head -n 1 | tr -s ' '"),
    steps("ps_of_a_stopped_one", "up; r kill c KILL; until_true status_is stopped; t r ps c; t r ps --format json c"),
    steps("statistics", "up; r events --stats c | grep -o '\"type\":\"stats\"'"),
    steps("statistics_of_a_stopped_one", "up; r kill c KILL; until_true status_is stopped; t r events --stats c"),
    steps("the_state_document", "up; r state c | grep -v -e pid -e created -e ociVersion"),
    // Files and descriptors.
    steps("a_pid_file", "r run --detach --pid-file pid c >out 2>&1; ready; test \"$(cat pid)\" = \"$(r state c | tr -dc '\\n\"pid:0-9' | grep '^\"pid\"' | tr -dc 0-9)\" && echo same; tail -c 1 pid | tr 0-9 n | od -An -c"),
    steps("a_pid_file_in_no_directory", "t r run --detach --pid-file nowhere/pid c >out 2>&1"),
    steps("preserved_descriptors", "t r run --preserve-fds 1 c 3<config.json").first("test -e /proc/self/fd/3 && echo open; test -e /proc/self/fd/4 || echo closed"),
    steps("other_descriptors_are_closed", "t r run c 5<config.json").first("test -e /proc/self/fd/5 || echo closed"),
    steps("socket_activation", "LISTEN_FDS=1 LISTEN_PID=1 t r run c 3<config.json").first("echo $LISTEN_FDS $LISTEN_PID; test -e /proc/self/fd/3 && echo open"),
    // Hooks.
    steps("hooks_in_their_order", "t r run c; cat log").first("true").config(&[
        ("hooks", r#"{
            "prestart": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo prestart >>@BUNDLE/log"] }],
            "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo createRuntime >>@BUNDLE/log"] }],
            "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo createContainer >>@BUNDLE/log"] }],
            "poststart": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo poststart >>@BUNDLE/log"] }],
            "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo poststop >>@BUNDLE/log"] }] }"#),
    ]),
    steps("the_status_that_hooks_see", "t r run c; cat log").first("true").config(&[
        ("hooks", r#"{
            "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "tr , '\\n' | grep status >>@BUNDLE/log"] }],
            "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", "tr , '\\n' | grep status >>@BUNDLE/log"] }] }"#),
    ]),
    steps("the_environment_of_a_hook", "OWN=1 t r run c; cat log").first("true").config(&[
        ("hooks/createRuntime", r#"[{ "path": "/bin/sh", "args": ["sh", "-c", "echo own $OWN >>@BUNDLE/log"] }]"#),
    ]),
    steps("an_environment_for_a_hook", "OWN=1 t r run c; cat log").first("true").config(&[
        ("hooks/createRuntime", r#"[{ "path": "/bin/sh", "args": ["sh", "-c", "echo own $OWN $GIVEN >>@BUNDLE/log"], "env": ["GIVEN=2"] }]"#),
    ]),
    steps("a_hook_that_fails", "t r run c; cat log; t r state c").first("echo runs").config(&[
        ("hooks", r#"{
            "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }],
            "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo poststop >>@BUNDLE/log"] }] }"#),
    ]),
    steps("a_hook_that_is_missing", "t r run c").first("echo runs")
        .config(&[("hooks/createRuntime", r#"[{ "path": "/nothing/here" }]"#)]),
    steps("a_hook_that_takes_too_long", "t r run c").first("echo runs").config(&[
        ("hooks/createRuntime", r#"[{ "path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1 }]"#),
    ]),
    steps("a_hook_that_asks_for_the_state", "t r run c; grep -c '\"id\"' log").first("true").config(&[
        ("hooks/createRuntime", r#"[{ "path": "/bin/sh", "args": ["sh", "-c", "$RUNTIME --root @BUNDLE/state state c >@BUNDLE/log"], "timeout": 5 }]"#),
    ]),
    steps("a_startcontainer_hook", "t r run c").first("echo runs").config(&[
        ("hooks/startContainer", r#"[{ "path": "/bin/sh", "args": ["sh", "-c", "echo hook"] }]"#),
    ]),
    steps("a_poststop_hook_that_fails", "t r run c; t r state c").first("echo runs")
        .config(&[("hooks/poststop", r#"[{ "path": "/bin/false" }]"#)]),
    // Documents.
    steps("annotations_are_in_the_state", "up; r state c | grep org.example")
        .config(&[("annotations", r#"{ "org.example.key": "value" }"#)]),
    steps("a_configuration_with_unknown_properties", "t r run c").first("echo runs")
        .config(&[("wish", r#"{ "a": 1 }"#), ("linux/wish", "true")]),
    steps("a_version_of_the_future", "t r run c").first("echo runs")
        .config(&[("ociVersion", r#""9.0.0""#)]),
    steps("no_version", "t r run c").first("echo runs").config(&[("ociVersion", r#""""#)]),
    steps("errors_are_logged_to_a_file", "t r --log log run missing-bundle/x; t r --log log --log-format json state c; tail -n 1 log | grep -o '\"level\":\"error\"'"),
];
