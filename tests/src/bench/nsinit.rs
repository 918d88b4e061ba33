//! Containers by the verbs of `nsinit`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::Bench;
use crate::{Call, Finished, eventually};

impl Bench {
    /// Starts nsinit with the test's own state root.
    pub fn spawn(&self, arguments: &[&str]) -> Call {
        self.start(&mut self.command(arguments))
    }

    /// Runs `nsinit exec` to its end.
    #[track_caller]
    pub fn exec(&self, arguments: &[&str]) -> Finished {
        self.run(&[&["exec"], arguments].concat())
    }

    /// Runs a shell's line in a container.
    #[track_caller]
    pub fn shell(&self, line: &str) -> Finished {
        self.exec(&["/bin/sh", "-c", line])
    }

    /// Starts a container that stays until it gets SIGTERM, and waits until it runs.
    pub fn stay(&self, options: &[&str]) -> Call {
        let line = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"];
        let program = self.spawn(&[&["exec"], options, &line].concat());
        let at = options.iter().position(|option| *option == "--id");
        let id = at.and_then(|at| options.get(at + 1)).unwrap_or(&"nsinit");
        self.wait_running(id);
        program
    }

    /// Waits until a container runs, and returns its state.
    pub fn wait_running(&self, id: &str) -> serde_json::Value {
        let mut state = serde_json::Value::Null;
        let runs = eventually(|| {
            let outcome = self.run(&["state", "--id", id]);
            if outcome.code() != 0 {
                return false;
            }
            state = serde_json::from_str(&outcome.stdout).unwrap();
            // The state exists from the clone on, and has these once the program runs.
            state["namespace_paths"]["NEWPID"].is_string()
        });
        assert!(runs, "{id} does not run");
        state
    }
}
