//! Containers by the verbs of `pidone`, from bundles.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Bench, ROOT};
use crate::call::without_name;
use crate::eventually;

impl Bench {
    /// The configuration of a container that runs a program.
    pub fn config(&self, args: &[&str]) -> Value {
        let namespaces: Vec<Value> = ["pid", "mount", "uts", "ipc", "network"]
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        let capabilities = ["CAP_KILL", "CAP_CHOWN"];
        json!({
            "ociVersion": "1.3.0",
            "process": {
                "args": args,
                "cwd": "/",
                "env": ["PATH=/bin", "FROM=bundle"],
                "user": { "uid": 0, "gid": 0 },
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "root": { "path": self.path(ROOT), "readonly": true },
            "hostname": "box",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["newinstance", "ptmxmode=0666"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
            ],
            "annotations": { "org.example.key": "value" },
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{}", self.cgroup()) },
        })
    }

    /// Writes a bundle, and returns its directory.
    pub fn bundle(&self, config: &Value) -> String {
        fs::create_dir_all(self.path("bundle")).unwrap();
        self.write("bundle/config.json", config.to_string());
        self.text("bundle")
    }

    /// Makes a container that stays, and lets it run. What it prints goes nowhere: it outlives the
    /// command.
    #[track_caller]
    pub fn keep(&self, id: &str, config: &Value) {
        self.create(id, config);
        self.run(&["start", id]).ok();
    }

    /// Makes a container.
    #[track_caller]
    pub fn create(&self, id: &str, config: &Value) {
        let bundle = self.bundle(config);
        self.detached(&["create", "--bundle", &bundle, id]);
    }

    /// Runs a command that leaves a process, which must not have the pipes of the command.
    #[track_caller]
    pub fn detached(&self, arguments: &[&str]) {
        assert_eq!(self.quietly(arguments), (0, String::new()), "{arguments:?}");
    }

    /// Runs a command that must fail, and returns its one line. Should it succeed, the process that
    /// it leaves does not have its pipes.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str]) -> String {
        let (code, said) = self.quietly(arguments);
        assert_eq!((code, said.lines().count()), (1, 1), "{arguments:?}: {said}");
        let line = without_name(&said).strip_suffix('\n');
        line.filter(|line| !line.contains(char::is_control)).expect(&said).to_owned()
    }

    /// Runs a command without the test's pipes. Returns its status and its standard error.
    #[track_caller]
    pub fn quietly(&self, arguments: &[&str]) -> (i32, String) {
        let log = self.path("detached.log");
        let errors = fs::File::create(&log).unwrap();
        let mut command = self.command(arguments);
        let outcome = self.finish(command.stdout(Stdio::null()).stderr(errors));
        (outcome.code(), fs::read_to_string(&log).unwrap())
    }

    /// The configuration of a container that stays until it gets SIGTERM.
    pub fn staying(&self) -> Value {
        self.config(&["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"])
    }

    /// The state of a container.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.run(&["state", id]).ok()).unwrap()
    }

    /// Waits until a container has a status.
    #[track_caller]
    pub fn wait_for(&self, id: &str, status: &str) {
        assert!(eventually(|| self.state(id)["status"] == status), "{id} is not {status}");
    }

    /// Removes a container, whatever it does.
    #[track_caller]
    pub fn delete(&self, id: &str) {
        self.run(&["delete", "--force", id]).ok();
    }
}

/// Sets a property of a document, by the names and numbers on the way to it. The name `+` appends
/// to an array.
pub fn set(document: &mut Value, place: &str, value: Value) {
    let mut at = document;
    for name in place.split('/') {
        at = match (name, name.parse::<usize>()) {
            ("+", _) => {
                if at.is_null() {
                    *at = json!([]);
                }
                let items = at.as_array_mut().unwrap();
                items.push(Value::Null);
                items.last_mut().unwrap()
            }
            (_, Ok(index)) => &mut at[index],
            (_, Err(_)) => &mut at[name],
        };
    }
    *at = value;
}
