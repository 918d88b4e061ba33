//! Configurations that are right and odd: very large ones, and roots that lack something.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Finished, set};

pub(crate) const CASES: &[Case] = &[
    case("bad_large_arguments", &[], large_arguments),
    case("bad_roots_without_proc", &[], without_proc),
    case("bad_roots_that_cannot_be_written", &[], read_only_roots),
    case("bad_destinations_stay_inside", &[], destinations_stay_inside),
    case("bad_descriptors_of_the_caller", &[], descriptors_of_the_caller),
];

fn large_arguments(bench: &Bench) {
    let one = "x".repeat(128 * 1024);
    let three = vec!["x".repeat(100_000); 31];
    for (arguments, said) in [
        (json!(["true", one]), "longer than 131071 bytes"),
        (Value::from([vec!["true".to_owned()], three].concat()), "bytes that execve takes"),
    ] {
        let mut config = bench.config(&["true"]);
        config["process"]["args"] = arguments;
        let bundle = bench.bundle(&config);
        let error = bench.refused(&["create", "-b", &bundle, "x"]);
        assert!(error.contains(said) && error.len() < 300, "{error}");
        bench.check_nothing_is_left();
    }
    // One byte less than the first is fine.
    let bundle = bench.bundle(&bench.config(&["true", &one[..one.len() - 1]]));
    bench.run(&["run", "-b", &bundle, "x"]).ok();
}

fn without_proc(bench: &Bench) {
    fs::remove_dir(bench.path("rootfs/proc")).unwrap();
    let mut config = bench.config(&["sh", "-c", "echo /*; echo exec"]);
    config["mounts"] = json!([]);
    config["root"]["readonly"] = json!(false);
    let bundle = bench.bundle(&config);
    let text = bench.run(&["run", "-b", &bundle, "x"]).ok();
    assert!(text.ends_with("exec\n") && !text.contains("/proc"), "{text}");
    config["process"] = bench.staying()["process"].clone();
    bench.keep("x", &config);
    assert_eq!(bench.run(&["exec", "x", "sh", "-c", "echo in"]).ok(), "in\n");
    bench.delete("x");
}

/// Runs a line of a shell in a new mount namespace: `$0` is pidone, `$1` the state root, `$2`
/// the bundle and `$3` the root.
fn unshared(bench: &Bench, line: &str, bundle: &str) -> Finished {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", line, env!("CARGO_BIN_EXE_pidone")])
        .args([&bench.text("state"), bundle, &bench.text("rootfs")])
        .current_dir(bench.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    bench.finish(&mut command)
}

fn read_only_roots(bench: &Bench) {
    let line = "mount --bind \"$3\" \"$3\" && mount -o remount,bind,ro \"$3\" && \
                exec \"$0\" --root \"$1\" run -b \"$2\" x";
    let mut config = bench.config(&["sh", "-c", "echo ran"]);
    let bundle = bench.bundle(&config);
    assert_eq!(unshared(bench, line, &bundle).ok(), "ran\n");
    let missing = json!({ "destination": "/missing/point", "type": "tmpfs", "source": "tmpfs" });
    config["mounts"].as_array_mut().unwrap().push(missing);
    let bundle = bench.bundle(&config);
    let error = unshared(bench, line, &bundle).error(1);
    assert!(error.contains("/missing") && error.contains("Read-only file system"), "{error}");
}

fn destinations_stay_inside(bench: &Bench) {
    // Neither upwards nor through links to the host's places.
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    let up = "../".repeat(12);
    std::os::unix::fs::symlink(&outside, bench.path("rootfs/absolute")).unwrap();
    std::os::unix::fs::symlink(format!("{up}{}", outside.display()), bench.path("rootfs/upwards"))
        .unwrap();
    let mut config = bench.config(&["sh", "-c", "cat /proc/self/mounts"]);
    config["root"]["readonly"] = json!(false);
    for destination in ["/../../updir", "/bin/../../../dots"] {
        let mount = json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs" });
        config["mounts"].as_array_mut().unwrap().push(mount);
    }
    let bundle = bench.bundle(&config);
    let text = bench.run(&["run", "-b", &bundle, "x"]).ok();
    for link in ["absolute", "upwards"] {
        let mount = json!({ "destination": format!("/{link}/{link}"), "type": "tmpfs" });
        config["mounts"].as_array_mut().unwrap().push(mount);
    }
    // What the links name is made in the root.
    let bundle = bench.bundle(&config);
    let inside = bench.run(&["run", "-b", &bundle, "x"]).ok();
    for link in ["absolute", "upwards"] {
        let place = outside.join(link);
        assert!(inside.contains(&format!(" {} tmpfs ", place.display())), "{inside}");
    }
    for place in ["/updir", "/dots"] {
        assert!(text.contains(&format!(" {place} tmpfs ")), "{place} in {text}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "made outside of the root");
    assert!(!bench.path("updir").exists() && !bench.path("dots").exists());
    let mut config = bench.config(&["true"]);
    set(&mut config, "linux/cgroupsPath", json!(format!("/{}/../x", bench.cgroup())));
    let bundle = bench.bundle(&config);
    let error = bench.refused(&["create", "-b", &bundle, "x"]);
    assert!(error.contains("linux.cgroupsPath"), "{error}");
}

fn descriptors_of_the_caller(bench: &Bench) {
    let line = "exec 9<\"$3\"; exec \"$0\" --root \"$1\" run -b \"$2\" x";
    let config = bench.config(&["sh", "-c", "for fd in /proc/self/fd/*; do echo ${fd##*/}; done"]);
    let bundle = bench.bundle(&config);
    let text = unshared(bench, line, &bundle).ok();
    assert!(!text.contains('9'), "{text}");
    // Closed ones do not become something else's.
    let config = bench.config(&["sh", "-c", "readlink /proc/self/fd/0 > /tmp/0; exit 5"]);
    let bundle = bench.bundle(&config);
    let closed = |line: &str| unshared(bench, &format!("\"$0\" --root \"$1\" {line}"), &bundle);
    assert_eq!(closed("run -b \"$2\" x <&- >&- 2>&-; echo $?").ok(), "5\n");
    assert_eq!(closed("create -b \"$2\" x <&- >&- 2>&-; echo $?").ok(), "0\n");
    assert_eq!(closed("start x <&- >&- 2>&-; echo $?").ok(), "0\n");
    bench.wait_for("x", "stopped");
    assert_eq!(closed("delete x <&- >&- 2>&-; echo $?").ok(), "0\n");
    assert_eq!(closed("state x <&- >&- 2>&-; echo $?").ok(), "1\n");
}
