//! What a start costs, in numbers that no busy machine changes: system calls and page faults.
//!
//! strace(1) counts those of the host and those of the init apart. More than the tables allow is a
//! failure: a call that is worth its price goes into the table, with its reason. The container has
//! what the OCI runtime specification and docker call the default, with a new network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use pidone::{Factory, Options, Strategy, oci};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::bench_case as case;
use pidone_tests::{Bench, Call, Case, Need};

pub(crate) const CASES: &[Case<Bench>] = &[
    case("cost_of_the_library", &[Need::Strace], |bench| {
        for view in View::all() {
            for strategy in ["template", "host"] {
                check(view, Start::Library, || library(bench, view, strategy));
            }
        }
    }),
    case("cost_of_run", &[Need::Strace], |bench| {
        for view in View::all() {
            let bundle = bench.bundle(&config(bench));
            check(view, Start::Run, || traced(bench, view, &["run", "-b", &bundle, "box"]));
        }
    }),
    case("cost_of_exec", &[Need::Strace], |bench| {
        for view in View::all() {
            let bundle = bench.bundle(&config(bench));
            let quietly = |line: &[&str]| {
                let mut command = view.command(bench.command(line));
                command.stdout(Stdio::null()).stderr(Stdio::null());
                assert_eq!(Call::start(&mut command).finish().code(), 0, "{line:?}");
            };
            quietly(&["create", "-b", &bundle, "box"]);
            check(view, Start::Exec, || traced(bench, view, &["exec", "box", "true"]));
            quietly(&["delete", "--force", "box"]);
        }
    }),
    case("cost_in_page_faults", &[], |bench| {
        let bundle = bench.bundle(&config(bench));
        let fewest = (0..5).map(|_| faults(bench, &bundle)).min().unwrap();
        assert!(fewest <= FAULTS, "{fewest} page faults, and not {FAULTS} at most");
    }),
];

/// What is started.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// A container of the library, in a process that has started one before.
    Library,
    /// `pidone run`, the whole process.
    Run,
    /// `pidone exec`, the whole process.
    Exec,
}

/// Calls of one kind of work, and how many the host and the init may make: of [`Start::Library`],
/// [`Start::Run`] and [`Start::Exec`] in turn, and how many more for each hierarchy of cgroup v1.
struct Group {
    work: &'static str,
    calls: &'static [&'static str],
    host: [usize; 3],
    init: [usize; 3],
    v1: [[usize; 3]; 2],
}

const NONE: [[usize; 3]; 2] = [[0; 3]; 2];

