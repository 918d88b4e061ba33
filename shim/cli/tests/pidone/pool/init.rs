//! A service whose containers have an init.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Service, run, started, status};
use crate::{Case, case};
use pidone_tests::{Bench, Call, Need, Person, eventually};

pub(crate) const CASES: &[Case] = &[
    case("a_pools_programs_have_an_init", &[], programs_have_an_init),
    case("a_pools_inits_start_further_programs", &[Need::SETSID], inits_start_further_programs),
    case("a_pools_init_may_be_of_one_bundle", &[], init_may_be_of_one_bundle),
    case("inits_end_with_their_killed_pool", &[], inits_end_with_their_pool),
];

/// The name of process 1, and whether the program is another one.
const LOOKS: &str = "tr '\\0' ' ' < /proc/1/cmdline; echo; test $$ = 1; echo $?";

fn programs_have_an_init(bench: &Bench) {
    let service = Service::with(bench, "12", &["--init"]);
    let seen = run(bench, &["sh", "-c", LOOKS]).ok();
    assert!(seen.starts_with("pidone-init") && seen.ends_with("\n1\n"), "{seen}");
    assert_eq!(run(bench, &["sh", "-c", "exit 7"]).code(), 7);
    let missing = run(bench, &["/no/such"]).error(127);
    assert_eq!(missing, "exec: \"/no/such\": no such file or directory");
    assert!(run(bench, &["/etc"]).error(126).contains("permission denied"));
    let options = ["--env", "FROM=client", "--cwd", "/bin", "--user", "5:6", "--memory", "64m"];
    let program = ["sh", "-c", "echo $FROM $PATH; echo $PWD; id"];
    let line = [&["pool", "run"], &options[..], &["pool", "--"], &program].concat();
    assert_eq!(bench.run(&line).ok(), "client /bin\n/bin\nuid=5 gid=6\n");
    let open = run(bench, &["ls", "/proc/self/fd"]).ok();
    assert_eq!(open.lines().count(), 4, "{open}");
    // A program without a handler gets the signal, which it would not as process 1.
    let out = bench.path("out");
    let mut command =
        bench.command(&["pool", "run", "pool", "--", "sh", "-c", "echo on; exec sleep 60"]);
    let client = Call::start(command.stdout(fs::File::create(&out).unwrap()));
    assert!(eventually(|| fs::read_to_string(&out).unwrap() == "on\n"));
    client.signal(Signal::TERM);
    assert_eq!(client.finish().code(), 143);
    let line = ["pool", "run", "--timeout", "0.05", "pool", "--", "sleep", "60"];
    assert_eq!(bench.run(&line).code(), 137);
    let grows = "head -c 100000000 /dev/zero | tail -c 100000000 | wc -c; echo end";
    let line = ["pool", "run", "--memory", "16m", "pool", "--", "sh", "-c", grows];
    let outcome = bench.run(&line);
    assert!(outcome.stderr.contains("out of memory"), "{outcome:?}");
    let status = status(bench).unwrap();
    assert!(status["warm"].as_u64().unwrap() >= 5, "{status}");
    service.end();
}

fn inits_start_further_programs(bench: &Bench) {
    let service = Service::with(bench, "1", &["--init"]);
    let (mut first, id) = started(bench, &["sleep", "60"]);
    for _ in 0..2 {
        let line = ["pool", "exec", "pool", &id, "sh", "-c", "echo $PPID; exit 5"];
        let outcome = bench.run(&line);
        assert_eq!((outcome.stdout.as_str(), outcome.code()), ("1\n", 5), "{outcome:?}");
    }
    for line in [&["pool", "exec", "-t", "pool", &id][..], &["pool", "run", "-t", "pool"]] {
        let person = Person::new(24, 80);
        let script = "echo $PPID; tty; stty size; exit 6";
        let program = person.starts(bench, &[line, &["sh", "-c", script]].concat());
        assert_eq!(program.finish().code(), 6, "{}", person.seen());
        assert_eq!(person.seen(), "1\r\n/dev/pts/0\r\n24 80\r\n");
        assert!(person.is_cooked());
    }
    first.say("{\"signal\":\"TERM\"}\n");
    let exited = first.answer().unwrap()["exited"].take();
    assert_eq!(exited["status"], 143, "{exited}");
    service.end();
}

/// The annotation of a bundle has the same effect.
fn init_may_be_of_one_bundle(bench: &Bench) {
    let mut options = Vec::new();
    for (name, init) in [("plain", "false"), ("init", "true")] {
        let mut config = bench.config(&["sh", "-c", "test $$ = 1; echo $?"]);
        config["linux"]["cgroupsPath"] = json!(format!("/{}/one", bench.cgroup()));
        config["annotations"]["org.pidone.init"] = json!(init);
        bench.mkdir(&format!("bundles/{name}"));
        bench.write(&format!("bundles/{name}/config.json"), config.to_string());
        options.push(format!("--bundle={name}={}", bench.text(&format!("bundles/{name}"))));
    }
    let service = Service::serve(bench, &["--size", "1", &options[0], &options[1]]);
    for (name, seen) in [("plain", "0\n"), ("init", "1\n")] {
        assert_eq!(bench.run(&["pool", "run", "--bundle", name, "pool"]).ok(), seen);
    }
    let now = status(bench).unwrap();
    assert_eq!(now["warm"], 2, "{now}");
    service.end();
}

/// Those that wait, those that have a program, and the programs.
fn inits_end_with_their_pool(bench: &Bench) {
    let service = Service::with(bench, "2", &["--init"]);
    let (mut client, id) = started(bench, &["sleep", "60"]);
    let listed: Value =
        serde_json::from_str(&bench.run(&["list", "--format", "json"]).ok()).unwrap();
    let pids: Vec<i64> =
        listed.as_array().unwrap().iter().filter_map(|one| one["pid"].as_i64()).collect();
    assert!(pids.iter().filter(|pid| **pid > 0).count() >= 2, "{listed}");
    service.0.signal(Signal::KILL);
    assert_eq!(service.0.finish().code(), 137);
    assert_eq!(client.answer(), None);
    let runs = |pid: &i64| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        *pid > 0 && stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    assert!(eventually(|| !pids.iter().any(runs)), "{}", bench.run(&["list"]).ok());
    let service = Service::with(bench, "1", &["--init"]);
    assert!(!bench.run(&["list", "--quiet"]).ok().contains(&id));
    service.end();
}
