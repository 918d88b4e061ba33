//! Commands that are killed, or whose system calls fail, at one point after another.
//!
//! strace(1) lists the calls that a command makes, and then spoils one of them at a time. Not part
//! of a plain `cargo test`: `cargo test --test sweep`. Needs root, busybox and strace(1).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use pidone_tests::leftover::{CGROUPS, find};
use pidone_tests::{Bench, Call, Caller, Case, Need, eventually};

const CASES: &[Case<Bench>] = &[
    case("fault_killed_in_create", |bench| killed(bench, Verb::Create, 7)),
    case("fault_killed_in_start", |bench| killed(bench, Verb::Start, 11)),
    case("fault_killed_in_run", |bench| killed(bench, Verb::Run, 13)),
    case("fault_killed_in_exec", |bench| killed(bench, Verb::Exec, 13)),
    case("fault_killed_in_delete", |bench| killed(bench, Verb::Delete, 19)),
    case("fault_errors_in_create", |bench| failing(bench, Verb::Create, 5)),
    case("fault_errors_in_start", |bench| failing(bench, Verb::Start, 7)),
    case("fault_errors_in_exec", |bench| failing(bench, Verb::Exec, 7)),
    case("fault_errors_in_delete", |bench| failing(bench, Verb::Delete, 17)),
];

const fn case(name: &'static str, run: fn(&Bench)) -> Case<Bench> {
    const ROOT: &[Caller] = &[Caller::root(env!("CARGO_BIN_EXE_pidone")).with_bundles()];
    Case::panicking(name, run).needs(&[Need::Strace]).ways(ROOT)
}

fn main() -> ExitCode {
    pidone_tests::main(&[CASES])
}

/// How many commands are watched at once.
const WORKERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Create,
    Start,
    Run,
    Exec,
    Delete,
}

/// A call of a command: its name, and the how manieth of that name it is.
type Point = (String, usize);

/// A container of a worker.
struct Ground<'a> {
    bench: &'a Bench,
    id: String,
    cgroup: String,
    bundle: String,
}

impl<'a> Ground<'a> {
    fn new(bench: &'a Bench, worker: usize) -> Self {
        let (id, cgroup) = (format!("w{worker}"), format!("{}w{worker}", bench.cgroup()));
        let mut config = bench.staying();
        config["linux"]["cgroupsPath"] = json!(format!("/{cgroup}/below"));
        fs::create_dir(bench.path(&id)).unwrap();
        bench.write(&format!("{id}/config.json"), config.to_string());
        Self { bench, cgroup, bundle: bench.text(&id), id }
    }

    /// Brings the container to where the verb begins.
    fn prepare(&self, verb: Verb) {
        if matches!(verb, Verb::Start | Verb::Exec | Verb::Delete) {
            self.quietly(&["create", "-b", &self.bundle, &self.id], "create");
        }
        if matches!(verb, Verb::Exec | Verb::Delete) {
            self.quietly(&["start", &self.id], "start");
        }
    }

    fn quietly(&self, line: &[&str], what: &str) {
        let mut command = self.bench.command(line);
        let said = self.bench.path(&format!("{}.{what}", self.id));
        command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap());
        let code = Call::start(&mut command).finish().code();
        let said = fs::read_to_string(said).unwrap();
        assert_eq!((code, said.as_str()), (0, ""), "{line:?}");
    }

    /// The verb under strace with these options; its status and what it said.
    fn traced(&self, verb: Verb, options: &[&str]) -> (i32, String) {
        let id = &*self.id;
        let line = match verb {
            Verb::Create => vec!["create", "-b", &self.bundle, id],
            Verb::Run => vec!["run", "--detach", "-b", &self.bundle, id],
            Verb::Start => vec!["start", id],
            Verb::Exec => vec!["exec", id, "true"],
            Verb::Delete => vec!["delete", "--force", id],
        };
        let said = self.bench.path(&format!("{id}.said"));
        let own = self.bench.command(&line);
        let mut command = Command::new("strace");
        command
            .args(["-qq", "-o", &self.trace()])
            .args(options)
            .arg(own.get_program())
            .args(own.get_args())
            .env_clear()
            .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.bench.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap());
        let code = Call::start(&mut command).finish().code();
        (code, fs::read_to_string(said).unwrap())
    }

    fn trace(&self) -> String {
        self.bench.text(&format!("{}.trace", self.id))
    }

    /// Whether there is nothing of the container.
    fn is_gone(&self) -> bool {
        !self.bench.path("state").join(&self.id).exists()
            && find(Path::new(CGROUPS), 2, &self.cgroup).is_none()
    }

    /// Removes the container, which must be possible.
    #[track_caller]
    fn delete(&self, after: &str) {
        let (code, said) = {
            let outcome = self.bench.run(&["delete", "--force", &self.id]);
            (outcome.code(), outcome.stderr)
        };
        assert_eq!((code, said.as_str()), (0, ""), "delete behind {after}");
        let cgroup = || find(Path::new(CGROUPS), 2, &self.cgroup);
        assert!(self.is_gone(), "left behind {after}: {:?}", cgroup());
    }

    /// Every so manieth call that the verb makes. On a busy machine it looks more often whether
    /// something has ended, which does not come again: the fewest calls of some runs count.
    fn points(&self, verb: Verb, step: usize) -> Vec<Point> {
        let fewest = (0..3).map(|_| self.calls(verb)).min_by_key(Vec::len);
        fewest.into_iter().flatten().step_by(step).collect()
    }

    /// The calls that the verb makes.
    fn calls(&self, verb: Verb) -> Vec<Point> {
        self.prepare(verb);
        let (code, said) = self.traced(verb, &[]);
        assert_eq!(code, 0, "{said}");
        let text = fs::read_to_string(self.trace()).unwrap();
        self.delete("nothing");
        let mut counts = BTreeMap::new();
        let calls = text.lines().filter_map(|line| line.split_once('('));
        let points = calls.map(|(name, _)| {
            let count = counts.entry(name.to_owned()).or_insert(0);
            *count += 1;
            (name.to_owned(), *count)
        });
        let all: Vec<Point> = points.filter(|(name, _)| name != "execve").collect();
        assert!(all.len() > 100, "{text}");
        all
    }
}