/// A few more are allowed than there are, where their number depends on the moment or the kernel.
const GROUPS: [Group; 11] = [
    Group {
        work: "lets the process run on all processors of its cpuset",
        calls: &["sched_setaffinity"],
        host: [1, 1, 1],
        init: [0, 0, 0],
        v1: NONE,
    },
    Group {
        work: "looks up names: bundle, state, cgroups, every place of a mount or device",
        calls: &[
            "openat",
            "openat2",
            "faccessat",
            "stat",
            "statx",
            "newfstatat",
            "fstat",
            "statfs",
            "fstatfs",
            "readlink",
            "getdents64",
        ],
        // Two of them are about who owns standard output and error.
        host: [38, 59, 40],
        init: [38, 38, 3],
        v1: [[2, 3, 1], [4, 4, 0]],
    },
    // A hierarchy of cgroup v1 is a directory to make, to enter, and to bind in the container.
    Group {
        work: "closes, moves and marks descriptors; the loopback interface",
        calls: &["close", "close_range", "dup3", "fcntl", "ioctl"],
        host: [26, 40, 30],
        init: [57, 57, 10],
        v1: [[3, 3, 1], [4, 4, 0]],
    },
    Group {
        work: "reads: the bundle, where cgroups are, that none is frozen, who the process is",
        calls: &["read", "pread64"],
        host: [5, 13, 18],
        init: [0, 0, 0],
        v1: [[1, 1, 0], [0, 0, 0]],
    },
    Group {
        work: "makes, writes and removes files: state, journal, cgroups, devices and links",
        calls: &[
            "write",
            "renameat",
            "unlinkat",
            "rmdir",
            "mkdir",
            "mkdirat",
            "flock",
            "mknodat",
            "symlinkat",
        ],
        host: [10, 20, 3],
        // The last report is written: `write(2)` is what every seccomp profile allows.
        init: [16, 16, 1],
        v1: [[2, 3, 0], [3, 3, 1]],
    },
    Group {
        work: "makes, copies and attaches mounts",
        calls: &[
            "open_tree",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "mount",
            "mount_setattr",
            "umount2",
            "pivot_root",
        ],
        host: [8, 8, 0],
        init: [65, 65, 0],
        v1: [[2, 2, 0], [3, 3, 0]],
    },
    Group {
        work: "makes processes and namespaces, and waits for ends",
        calls: &[
            "clone3",
            "execve",
            "execveat",
            "unshare",
            "setns",
            "exit_group",
            "waitid",
            "pidfd_open",
            "pidfd_send_signal",
        ],
        host: [3, 8, 9],
        init: [4, 4, 5],
        v1: NONE,
    },
    Group {
        work: "talks: the plan, the reports, and waiting for them",
        calls: &[
            "socketpair",
            "socket",
            "sendmsg",
            "recvmsg",
            "ppoll",
            "poll",
            "eventfd2",
            "memfd_create",
        ],
        host: [10, 16, 20],
        init: [4, 4, 3],
        v1: NONE,
    },
    Group {
        work: "signals: each one's default, since what is ignored outlives exec; those of a thread",
        calls: &["rt_sigaction", "rt_sigprocmask", "sigaltstack", "signalfd4"],
        // One call of the program: with SIGCHLD ignored by the caller, statuses would be lost.
        host: [10, 23, 13],
        init: [63, 63, 63],
        v1: NONE,
    },
    Group {
        work: "ids, rights and limits: a call for each capability that goes",
        calls: &[
            "prctl",
            "capget",
            "capset",
            "setgroups",
            "setresgid",
            "setresuid",
            "setrlimit",
            "prlimit64",
            "setsid",
            "umask",
            "keyctl",
            "seccomp",
            "bpf",
            "sethostname",
            "chdir",
            "fchdir",
            "getegid",
            "geteuid",
            "getpid",
            "gettid",
        ],
        host: [3, 13, 7],
        init: [62, 62, 58],
        v1: NONE,
    },
    Group {
        work: "memory and threads, of the C library and the language",
        calls: &[
            "brk",
            "mmap",
            "munmap",
            "mprotect",
            "madvise",
            "mremap",
            "arch_prctl",
            "rseq",
            "set_robust_list",
            "set_tid_address",
            "sched_getaffinity",
            "getrandom",
            "exit",
        ],
        host: [12, 34, 20],
        init: [2, 2, 1],
        v1: NONE,
    },
];

/// How often threads wait for each other depends on which of them comes first.
const UNCOUNTED: &str = "futex";

/// The fewest calls of so many starts count: an allocator whose lock is taken makes a new arena,
/// and a wait that is cut short is made again.
const STARTS: usize = 3;

/// What of /proc is looked at until the program begins, and why it cannot be done without.
const PROC: [(&str, &str); 11] = [
    ("host openat /proc/PID/stat", "when a process began tells it from a later one of its number"),
    (
        "host openat /proc/sys/kernel/random/boot_id",
        "and that counts from the boot; once a process",
    ),
    ("host statx /proc/self/ns/user", "whether this is the first user namespace; once a process"),
    ("host openat /proc/self/fdinfo/PID", "the number of a process that the init forked"),
    ("host readlink /proc/PID/ns/user", "a namespace that the container may share with the caller"),
    ("host readlink /proc/self/ns/user", "the same"),
    ("host readlink /proc/PID/ns/time", "the same"),
    ("host readlink /proc/self/ns/time", "the same"),
    ("host openat /proc/thread-self/ns/net", "a network namespace that is made beside the clone"),
    ("host openat /proc/self/mountinfo", "where cgroups of version 1 are mounted"),
    ("host openat /proc/self/cgroup", "and the caller's own among them"),
];

/// What the C library and the language do before the program begins.
const RUNTIME: [&str; 2] = ["host readlink /proc/self/exe", "host openat /proc/self/maps"];

/// Page faults of `pidone run` with its init. A debug build is not what anybody should count.
const FAULTS: u64 = if cfg!(debug_assertions) { 360 } else { 150 };

