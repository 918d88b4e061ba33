//! Where the configuration comes from, and what goes over what.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::{Bench, Finished, Need, Who};

pub(crate) const CASES: &[Case] = &[
    case("a_root_file_system", &[Need::Busybox], a_root_file_system),
    case("the_current_directory_as_root", &[Need::Busybox], the_current_directory_as_root),
    case("a_file_in_the_current_directory", &[Need::Busybox], a_file_in_the_current_directory),
    case("a_file_that_others_could_write", &[Need::Busybox], a_file_that_others_could_write),
    case("a_file_with_commands", &[Need::Busybox], a_file_with_commands),
    case("a_named_file", &[Need::Busybox], a_named_file),
    case(
        "the_example_of_libcontainers_nsinit_works",
        &[Need::Busybox],
        the_example_of_libcontainers_nsinit_works,
    ),
    case("what_config_prints_can_be_used", &[Need::Busybox], what_config_prints),
];

/// A line that prints where it runs.
const WHERE: [&str; 3] = ["/bin/sh", "-c", "hostname; test -e /bin/busybox && echo busybox; true"];

/// Runs nsinit in a directory of the test.
fn exec_in(bench: &Bench, directory: &str, arguments: &[&str]) -> Finished {
    let mut command = bench.command(&[&["exec"], arguments].concat());
    bench.finish(command.current_dir(bench.path(directory)))
}

/// A configuration for a root of busybox, as a file of the caller's.
fn write_config(bench: &Bench, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut config = json!({
        "hostname": "file",
        "namespaces": [{"type": "NEWNS"}, {"type": "NEWUTS"}, {"type": "NEWPID"}],
        "mounts": [{"device": "proc", "source": "proc", "destination": "/proc", "flags": 14}],
    });
    change(&mut config);
    bench.write(name, config.to_string())
}

fn a_root_file_system(bench: &Bench) {
    let root = bench.make_root("busybox");
    let seen = bench.exec(&[&["--rootfs", &root], &WHERE[..]].concat()).ok();
    assert_eq!(seen, "nsinit\nbusybox\n");
    // A relative one starts at the current directory; what is written there stays.
    let line = ["--rootfs", "busybox", "sh", "-c", "echo kept > /tmp/kept; id -u"];
    assert_eq!(exec_in(bench, "", &line).ok(), "0\n");
    assert_eq!(std::fs::read_to_string(bench.path("busybox/tmp/kept")).unwrap(), "kept\n");
}

fn the_current_directory_as_root(bench: &Bench) {
    bench.make_root("busybox");
    assert_eq!(exec_in(bench, "busybox", &WHERE).ok(), "nsinit\nbusybox\n");
    assert_eq!(exec_in(bench, "busybox", &["sh", "-c", "hostname"]).ok(), "nsinit\n");
    // It does not hold this program, so that it is not the root.
    let seen = exec_in(bench, "busybox", &["/usr/bin/env", "sh", "-c", "test -e /bin/busybox"]);
    assert_eq!(seen.code(), i32::from(!std::path::Path::new("/bin/busybox").exists()));
    let env = exec_in(bench, "busybox", &["--hostname", "dir", "hostname"]);
    assert_eq!(env.ok(), "dir\n");
}

fn a_file_in_the_current_directory(bench: &Bench) {
    bench.make_root("busybox");
    write_config(bench, "container.json", |config| config["rootfs"] = json!("busybox"));
    assert_eq!(exec_in(bench, "", &WHERE).ok(), "file\nbusybox\n");
    // Without a root the file's directory is it, and options go over the file.
    write_config(bench, "busybox/container.json", |_| {});
    assert_eq!(exec_in(bench, "busybox", &WHERE).ok(), "file\nbusybox\n");
    let line = [&["--hostname", "option"], &WHERE[..]].concat();
    assert_eq!(exec_in(bench, "busybox", &line).ok(), "option\nbusybox\n");
    // A root that is given goes over the file, and so does another file.
    let root = bench.text("busybox");
    let line = [&["--rootfs", &root], &WHERE[..]].concat();
    assert_eq!(exec_in(bench, "busybox", &line).ok(), "nsinit\nbusybox\n");
    let named = write_config(bench, "named.json", |config| {
        config["hostname"] = json!("named");
        config["rootfs"] = json!(root);
    });
    let line = [&["--config", &named], &WHERE[..]].concat();
    assert_eq!(exec_in(bench, "busybox", &line).ok(), "named\nbusybox\n");
}

