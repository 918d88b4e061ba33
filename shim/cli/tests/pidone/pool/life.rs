//! The service from its start to its end, and what it reports.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Client, Service, run, status};
use crate::{Case, case};
use pidone_tests::need::NOBODY;
use pidone_tests::{Bench, Call, eventually};

pub(crate) const CASES: &[Case] = &[
    case("a_pool_refuses_other_users", &[], is_its_owners_alone),
    case("pool_ends_with_its_clients", &[], ends_with_its_clients),
    case("pool_ends_what_runs", &[], ends_what_runs),
    case("pool_has_a_period_of_grace", &[], has_a_period_of_grace),
    case("pool_drains", &[], drains),
    case("pool_has_metrics", &[], has_metrics),
    case("pool_leaves_no_descriptors", &[], leaves_no_descriptors),
    case("a_killed_pools_containers_are_removed", &[], killed_is_swept),
];

fn is_its_owners_alone(bench: &Bench) {
    let bundle = bench.bundle(&bench.config(&["true"]));
    let serve =
        |directory: &str| bench.run(&["pool", "serve", "--bundle", &bundle, directory]).error(1);
    fs::create_dir(bench.path("open")).unwrap();
    fs::set_permissions(bench.path("open"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(serve("open").contains("must be 0700"), "open");
    fs::create_dir(bench.path("theirs")).unwrap();
    fs::set_permissions(bench.path("theirs"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(bench.path("theirs"), Some(NOBODY), None).unwrap();
    assert!(serve("theirs").contains("belongs to another user"), "theirs");
    std::os::unix::fs::symlink("open", bench.path("link")).unwrap();
    assert!(serve("link").contains("open `link`"), "link");

    let service = Service::start(bench, "1");
    assert!(serve("pool").contains("another service is there"), "twice");
    let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("pool"), mode("pool/socket")), (0o700, 0o600));
    // Even where the directory and the socket let somebody else in, the service does not.
    let all = |name: &str, mode| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["", "pool", "pool/socket"] {
        all(name, 0o777);
    }
    let mut stranger = bench.command(&["pool", "status", "pool"]);
    let outcome = bench.finish(stranger.uid(NOBODY));
    let refused = outcome.error(1);
    assert!(refused.contains("the service is another user's"), "{refused}");
    all("", 0o700);
    service.end();
}

fn ends_with_its_clients(bench: &Bench) {
    let service = Service::start(bench, "1");
    let out = bench.path("out");
    let mut command =
        bench.command(&["pool", "run", "pool", "--", "sh", "-c", "echo $$; sleep 60"]);
    let client = Call::start(command.stdout(fs::File::create(&out).unwrap()));
    assert!(eventually(|| fs::read_to_string(&out).unwrap() == "1\n"));
    client.signal(Signal::KILL);
    assert_eq!(client.finish().code(), 137);
    let idle = || {
        let listed = bench.run(&["list", "--format", "json"]).ok();
        let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
        let running = listed.as_array().into_iter().flatten();
        running.filter(|one| one["status"] == "running").count() == 1
    };
    assert!(eventually(idle), "{:?}", bench.run(&["list"]));
    service.end();
}

fn ends_what_runs(bench: &Bench) {
    let service = Service::with(bench, "1", &["--grace", "0"]);
    let mut command =
        bench.command(&["pool", "run", "pool", "--", "sh", "-c", "echo on; sleep 60"]);
    let out = bench.path("out");
    let client = Call::start(command.stdout(fs::File::create(&out).unwrap()));
    assert!(eventually(|| fs::read_to_string(&out).unwrap() == "on\n"));
    service.end();
    let outcome = client.finish();
    assert_eq!(outcome.code(), 125);
    assert!(outcome.stderr.contains("the service ends"), "{outcome:?}");
}

/// After SIGTERM no more programs are started, and those that run have time to exit. A second
/// signal ends them.
fn has_a_period_of_grace(bench: &Bench) {
    for finishes in [true, false] {
        let service = Service::with(bench, "1", &["--grace", "600"]);
        let mut client = Client::new(bench);
        client.say("{\"run\":{\"args\":[\"sh\",\"-c\",\"while ! test -e /tmp/go; do sleep 0.05; done; exit 3\"]}}\n");
        let pid = client.answer().unwrap()["started"]["pid"].as_i64().unwrap();
        service.0.signal(Signal::TERM);
        assert!(eventually(|| !bench.path("pool/socket").exists()));
        client.say("{\"signal\":0}\n");
        assert_eq!(client.answer().unwrap(), json!({ "running": {} }));
        if finishes {
            fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
            assert_eq!(client.answer().unwrap()["exited"]["code"], 3);
            assert_eq!(service.0.finish().ok(), "");
        } else {
            service.end();
            let answer = client.answer().unwrap();
            assert!(answer["error"]["message"].as_str().unwrap().contains("the service ends"));
        }
    }
}

fn drains(bench: &Bench) {
    let service = Service::start(bench, "2");
    let (go, out) = (bench.path("go"), bench.path("out"));
    assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
    let mut command = bench.command(&["pool", "run", "pool", "--", "sh", "-c", "echo on; cat"]);
    let held = fs::OpenOptions::new().read(true).write(true).open(&go).unwrap();
    let input = fs::OpenOptions::new().read(true).open(&go).unwrap();
    let client = Call::start(command.stdin(input).stdout(fs::File::create(&out).unwrap()));
    drop(command);
    assert!(eventually(|| fs::read_to_string(&out).unwrap() == "on\n"));
    bench.run(&["pool", "drain", "pool"]).ok();
    assert!(eventually(|| bench.run(&["pool", "status", "pool"]).code() == 1));
    // What runs goes on, and then the service ends.
    drop(held);
    assert_eq!(client.finish().code(), 0);
    assert_eq!(service.0.finish().ok(), "");
}

fn has_metrics(bench: &Bench) {
    let service = Service::start(bench, "1");
    run(bench, &["true"]).ok();
    let text = bench.run(&["pool", "metrics", "pool"]).ok();
    for line in [
        "# TYPE pidone_pool_warm_starts_total counter",
        "pidone_pool_warm_starts_total 1",
        "pidone_pool_size 1",
        "pidone_pool_failing 0",
    ] {
        assert!(text.lines().any(|each| each == line), "no `{line}` in:\n{text}");
    }
    service.end();
}

fn leaves_no_descriptors(bench: &Bench) {
    let service = Service::start(bench, "2");
    let count = || fs::read_dir(format!("/proc/{}/fd", service.0.pid())).unwrap().count();
    let settled = || {
        status(bench).is_some_and(|status| {
            status["ended"] == 0 && status["ready"] == 2 && status["making"] == 0
        })
    };
    let round = || {
        bench.run(&["pool", "load", "-n", "20", "-p", "2", "pool", "--", "true"]).ok();
        assert!(eventually(|| run(bench, &["true"]).code() == 0 && settled()));
    };
    round();
    let first = count();
    round();
    round();
    assert!(eventually(|| count() <= first), "{first} to {}", count());
    service.end();
}

/// What a killed service leaves is removed by the next.
fn killed_is_swept(bench: &Bench) {
    let service = Service::start(bench, "3");
    let out = bench.path("out");
    let mut command =
        bench.command(&["pool", "run", "pool", "--", "sh", "-c", "echo on; sleep 60"]);
    let client = Call::start(command.stdout(fs::File::create(&out).unwrap()));
    assert!(eventually(|| fs::read_to_string(&out).unwrap() == "on\n"));
    service.0.signal(Signal::KILL);
    assert_eq!(service.0.finish().code(), 137);
    let outcome = client.finish();
    assert!(outcome.stderr.contains("the service has ended"), "{outcome:?}");
    let ids = |bench: &Bench| -> Vec<String> {
        bench.run(&["list", "--quiet"]).ok().lines().map(str::to_owned).collect()
    };
    let left = ids(bench);
    assert!(left.len() >= 3, "{left:?}");
    // Inits and programs have died with it.
    let running = || bench.run(&["list"]).ok().contains("running");
    assert!(eventually(|| !running()), "{:?}", bench.run(&["list"]));
    let service = Service::start(bench, "1");
    let now = ids(bench);
    assert!(left.iter().all(|id| !now.contains(id)), "{left:?} {now:?}");
    service.end();
}