/// What the cgroups look like to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// As on the machine, with hierarchies of cgroup v1 among them.
    Hybrid,
    /// cgroup v2 alone.
    Unified,
}

impl View {
    fn all() -> impl Iterator<Item = Self> {
        let hybrid = Path::new("/sys/fs/cgroup/unified").exists();
        [Self::Unified].into_iter().chain(hybrid.then_some(Self::Hybrid))
    }

    /// The command in this view.
    fn command(self, command: Command) -> Command {
        if self == Self::Hybrid {
            return command;
        }
        let script = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && \"$@\"";
        let mut viewing = Command::new("unshare");
        viewing
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            viewing.current_dir(directory);
        }
        viewing.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        viewing
    }

    /// How many hierarchies of cgroup v1 a container has a cgroup in.
    fn hierarchies(self) -> usize {
        if self == Self::Unified {
            return 0;
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        own.lines().filter(|line| !line.starts_with("0::")).count()
    }
}

/// The bundle's configuration.
fn config(bench: &Bench) -> Value {
    let mut config = bench.config(&["true"]);
    let plain = json!(["nosuid", "noexec", "nodev"]);
    config["process"]["noNewPrivileges"] = json!(true);
    config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]);
    config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": plain},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": plain},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": plain},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ]);
    let linux = &mut config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
    linux["maskedPaths"] = json!(["/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware"]);
    linux["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]);
    linux["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot", "kexec_load"], "action": "SCMP_ACT_ERRNO"}],
    });
    linux["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    config
}

/// Runs a command of the runtime, and returns the system calls of its processes.
fn traced(bench: &Bench, view: View, line: &[&str]) -> String {
    trace(bench, view, &bench.command(line))
}

fn trace(bench: &Bench, view: View, command: &Command) -> String {
    let trace = bench.path("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-s", "128", "-o"])
        .arg(&trace)
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(bench.path(""));
    let mut strace = view.command(strace);
    strace.stdin(Stdio::null()).stdout(Stdio::null());
    let outcome = Call::start(&mut strace).finish();
    let said = outcome.stderr.clone();
    assert_eq!(outcome.code(), 0, "{said}");
    fs::read_to_string(trace).unwrap()
}

/// The variable that makes this program start a container of the library.
const ROLE: &str = "PIDONE_TEST_LIBRARY";
/// What the role prints before and after the start that counts.
const BEGIN: &str = "the start begins";
const END: &str = "the start is done";

/// Traces a start of the library, in a process that has started another one before.
fn library(bench: &Bench, view: View, strategy: &str) -> String {
    let bundle = bench.bundle(&config(bench));
    let mut command = bench.command(&[]);
    command.args(["--bundle", &bundle, "--strategy", strategy]);
    let mut role = Command::new(std::env::current_exe().unwrap());
    role.env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env(ROLE, "1")
        .args(command.get_args());
    let text = trace(bench, view, &role);
    let begin = text.rfind(BEGIN).expect("the beginning is marked");
    let end = text.rfind(END).expect("the end is marked");
    let line = text[begin..].find('\n').unwrap();
    let last = text[..end].rfind('\n').unwrap();
    text[begin + line + 1..=last].to_owned()
}

/// Starts containers if this process was started for that.
pub(crate) fn play() -> Option<ExitCode> {
    std::env::var_os(ROLE)?;
    let arguments: Vec<String> = std::env::args().collect();
    let [_, _, states, _, bundle, _, strategy] = arguments.as_slice() else { return None };
    let strategy = if strategy == "template" { Strategy::Template } else { Strategy::Host };
    let factory = Factory::new(states, Options::default().strategy(strategy)).unwrap();
    let bundle = oci::Bundle::open(bundle).unwrap();
    let config = bundle.config().unwrap();
    let say = |what: &str| rustix::io::write(rustix::stdio::stdout(), what.as_bytes()).unwrap();
    for _ in 0..2 {
        let process = bundle.process().unwrap();
        say(BEGIN);
        let mut container = factory.create("box", &config).unwrap();
        let mut running = container.start(&process).unwrap();
        say(END);
        assert_eq!(running.wait().unwrap().status(), 0);
        container.destroy().unwrap();
    }
    Some(ExitCode::SUCCESS)
}

