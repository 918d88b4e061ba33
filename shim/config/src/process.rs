//! A process in a container, as it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use crate::config::{CapabilitySets, CpuAffinity, Rlimit, Scheduler};

/// A process to start.
#[derive(Debug, Default)]
pub struct Process {
    /// The arguments, the program first. Without a slash it is looked up in the process's
    /// `$PATH`, in the container.
    pub args: Vec<String>,
    /// The environment, as `NAME=value`. `HOME` is added if it is missing.
    pub env: Vec<String>,
    /// The working directory; empty for `/`.
    pub cwd: String,
    /// Whether the working directory of a first process is made if it is missing.
    pub make_cwd: bool,
    /// `user`, `uid`, `user:group` or `uid:gid`, names as in the container; empty for root.
    pub user: String,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// Descriptors from 3 up.
    pub extra_files: Vec<OwnedFd>,
    /// Capabilities instead of the container's.
    pub capabilities: Option<Vec<String>>,
    /// Each capability set by itself, instead of [`Process::capabilities`].
    pub capability_sets: Option<CapabilitySets>,
    /// The user by numbers, instead of [`Process::user`] and the container's groups.
    pub ids: Option<Ids>,
    /// Resource limits instead of the container's.
    pub rlimits: Option<Vec<Rlimit>>,
    /// The AppArmor profile instead of the container's.
    pub apparmor_profile: Option<String>,
    /// The SELinux label instead of the container's.
    pub label: Option<String>,
    /// Likes to be killed for want of memory, -1000 to 1000: `proc_pid_oom_score_adj(5)`.
    pub oom_score_adj: Option<i32>,
    /// How the kernel schedules it.
    pub scheduler: Option<Scheduler>,
    /// The class and priority of its I/O: `ioprio_set(2)`.
    pub io_priority: Option<u32>,
    /// Its processors, for a further process.
    pub affinity: Option<CpuAffinity>,
    /// A cgroup below the container's for a further process, by controller; `""` for all.
    pub sub_cgroups: BTreeMap<String, String>,
    /// A terminal of the container's own, with this size, in place of stdio.
    pub terminal: Option<TerminalSize>,
    /// No privileges are gained by exec.
    pub no_new_privileges: bool,
    /// Join the container also where its init could start a further process, so that it is a child
    /// of the caller: for who passes its end on to a parent or a subreaper.
    pub as_child: bool,
    /// Start a further process also in a paused container: it waits there for the resume, and so
    /// does who starts it.
    pub ignore_paused: bool,
}

impl Process {
    /// Sets a variable of the environment, given as `NAME=value`, in place of earlier ones of that
    /// name.
    pub fn set_variable(&mut self, variable: impl Into<String>) {
        let variable = variable.into();
        let name = variable.split('=').next();
        self.env.retain(|earlier| earlier.split('=').next() != name);
        self.env.push(variable);
    }
}

/// Returns the variables of an environment without those that a later one of the same name
/// replaces.
///
/// The others keep their order. Text without `=` has no name and stays, for validation to refuse.
#[must_use]
pub fn last_of_each_name(env: &[String]) -> Vec<String> {
    fn name(variable: &str) -> Option<&str> {
        variable.split_once('=').map(|(name, _)| name)
    }
    let mut seen = BTreeSet::new();
    let mut kept: Vec<String> = env
        .iter()
        .rev()
        .filter(|variable| name(variable).is_none_or(|name| seen.insert(name)))
        .cloned()
        .collect();
    kept.reverse();
    kept
}

/// The user of a process by numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// The user id in the container.
    pub uid: u32,
    /// The group id in the container.
    pub gid: u32,
    /// The supplementary groups, these and no others.
    pub groups: Vec<u32>,
    /// The file mode creation mask; 0022 if absent.
    pub umask: Option<u32>,
}

/// One of the standard descriptors.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// The null device.
    Null,
    /// A pipe, whose other end is in the running process's handle.
    Pipe,
    /// This descriptor.
    Fd(OwnedFd),
}

/// The size of a terminal in characters; 0 leaves the kernel's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// The height.
    pub rows: u16,
    /// The width.
    pub columns: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn set_variable_replaces_earlier_ones_of_the_name() {
        let env = strings(&["A=1", "AB=2", "A=3", "B=4"]);
        let mut process = Process { env, ..Process::default() };
        process.set_variable("A=5");
        assert_eq!(process.env, ["AB=2", "B=4", "A=5"]);
        process.set_variable("C=");
        assert_eq!(process.env, ["AB=2", "B=4", "A=5", "C="]);
    }

    #[test]
    fn last_of_each_name_keeps_order_and_text_without_a_name() {
        let env = strings(&["A=1", "bad", "B=", "A=2=3", "bad", "AA=1"]);
        assert_eq!(last_of_each_name(&env), ["bad", "B=", "A=2=3", "bad", "AA=1"]);
        assert!(last_of_each_name(&[]).is_empty());
    }
}
