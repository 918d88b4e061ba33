//! A process to start in a container.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use crate::config::{CapabilitySets, CpuAffinity, Rlimit, Scheduler};

/// A process to start.
///
/// ```
/// use pidone_config::{Process, Stdio};
///
/// let process = Process {
///     args: ["sh", "-c", "cat > /tmp/copy"].map(Into::into).into(),
///     env: vec!["PATH=/usr/bin:/bin".into()],
///     cwd: "/tmp".into(),
///     user: "nobody".into(),
///     stdin: Stdio::Pipe,
///     ..Process::default()
/// };
/// assert_eq!(process.args[0], "sh");
/// ```
#[derive(Debug, Default)]
pub struct Process {
    /// The arguments, the program first. A program without a slash is searched for in the
    /// container, in the directories of the process's `$PATH`.
    /// They need not be UTF-8: the program gets the bytes as they are.
    pub args: Vec<OsString>,
    /// The environment, as `NAME=value`, in any bytes. `HOME` is added if it is missing.
    pub env: Vec<OsString>,
    /// The working directory; `/` if empty.
    pub cwd: String,
    /// Whether the working directory of a first process is created if it does not exist.
    pub make_cwd: bool,
    /// The user: `user`, `uid`, `user:group` or `uid:gid`, with names of the container; root if
    /// empty.
    pub user: String,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// Further descriptors, which the process gets from number 3 up.
    pub extra_files: Vec<OwnedFd>,
    /// Numbers from 3 up that `extra_files` skip, so that they stay closed in the process.
    pub closed_numbers: BTreeSet<u32>,
    /// The capabilities, in place of the container's.
    pub capabilities: Option<Vec<String>>,
    /// The capability sets one by one, in place of [`Process::capabilities`].
    pub capability_sets: Option<CapabilitySets>,
    /// The numeric ids of the user, in place of [`Process::user`] and the container's groups.
    pub ids: Option<Ids>,
    /// The resource limits, in place of the container's.
    pub rlimits: Option<Vec<Rlimit>>,
    /// The AppArmor profile, in place of the container's.
    pub apparmor_profile: Option<String>,
    /// The SELinux label, in place of the container's.
    pub label: Option<String>,
    /// The OOM score adjustment, -1000 to 1000: `proc_pid_oom_score_adj(5)`.
    pub oom_score_adj: Option<i32>,
    /// The scheduling policy and its parameters.
    pub scheduler: Option<Scheduler>,
    /// The I/O scheduling class and priority, as `ioprio_set(2)` takes them.
    pub io_priority: Option<u32>,
    /// The CPU affinity of a further process.
    pub affinity: Option<CpuAffinity>,
    /// The cgroup of a further process, relative to the container's, by controller; the key `""`
    /// stands for all controllers.
    pub sub_cgroups: BTreeMap<String, String>,
    /// The size of a new terminal in the container, which replaces standard input, output and
    /// error.
    pub terminal: Option<TerminalSize>,
    /// Whether the master of the terminal reads a line feed of the process as it was written. By
    /// default the terminal makes carriage return and line feed of it: `ONLCR` in `termios(3)`.
    /// A further process then joins the container from the host, as with `as_child`.
    pub keep_newlines: bool,
    /// Whether `no_new_privs` is set, so that exec grants no privileges: `prctl(2)`.
    pub no_new_privileges: bool,
    /// Whether a further process always joins the container from the host, so that it is a child of
    /// the caller, even if the init could start it. For callers that leave waiting for the process
    /// to their parent or to a subreaper.
    pub as_child: bool,
    /// Whether a further process is started in a paused container. The process, and the call that
    /// starts it, then wait until the container is resumed.
    pub ignore_paused: bool,
}

impl Process {
    /// Returns how many numbers from 3 up the extra files take, with those that they skip.
    #[must_use]
    pub fn extra_numbers(&self) -> usize {
        let mut files = self.extra_files.len();
        let mut numbers = 0;
        for number in 3.. {
            if files == 0 {
                break;
            }
            files -= usize::from(!self.closed_numbers.contains(&number));
            numbers += 1;
        }
        numbers
    }

    /// Sets a variable of the environment, given as `NAME=value`, and removes earlier ones with the
    /// same name.
    pub fn set_variable(&mut self, variable: impl Into<OsString>) {
        fn name(variable: &OsStr) -> Option<&[u8]> {
            variable.as_bytes().split(|byte| *byte == b'=').next()
        }
        let variable = variable.into();
        self.env.retain(|earlier| name(earlier) != name(&variable));
        self.env.push(variable);
    }
}

/// Returns an environment in which every name occurs once, with its last value.
///
/// Variables keep their order. Text without `=` has no name and is kept, so that validation can
/// refuse it.
#[must_use]
pub fn last_of_each_name<S: AsRef<OsStr> + Clone>(env: &[S]) -> Vec<S> {
    fn name(variable: &OsStr) -> Option<&[u8]> {
        let bytes = variable.as_bytes();
        bytes.get(..bytes.iter().position(|byte| *byte == b'=')?)
    }
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for variable in env.iter().rev() {
        if name(variable.as_ref()).is_none_or(|name| seen.insert(name)) {
            kept.push(variable.clone());
        }
    }
    kept.reverse();
    kept
}

/// The numeric ids of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// The user id in the container.
    pub uid: u32,
    /// The group id in the container.
    pub gid: u32,
    /// All of the supplementary groups.
    pub groups: Vec<u32>,
    /// The file mode creation mask; 0022 if absent.
    pub umask: Option<u32>,
}

/// What one of the standard descriptors of a process is connected to.
///
/// ```
/// use std::fs::File;
///
/// use pidone_config::{Process, Stdio};
///
/// let process = Process {
///     stdin: Stdio::Null,
///     // The handle of the running process has the other end.
///     stdout: Stdio::Pipe,
///     stderr: Stdio::Fd(File::open("/dev/null")?.into()),
///     ..Process::default()
/// };
/// # assert!(matches!(process.stdout, Stdio::Pipe));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's descriptor.
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// A pipe. The handle of the running process has the other end.
    Pipe,
    /// The given descriptor.
    Fd(OwnedFd),
}

/// The size of a terminal in characters; 0 leaves the kernel's default.
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
        let env = env.into_iter().map(Into::into).collect();
        let mut process = Process { env, ..Process::default() };
        process.set_variable("A=5");
        assert_eq!(process.env, ["AB=2", "B=4", "A=5"]);
        process.set_variable("C=");
        assert_eq!(process.env, ["AB=2", "B=4", "A=5", "C="]);
    }

    #[test]
    fn extra_files_skip_closed_numbers() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let numbers = |files: usize, closed: &[u32]| {
            let extra_files = std::iter::repeat_with(file).take(files).collect();
            let closed_numbers = closed.iter().copied().collect();
            Process { extra_files, closed_numbers, ..Process::default() }.extra_numbers()
        };
        assert_eq!(numbers(0, &[3, 4]), 0);
        assert_eq!(numbers(2, &[]), 2);
        assert_eq!(numbers(2, &[0, 3, 5, 9]), 4);
    }

    #[test]
    fn last_of_each_name_keeps_order_and_text_without_a_name() {
        let env = strings(&["A=1", "bad", "B=", "A=2=3", "bad", "AA=1"]);
        assert_eq!(last_of_each_name(&env), ["bad", "B=", "A=2=3", "bad", "AA=1"]);
        assert!(last_of_each_name::<String>(&[]).is_empty());
    }
}