/// What the processes of a start did.
#[derive(Default)]
struct Counts {
    /// How often which call was made, by the host and by the init.
    calls: [BTreeMap<String, usize>; 2],
    /// What was looked at below /proc.
    proc: BTreeSet<String>,
}

impl Counts {
    /// Counts up to where the program of the container begins.
    fn of(trace: &str) -> Self {
        let lines = || trace.lines().filter_map(|line| line.split_once(' '));
        let first = lines().next().map_or("", |(thread, _)| thread);
        // Threads of the host execute nothing; it is the others that do.
        let executes = |call: &str| call.starts_with("execve");
        let inits: BTreeSet<&str> = lines()
            .filter(|(thread, call)| *thread != first && executes(call.trim_start()))
            .map(|(thread, _)| thread)
            .collect();
        let mut counts = Self::default();
        let mut gone = BTreeSet::new();
        for (thread, call) in lines() {
            let call = call.trim_start();
            let Some((name, arguments)) = call.split_once('(') else { continue };
            // Signals, ends, and second halves of calls that were counted.
            if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                continue;
            }
            let is_init = inits.contains(thread);
            // A debug build looks whether a descriptor is open before it closes it.
            if gone.contains(thread) || arguments.contains("F_GETFD") {
                continue;
            }
            if is_init && name == "execve" {
                gone.insert(thread);
            }
            *counts.calls[usize::from(is_init)].entry(name.to_owned()).or_default() += 1;
            let mut quoted = arguments.split('"');
            let path = quoted.nth(1).filter(|path| path.starts_with("/proc/"));
            // In the container's own tree, and not in the host's.
            if let Some(path) =
                path.filter(|_| !arguments.contains("O_PATH") && name != "symlinkat")
            {
                let number = |part: &str| !part.is_empty() && part.parse::<u32>().is_ok();
                let parts = path.split('/').map(|part| if number(part) { "PID" } else { part });
                let who = if is_init { "init" } else { "host" };
                let path = parts.collect::<Vec<_>>().join("/");
                counts.proc.insert(format!("{who} {name} {path}"));
            }
        }
        counts
    }
}

/// Compares what a start does with what is allowed.
fn check(view: View, start: Start, trace: impl Fn() -> String) {
    let mut said = String::new();
    for _ in 0..STARTS {
        said = compare(&trace(), view, start);
        if !said.contains("MORE") {
            return;
        }
    }
    panic!("{start:?} with {view:?} cgroups:\n{said}");
}

/// The calls of a start beside those allowed, with `MORE` where they are not.
fn compare(trace: &str, view: View, start: Start) -> String {
    let mut counts = Counts::of(trace);
    let mut said = Vec::new();
    for group in &GROUPS {
        let sides = [("host", group.host, group.v1[0]), ("init", group.init, group.v1[1])];
        for (calls, (who, allowed, each)) in counts.calls.iter_mut().zip(sides) {
            let made: usize = group.calls.iter().filter_map(|call| calls.remove(*call)).sum();
            let most = allowed[start as usize] + each[start as usize] * view.hierarchies();
            let mark = if made > most { "MORE" } else { "" };
            said.push(format!("{who} {made:3} of {most:3} {mark:4} {}", group.work));
        }
    }
    for (who, rest) in ["host", "init"].iter().zip(&counts.calls) {
        let rest = rest.iter().filter(|(call, _)| *call != UNCOUNTED);
        said.extend(rest.map(|(call, made)| format!("{who} {made:3} of   0 MORE {call}")));
    }
    let known: Vec<&str> = PROC.iter().map(|(look, _)| *look).chain(RUNTIME).collect();
    let unknown = counts.proc.iter().filter(|look| !known.contains(&look.as_str()));
    said.extend(unknown.map(|look| format!("MORE {look}")));
    said.join("\n")
}

/// The page faults of a `pidone run`, and of what it started.
fn faults(bench: &Bench, bundle: &str) -> u64 {
    let mut command = bench.command(&["run", "-b", bundle, "box"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Ended, and not yet reaped: its numbers can still be read.
    let pid = Pid::from_child(&child);
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    assert!(child.wait().unwrap().success());
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    // proc_pid_stat(5): minflt is the tenth field and cminflt the one after it.
    behind_name.split_whitespace().skip(7).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}
