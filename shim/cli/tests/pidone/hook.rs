//! Hooks: verbs beside a hook, what it inherits, and what its failure does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, eventually};

pub(crate) const CASES: &[Case] = &[
    case("verbs_beside_a_hook", &[Need::Freezer], verbs_beside_a_hook),
    case("verbs_in_a_hook", &[Need::Freezer], verbs_in_a_hook),
    case("delete_beside_a_hook", &[], delete_beside_a_hook),
    case("delete_in_a_hook", &[], delete_in_a_hook),
    case("kill_beside_a_hook", &[], kill_beside_a_hook),
    case("hooks_inherit_environment_and_root", &[], hooks_inherit_environment_and_root),
    case("a_failed_hook_of_start_destroys", &[], a_failed_hook_of_start_destroys),
    case("a_hook_that_does_not_die_is_named", &[Need::Freezer], a_hook_that_does_not_die_is_named),
];

const KINDS: [&str; 5] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"];

/// A verb and its flags.
type Way = (&'static str, &'static [&'static str]);

/// Both ways to start a container, and whether its init stays.
const WAYS: [Way; 3] = [("create", &[]), ("run", &["--detach"]), ("run", &["--detach", "--init"])];

/// A configuration with a directory that is at the same place on the host and in the container.
fn config(bench: &Bench) -> Value {
    let shared = bench.mkdir("shared");
    // Who the container's processes are does not matter.
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    bench.mkdir(&format!("rootfs{shared}"));
    let mut config = bench.staying();
    let mount =
        json!({ "destination": shared, "type": "bind", "source": shared, "options": ["bind"] });
    config["mounts"].as_array_mut().unwrap().push(mount);
    config
}

/// A hook that is a script of the shell, which the host and the container have.
fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

/// A hook that says that it runs, and waits until it may go on.
fn waiting(bench: &Bench, kind: &str) -> Value {
    let shared = bench.text("shared");
    shell(&format!(
        ": >{shared}/{kind}; until [ -e {shared}/go ]; do sleep 0.05; done; : >{shared}/done"
    ))
}

/// Starts a container, whose hook waits now.
fn start_until_hook(bench: &Bench, config: &Value, kind: &str, way: Way) -> Call {
    let bundle = bench.bundle(config);
    let quiet = |arguments: &[&str]| {
        let log = fs::File::create(bench.path("hook.log")).unwrap();
        bench.start(bench.command(arguments).stdout(Stdio::null()).stderr(log))
    };
    let (verb, flags) = way;
    let mut call = quiet(&[&[verb], flags, &["--bundle", &bundle, "h"]].concat());
    if verb == "create" && ["startContainer", "poststart"].contains(&kind) {
        assert_eq!(call.finish().code(), 0);
        call = quiet(&["start", "h"]);
    }
    let began = || bench.path("shared").join(kind).exists();
    assert!(eventually(began), "{kind}: {}", log(bench));
    call
}

fn log(bench: &Bench) -> String {
    fs::read_to_string(bench.path("hook.log")).unwrap()
}

fn verbs_beside_a_hook(bench: &Bench) {
    for way in WAYS {
        for kind in KINDS {
            let mut config = config(bench);
            config["hooks"] = json!({ kind: [waiting(bench, kind)] });
            let call = start_until_hook(bench, &config, kind, way);
            let status = match kind {
                "startContainer" => "created",
                "poststart" => "running",
                _ => "creating",
            };
            let state = bench.state("h");
            assert_eq!(state["status"], status, "{way:?} {kind}");
            assert!(state["pid"].as_i64().unwrap() > 0);
            let listed = bench.run(&["list"]).ok();
            assert!(listed.contains(status), "{listed}");
            let again = bench.run(&["start", "h"]).error(1);
            assert!(again.contains("start"), "{again}");
            bench.run(&["update", "--pids-limit", "77", "h"]).ok();
            if status == "creating" {
                // Its root is still the host's.
                let refused = bench.run(&["exec", "h", "true"]).error(255);
                assert!(refused.contains("being created"), "{refused}");
                bench.run(&["pause", "h"]).error(1);
                bench.run(&["resume", "h"]).error(1);
                let refused = bench.run(&["delete", "h"]).error(1);
                assert!(refused.contains("not stopped: creating"), "{refused}");
            } else {
                assert_eq!(bench.run(&["exec", "h", "cat", "/proc/1/comm"]).code(), 0);
                bench.run(&["pause", "h"]).ok();
                assert_eq!(bench.state("h")["status"], "paused");
                bench.run(&["resume", "h"]).ok();
            }
            bench.run(&["kill", "h", "0"]).ok();
            fs::write(bench.path("shared/go"), "").unwrap();
            assert_eq!(call.finish().code(), 0, "{}", log(bench));
            let after =
                if way.0 == "create" && status == "creating" { "created" } else { "running" };
            assert_eq!(bench.state("h")["status"], after, "{way:?} {kind}");
            // What was changed meanwhile is kept.
            let state = fs::read_to_string(bench.path("state/h/state.json")).unwrap();
            let state: Value = serde_json::from_str(&state).unwrap();
            assert_eq!(state["config"]["cgroups"]["pids_limit"], 77, "{state}");
            assert_eq!(state.get("creating"), None);
            assert_eq!(bench.run(&["exec", "h", "true"]).code(), 0);
            bench.delete("h");
            bench.check_nothing_is_left();
            fs::remove_dir_all(bench.path("shared")).unwrap();
        }
    }
}

fn verbs_in_a_hook(bench: &Bench) {
    for way in WAYS {
        for (kind, allowed) in [("createRuntime", false), ("poststart", true)] {
            let mut config = config(bench);
            let (program, state) = (bench.program().display(), bench.text("state"));
            let script = format!(
                "for verb in 'state h' 'exec h true' 'pause h' 'resume h' \
                   'update --pids-limit 77 h' 'kill h 0'; do \
                   {program} --root {state} $verb; echo $verb is $?; \
                 done >{}/log 2>&1",
                bench.text("shared")
            );
            config["hooks"] = json!({ kind: [shell(&script)] });
            let bundle = bench.bundle(&config);
            bench.detached(&[&[way.0], way.1, &["--bundle", &bundle, "h"]].concat());
            if way.0 == "create" {
                bench.run(&["start", "h"]).ok();
            }
            let log = fs::read_to_string(bench.path("shared/log")).unwrap();
            let code = |verb: &str| {
                let line = log.lines().find_map(|line| line.strip_prefix(&format!("{verb} is ")));
                line.unwrap_or_else(|| panic!("{verb}: {log}")).to_owned()
            };
            let status = if allowed { "running" } else { "creating" };
            assert!(log.contains(&format!("\"status\": \"{status}\"")), "{log}");
            for verb in ["state h", "update --pids-limit 77 h", "kill h 0"] {
                assert_eq!(code(verb), "0", "{log}");
            }
            for verb in ["exec h true", "pause h", "resume h"] {
                assert_eq!(code(verb) == "0", allowed, "{log}");
            }
            bench.delete("h");
            bench.check_nothing_is_left();
            fs::remove_dir_all(bench.path("shared")).unwrap();
        }
    }
}

/// The start fails, and the hooks after the removal run once.
fn delete_beside_a_hook(bench: &Bench) {
    for way in WAYS {
        for kind in KINDS {
            let mut config = config(bench);
            let after = shell(&format!("echo after >>{}/after", bench.text("shared")));
            config["hooks"] = json!({ kind: [waiting(bench, kind)], "poststop": [after] });
            let call = start_until_hook(bench, &config, kind, way);
            bench.run(&["delete", "--force", "h"]).ok();
            assert!(bench.run(&["state", "h"]).error(1).contains("does not exist"));
            // A hook inside was killed with the container; one on the host goes on.
            fs::write(bench.path("shared/go"), "").unwrap();
            assert_eq!(call.finish().code(), 1, "{way:?} {kind}: {}", log(bench));
            let said = log(bench);
            let inside = ["createContainer", "startContainer"].contains(&kind);
            assert_eq!(said.contains("killed by signal 9"), inside, "{said}");
            assert_eq!(said.contains("deleted while its hooks ran"), !inside, "{said}");
            let after = fs::read_to_string(bench.path("shared/after")).unwrap();
            assert_eq!(after, "after\n", "{way:?} {kind}");
            bench.check_nothing_is_left();
            fs::remove_dir_all(bench.path("shared")).unwrap();
        }
    }
}

fn delete_in_a_hook(bench: &Bench) {
    for way in WAYS {
        for kind in ["createRuntime", "poststart"] {
            let mut config = config(bench);
            let (program, state) = (bench.program().display(), bench.text("state"));
            let script = format!("{program} --root {state} delete --force h");
            config["hooks"] = json!({ kind: [shell(&script)] });
            let bundle = bench.bundle(&config);
            let (code, said) =
                bench.quietly(&[&[way.0], way.1, &["--bundle", &bundle, "h"]].concat());
            let (code, said) = match (way.0, kind, code) {
                ("create", "poststart", 0) => bench.quietly(&["start", "h"]),
                _ => (code, said),
            };
            assert_eq!(code, 1, "{way:?} {kind}");
            assert!(said.contains("deleted while its hooks ran"), "{said}");
            bench.check_nothing_is_left();
        }
    }
}

/// A start whose process was killed fails, and names that.
fn kill_beside_a_hook(bench: &Bench) {
    for way in WAYS {
        for kind in ["createRuntime", "startContainer"] {
            let mut config = config(bench);
            config["hooks"] = json!({ kind: [waiting(bench, kind)] });
            let call = start_until_hook(bench, &config, kind, way);
            bench.run(&["kill", "h", "KILL"]).ok();
            fs::write(bench.path("shared/go"), "").unwrap();
            assert_eq!(call.finish().code(), 1, "{way:?} {kind}: {}", log(bench));
            assert!(log(bench).contains("killed by signal 9"), "{}", log(bench));
            assert!(bench.run(&["state", "h"]).error(1).contains("does not exist"));
            bench.check_nothing_is_left();
            fs::remove_dir_all(bench.path("shared")).unwrap();
        }
    }
}

/// As runc: a hook on the host gets the environment of the command, one inside that of the
/// container's program; an empty list is an empty environment. `createContainer` begins in the
/// container's root.
fn hooks_inherit_environment_and_root(bench: &Bench) {
    let mut config = config(bench);
    let shared = bench.text("shared");
    config["hooks"] = json!({});
    let kinds = KINDS.into_iter().chain(["poststop"]);
    for kind in kinds.clone() {
        let script = format!("echo $FROM in $PWD >{shared}/{kind}");
        let mut hook = shell(&script);
        hook.as_object_mut().unwrap().remove("env");
        let mut empty = shell(&format!("echo $FROM >{shared}/{kind}.empty"));
        empty["env"] = json!([]);
        config["hooks"][kind] = json!([hook, empty]);
    }
    let bundle = bench.bundle(&config);
    for arguments in
        [&["create", "--bundle", &bundle, "h"][..], &["start", "h"], &["delete", "-f", "h"]]
    {
        let mut command = bench.command(arguments);
        command.env("FROM", "runtime").stdout(Stdio::null()).stderr(Stdio::null());
        assert_eq!(bench.finish(&mut command).code(), 0, "{arguments:?}");
    }
    let read = |name: &str| fs::read_to_string(bench.path("shared").join(name)).unwrap();
    for kind in kinds {
        let expected = match kind {
            "createContainer" => format!("bundle in {}\n", bench.text("rootfs")),
            "startContainer" => "bundle in /\n".to_owned(),
            _ => format!("runtime in {bundle}\n"),
        };
        assert_eq!(read(kind), expected, "{kind}");
        assert_eq!(read(&format!("{kind}.empty")), "\n", "{kind}");
    }
}

/// OCI runtime specification, "Lifecycle": after such a failure the container is destroyed, and the
/// hooks after the removal run.
fn a_failed_hook_of_start_destroys(bench: &Bench) {
    for way in WAYS {
        for kind in ["startContainer", "poststart"] {
            let mut config = config(bench);
            let after = shell(&format!("echo after >>{}/after; exit 1", bench.text("shared")));
            config["hooks"] = json!({ kind: [shell("echo why >&2; exit 3")], "poststop": [after] });
            let bundle = bench.bundle(&config);
            let mut done = bench.quietly(&[&[way.0], way.1, &["--bundle", &bundle, "h"]].concat());
            if way.0 == "create" {
                assert_eq!(done.0, 0, "{done:?}");
                done = bench.quietly(&["start", "h"]);
            }
            let (code, said) = done;
            assert_eq!(code, 1, "{said}");
            let expected = format!("hook `{kind}[0] /bin/sh`: exited with status 3 (why)");
            assert!(said.contains(&expected), "{said}");
            assert!(said.contains("hook `poststop[0] /bin/sh`: exited with status 1"), "{said}");
            assert!(bench.run(&["state", "h"]).error(1).contains("does not exist"));
            assert_eq!(fs::read_to_string(bench.path("shared/after")).unwrap(), "after\n");
            bench.check_nothing_is_left();
            fs::remove_dir_all(bench.path("shared")).unwrap();
        }
    }
}

/// A process that is frozen by cgroup v1 is one that SIGKILL does not end, like one that waits for
/// a disk.
fn a_hook_that_does_not_die_is_named(bench: &Bench) {
    let frozen = Path::new("/sys/fs/cgroup/freezer").join(format!("hook-{}", bench.cgroup()));
    fs::create_dir(&frozen).unwrap();
    let at = frozen.display();
    let script = format!("echo 0 >{at}/cgroup.procs; echo FROZEN >{at}/freezer.state; sleep 60");
    let mut hook = shell(&script);
    hook["timeout"] = json!(2);
    let mut config = bench.staying();
    config["hooks"] = json!({ "createRuntime": [hook] });
    let line = ["run", "--bundle", &bench.bundle(&config), "h"];
    let mut call = bench.start(&mut bench.command(&line));
    let ended = eventually(|| !call.is_running());
    // Before anything fails: nothing else would end the hook.
    fs::write(frozen.join("freezer.state"), "THAWED").unwrap();
    assert!(eventually(|| fs::remove_dir(&frozen).is_ok()));
    assert!(ended, "it is waited for without end");
    let outcome = call.finish();
    let expected = "hook `createRuntime[0] /bin/sh`: not done after 2 s, killed, and still there";
    assert!(outcome.stderr.contains(expected), "{outcome:?}");
    assert_eq!(outcome.code(), 1);
    assert!(bench.run(&["state", "h"]).error(1).contains("does not exist"));
}