/// Does something at every point, by several at once.
fn sweep(bench: &Bench, points: &[Point], at: impl Fn(&Ground<'_>, usize, &Point) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let (next, at) = (&next, &at);
            scope.spawn(move || {
                let ground = Ground::new(bench, worker);
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(point) = points.get(index)
                {
                    at(&ground, index, point);
                }
            });
        }
    });
}

/// The command is killed: afterwards `delete --force` leaves nothing, and the id is free.
fn killed(bench: &Bench, verb: Verb, step: usize) {
    let points = Ground::new(bench, 0).points(verb, step);
    let kills = AtomicUsize::new(0);
    sweep(bench, &points, |ground, _, (name, count)| {
        let after = format!("SIGKILL in {verb:?} at {name} {count}");
        ground.prepare(verb);
        let inject = format!("inject={name}:signal=KILL:when={count}");
        let (code, said) = ground.traced(verb, &["-e", &inject]);
        // The order of some calls depends on the moment: not every one comes again.
        assert!(code == 137 || code == 0, "{after}: {code} {said}");
        kills.fetch_add(usize::from(code == 137), Ordering::Relaxed);
        ground.delete(&after);
    });
    let kills = kills.into_inner();
    assert!(kills * 4 > points.len() * 3, "{kills} of {} points were reached", points.len());
}

/// Calls whose failure the program sees, rather than the runtime of its language.
const CALLS: [&str; 21] = [
    "clone3",
    "flock",
    "fstatfs",
    "mkdirat",
    "mkdir",
    "newfstatat",
    "openat",
    "openat2",
    "pidfd_open",
    "poll",
    "ppoll",
    "pread64",
    "read",
    "readlink",
    "recvmsg",
    "renameat",
    "sendmsg",
    "socketpair",
    "statfs",
    "unlinkat",
    "write",
];

/// A call fails: the command reports it, or does without. A container that was not made has left
/// nothing.
fn failing(bench: &Bench, verb: Verb, step: usize) {
    const ERRORS: [&str; 4] = ["EMFILE", "ENOMEM", "EIO", "EINTR"];
    let mut points = Ground::new(bench, 0).points(verb, 1);
    points.retain(|(name, _)| CALLS.contains(&name.as_str()));
    let points: Vec<Point> = points.into_iter().step_by(step).collect();
    let failures = AtomicUsize::new(0);
    sweep(bench, &points, |ground, index, (name, count)| {
        let error = ERRORS[index % ERRORS.len()];
        let after = format!("{error} in {verb:?} at {name} {count}");
        ground.prepare(verb);
        let inject = format!("inject={name}:error={error}:when={count}");
        let (code, said) = ground.traced(verb, &["-e", &inject]);
        assert!([0, 1, 255].contains(&code), "{after}: {code} {said}");
        assert!(said.lines().count() <= 1 && !said.contains("panicked"), "{after}: {said}");
        assert_eq!(code == 0, said.is_empty(), "{after}: {code} {said}");
        failures.fetch_add(usize::from(code != 0), Ordering::Relaxed);
        if verb == Verb::Create && code != 0 {
            assert!(eventually(|| ground.is_gone()), "left behind {after}: {said}");
        }
        ground.delete(&after);
    });
    let failures = failures.into_inner();
    assert!(failures * 4 > points.len(), "{failures} of {} calls mattered", points.len());
}
