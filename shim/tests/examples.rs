//! The examples, as the user who runs the tests and as an ordinary user.
//!
//! Cargo builds them once more for this: not part of a plain `cargo test`, but
//! `cargo test --test examples`. Only root can become an ordinary user.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};

use libtest_mimic::Trial;
use pidone_tests::need::NOBODY;
use pidone_tests::{Need, completion};
use tempfile::TempDir;

/// An example, its arguments, and lines of what it prints.
struct Example {
    name: &'static str,
    arguments: &'static [&'static str],
    says: &'static [&'static str],
}

const EXAMPLES: [Example; 7] = [
    Example {
        name: "embed",
        arguments: &[],
        says: &["hello host: process 1 on box", "it ended with status 3"],
    },
    Example {
        name: "own_plan",
        arguments: &[],
        says: &[
            " 1 set ids 0:0",
            "process 1 of by-hand",
            "CapBnd:\t0000000000000000",
            "it ended with status 0",
        ],
    },
    Example {
        name: "many",
        arguments: &["12"],
        says: &["12 containers ended, with statuses that add up to 66"],
    },
    Example { name: "sandbox", arguments: &["50"], says: &["45 jobs completed, 5 timed out"] },
    Example {
        name: "bundle",
        arguments: &[BUNDLE],
        says: &["process 1 on bundled", "it ended with status 5"],
    },
    Example {
        name: "pool",
        arguments: &[],
        says: &[
            "program 1 as process 1: warm start, status 1",
            "program 3 as process 1: warm start, status 3",
        ],
    },
    Example {
        name: "further",
        arguments: &[],
        says: &[
            "the further process prints 42 next to sh",
            "the further process ended with status 2",
            "the first process ended with status 1",
        ],
    },
];

fn main() -> ExitCode {
    let built: Arc<OnceLock<Built>> = Arc::default();
    let mut trials = Vec::new();
    for example in &EXAMPLES {
        for ordinary in [false, true] {
            let who = if ordinary { "an_ordinary_user" } else { "the_caller" };
            let built = Arc::clone(&built);
            let name = format!("{}_runs_as_{who}", example.name);
            let own = name.clone();
            trials.push(Trial::ignorable_test(name, move || {
                // Before anything is spawned: a child that has a program open for writing would
                // keep it from being executed.
                let built = built.get_or_init(Built::new);
                let needs: &[Need] = if ordinary { &[Need::Root] } else { &[] };
                let mut needs = needs.iter().chain(&[Need::UserNamespaces]);
                let outcome = needs.try_for_each(|need| need.check());
                completion(
                    &own,
                    outcome.map(|()| example.run(&built.programs[example.name], ordinary)),
                )
            }));
        }
    }
    pidone_tests::run_trials(trials)
}

/// The examples, in a directory that others may look into, as that of the build may not be.
struct Built {
    _directory: TempDir,
    programs: HashMap<String, PathBuf>,
}

impl Built {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = |(name, built): (String, PathBuf)| {
            let program = directory.path().join(&name);
            fs::copy(built, &program).unwrap();
            (name, program)
        };
        let programs = build().into_iter().map(copy).collect();
        Self { _directory: directory, programs }
    }
}

/// Builds the examples, and returns their names and paths.
fn build() -> Vec<(String, PathBuf)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "--offline",
            "--examples",
            "--features=tokio",
            "--message-format=json",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let artifact = |message: serde_json::Value| {
        let path = message["executable"].as_str()?.into();
        Some((message["target"]["name"].as_str()?.to_owned(), path))
    };
    messages.filter_map(artifact).collect()
}

impl Example {
    /// Runs the example in a new directory, which it leaves empty.
    fn run(&self, program: &Path, ordinary: bool) {
        let directory = tempfile::tempdir().unwrap();
        let temporary = directory.path();
        let mut command = Command::new(program);
        let bundle = bundle(ordinary);
        for argument in self.arguments {
            let is_bundle = *argument == BUNDLE;
            command.arg(if is_bundle { bundle.path().as_os_str() } else { argument.as_ref() });
        }
        command.current_dir("/").env("TMPDIR", temporary);
        if ordinary {
            chown(temporary, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let complained = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}{complained}");
        assert_eq!(complained, "");
        for line in self.says {
            assert!(said.lines().any(|each| each == *line), "no line `{line}` in:\n{said}");
        }
        assert_eq!(fs::read_dir(temporary).unwrap().count(), 0, "left in {temporary:?}");
        let cgroups = cgroups_with(&format!("-{pid}"));
        assert!(cgroups.is_empty(), "left: {cgroups:?}");
    }
}

/// Cgroups of the examples with the id of their process in the name.
fn cgroups_with(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("pidone-") && name.contains(id) {
                found.push(entry.path());
            }
            left.push(entry.path());
        }
    }
    found
}

/// An argument that stands for the directory of a bundle.
const BUNDLE: &str = "BUNDLE";

/// Writes a bundle whose root file system has the host's programs.
fn bundle(ordinary: bool) -> TempDir {
    let bind = |path: &&str| serde_json::json!({"destination": path, "source": path, "options": ["rbind", "ro"]});
    let existing =
        ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).exists());
    let mut mounts: Vec<_> = existing.map(|path| bind(&path)).collect();
    mounts.push(serde_json::json!({"destination": "/dev", "type": "tmpfs"}));
    let script = "echo process $$ on $(uname -n); exit 5";
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "bundled",
        "process": {"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/usr/bin:/bin"]},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}]},
    });
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("rootfs");
    fs::create_dir(&root).unwrap();
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    if ordinary {
        for path in [directory.path(), &root] {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    directory
}