fn a_file_that_others_could_write(bench: &Bench) {
    bench.make_root("busybox");
    let path = write_config(bench, "busybox/container.json", |_| {});
    let refused = || exec_in(bench, "busybox", &WHERE).error(1);
    let named = || exec_in(bench, "busybox", &[&["--config", &path], &WHERE[..]].concat());
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = refused();
        assert!(error.starts_with("open `container.json`: others may write to it"), "{error}");
        assert!(error.contains("--config"), "{error}");
        // Whoever names it means it.
        assert_eq!(named().ok(), "file\nbusybox\n");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(exec_in(bench, "busybox", &WHERE).ok(), "file\nbusybox\n");
    let other = if bench.who() == Who::Root { 65534 } else { 0 };
    std::os::unix::fs::chown(&path, Some(other), Some(other)).unwrap();
    assert!(refused().starts_with("open `container.json`: it belongs to another user"));
    assert_eq!(named().ok(), "file\nbusybox\n");
    // A link is the work of whoever may write to the directory.
    std::fs::rename(&path, bench.path("real.json")).unwrap();
    symlink(bench.path("real.json"), &path).unwrap();
    assert!(refused().starts_with("open `container.json`: Too many "));
}

fn a_file_with_commands(bench: &Bench) {
    bench.make_root("busybox");
    let made = bench.text("made");
    let path = write_config(bench, "busybox/container.json", |config| {
        let command = json!({"path": "/bin/touch", "args": [made]});
        config["mounts"][0]["premount_cmds"] = json!([command]);
    });
    let error = exec_in(bench, "busybox", &WHERE).error(1);
    assert!(error.starts_with("configuration `mounts[0].premount_cmds`: "), "{error}");
    assert!(!bench.path("made").exists());
    if bench.who() == Who::Root {
        let line = [&["--config", &path], &WHERE[..]].concat();
        assert_eq!(exec_in(bench, "busybox", &line).ok(), "file\nbusybox\n");
        assert!(bench.path("made").exists());
    }
}

fn a_named_file(bench: &Bench) {
    bench.make_root("busybox");
    bench.mkdir("deep");
    let path =
        write_config(bench, "deep/any.json", |config| config["rootfs"] = json!("../busybox"));
    let line = [&["--config", &path], &WHERE[..]].concat();
    assert_eq!(bench.exec(&line).ok(), "file\nbusybox\n");
    let line = [&["--config", "deep/any.json", "--uts", "private"], &WHERE[..]].concat();
    assert_eq!(exec_in(bench, "", &line).ok(), "file\nbusybox\n");
    let missing = bench.text("missing.json");
    let error = bench.exec(&["--config", &missing, "true"]).error(1);
    assert_eq!(error, format!("open `{missing}`: No such file or directory"));
}

/// The README of libcontainer: odd addresses and all.
fn the_example_of_libcontainers_nsinit_works(bench: &Bench) {
    let root = bench.make_root("busybox");
    bench.write("busybox/etc/passwd", "root:x:0:0::/:\ndaemon:x:1:1:daemon:/tmp:/bin/sh\n");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/readme.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(sample).unwrap()).unwrap();
    assert_eq!(config["networks"][0]["address"], "127.0.0.1/0");
    config["cgroups"]["name"] = json!(bench.new_cgroup());
    if bench.who() == Who::Root {
        config["cgroups"]["parent"] = json!("nsinit");
    }
    bench.write("busybox/container.json", config.to_string());
    let user = if bench.who() == Who::Root { "daemon" } else { "root" };
    let line = ["--user", user, "sh", "-c", "id -u; hostname; echo $HOME"];
    let seen = exec_in(bench, "busybox", &line).ok();
    let expected = if bench.who() == Who::Root { "1\ntesting\n/tmp\n" } else { "0\ntesting\n/\n" };
    assert_eq!(seen, expected, "{root}");
}

fn what_config_prints(bench: &Bench) {
    bench.make_root("busybox");
    let mut command = bench.command(&["config", "--hostname", "printed", "--tmpfs", "/mnt"]);
    let printed = bench.finish(command.current_dir(bench.path("busybox"))).ok();
    assert!(printed.starts_with("{\n\t\"no_pivot_root\": false,\n"), "{printed}");
    let mut config: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(config["rootfs"], json!(bench.text("busybox")));
    assert_eq!(config["cgroups"]["name"], "busybox");
    config["cgroups"]["name"] = json!(bench.new_cgroup());
    bench.write("busybox/container.json", config.to_string());
    let line = ["sh", "-c", "hostname; mount | grep -c /mnt"];
    assert_eq!(exec_in(bench, "busybox", &line).ok(), "printed\n1\n");

    // A file that it writes is fit to be read from a current directory, whatever the umask.
    bench.mkdir("out");
    let line = "umask 0; exec \"$@\"";
    let binary = bench.program().to_str().unwrap();
    let file = bench.text("out/container.json");
    let shell = std::path::Path::new("/bin/sh");
    let all = ["-c", line, "sh", binary, "config", "--rootfs", "/x", "--file", &file];
    assert_eq!(bench.finish(&mut bench.command_of(shell, &all)).ok(), "");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let error = bench.run(&["config", "--file", "/nonexistent/x"]).error(1);
    assert_eq!(error, "open `/nonexistent/x`: No such file or directory");
    let error = bench.run(&["config", "--bind", "x"]).error(1);
    assert_eq!(error, "configuration `--bind = x`: must be SRC:DST[:ro|rw]");
}
