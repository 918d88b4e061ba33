//! `pidone pool run` and `load`: programs in the containers of a pool.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Client, Service, run, status};
use crate::{Case, case};
use pidone_tests::leftover::viewers;
use pidone_tests::{Bench, Call, eventually};

pub(crate) const CASES: &[Case] = &[
    case("pool_run_uses_a_ready_container", &[], lends_containers),
    case("pool_passes_signals_on", &[], passes_signals_on),
    case("pool_kills_a_program_whose_time_is_over", &[], kills_when_time_is_over),
    case("pool_run_has_limits_of_its_own", &[], limits_one_run),
    case("pool_keeps_writes_apart", &[], keeps_writes_apart),
    case("pool_has_many_clients", &[], has_many_clients),
];

fn lends_containers(bench: &Bench) {
    let service = Service::start(bench, "3");
    assert_eq!(bench.run(&["pool", "run", "pool"]).ok(), "from the bundle\n");
    let mut echo = bench.command(&["pool", "run", "pool", "--", "sh", "-c", "cat; echo no >&2"]);
    let input = fs::File::open(bench.path("bundle/config.json")).unwrap();
    let outcome = bench.finish(echo.stdin(input));
    assert_eq!(outcome.stdout, fs::read_to_string(bench.path("bundle/config.json")).unwrap());
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, "no\n"));
    assert_eq!(run(bench, &["sh", "-c", "exit 7"]).code(), 7);
    let missing = run(bench, &["/no/such"]).error(127);
    assert_eq!(missing, "exec: \"/no/such\": no such file or directory");
    assert!(run(bench, &["/etc"]).error(126).contains("permission denied"));
    let options = ["--env", "FROM=client", "--cwd", "/bin", "--user", "5:6"];
    let program = ["sh", "-c", "echo $FROM $PATH; echo $PWD; id"];
    let line = [&["pool", "run"], &options[..], &["pool", "--"], &program].concat();
    let said = bench.run(&line).ok();
    assert_eq!(said, "client /bin\n/bin\nuid=5 gid=6\n");
    // Nothing of the service is inside.
    let open = run(bench, &["ls", "/proc/self/fd"]).ok();
    assert_eq!(open.lines().count(), 4, "{open}");
    let status = status(bench).unwrap();
    assert!(status["warm"].as_u64().unwrap() >= 3, "{status}");
    service.end();
    let gone = bench.run(&["pool", "run", "pool"]).error(125);
    assert!(gone.contains("pool/socket") && gone.contains("no service is there"), "{gone}");
}

fn passes_signals_on(bench: &Bench) {
    let service = Service::start(bench, "1");
    let trap = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    for (program, signal, code) in [
        (["sh", "-c", trap], Signal::TERM, 3),
        // One that knows nothing of being process 1.
        (["sh", "-c", "echo ready; exec sleep 60"], Signal::INT, 130),
    ] {
        let out = bench.path("out");
        let mut command = bench.command(&[&["pool", "run", "pool", "--"], &program[..]].concat());
        let client = Call::start(command.stdout(fs::File::create(&out).unwrap()));
        assert!(eventually(|| fs::read_to_string(&out).unwrap() == "ready\n"));
        // And what the shell executes.
        let name = program[2].rsplit("exec ").next().unwrap();
        assert!(eventually(|| viewers(&bench.text("")).iter().any(|line| line.contains(name))));
        client.signal(signal);
        assert_eq!(client.finish().code(), code);
    }
    service.end();
}

fn kills_when_time_is_over(bench: &Bench) {
    let service = Service::start(bench, "1");
    let mut client = Client::new(bench);
    client.say("{\"run\":{\"args\":[\"sleep\",\"60\"],\"timeout\":0.05}}\n");
    client.answer().unwrap();
    let exited = client.answer().unwrap()["exited"].take();
    assert_eq!((&exited["timed_out"], &exited["status"]), (&json!(true), &json!(137)));
    let line = ["pool", "run", "--timeout", "0.05", "pool", "--", "sleep", "60"];
    let outcome = bench.run(&line);
    assert_eq!(outcome.code(), 137);
    assert!(outcome.stderr.contains("its time is over"), "{outcome:?}");
    // One that ends in time is as ever.
    let line = ["pool", "run", "--timeout", "600", "pool", "--", "sh", "-c", "echo in time"];
    assert_eq!(bench.run(&line).ok(), "in time\n");
    for wrong in ["0", "-1", "1e999"] {
        let mut client = Client::new(bench);
        client.say(&format!("{{\"run\":{{\"timeout\":{wrong}}}}}\n"));
        assert!(client.answer().unwrap()["error"]["message"].is_string(), "{wrong}");
    }
    service.end();
}

fn limits_one_run(bench: &Bench) {
    let service = Service::start(bench, "1");
    // A fork bomb of six, and a list that grows.
    let forks = "for n in 1 2 3 4 5 6; do sleep 0.2 & done; wait; echo all";
    let line = ["pool", "run", "--pids", "4", "pool", "--", "sh", "-c", forks];
    let outcome = bench.run(&line);
    assert!(outcome.stderr.contains("fork"), "{outcome:?}");
    let grows = "head -c 100000000 /dev/zero | tail -c 100000000 | wc -c; echo end";
    let line = ["pool", "run", "--memory", "16m", "pool", "--", "sh", "-c", grows];
    let outcome = bench.run(&line);
    assert!(outcome.stderr.contains("out of memory"), "{outcome:?}");
    // Without limits both pass, in the next containers.
    assert_eq!(run(bench, &["sh", "-c", forks]).ok(), "all\n");
    assert_eq!(run(bench, &["sh", "-c", grows]).ok(), "100000000\nend\n");
    assert!(status(bench).unwrap()["warm"].as_u64().unwrap() > 0);
    service.end();
}

/// The root of the bundle is writable, and stays as it is.
fn keeps_writes_apart(bench: &Bench) {
    let script = "test -e /left && echo found; echo x > /left && echo written";
    let mut config = bench.config(&["sh", "-c", script]);
    config["root"]["readonly"] = json!(false);
    let service = Service::of(bench, "1", &[], config.clone());
    for _ in 0..3 {
        assert_eq!(run(bench, &["sh", "-c", script]).ok(), "written\n");
    }
    service.end();
    // The control: another container of the bundle writes to the root itself.
    let bundle = bench.bundle(&config);
    for said in ["written\n", "found\nwritten\n"] {
        assert_eq!(bench.run(&["run", "--bundle", &bundle, "plain"]).ok(), said);
    }
}

fn has_many_clients(bench: &Bench) {
    let service = Service::start(bench, "8");
    let clients: Vec<Call> = (0..64)
        .map(|number| {
            let program = format!("echo {number}");
            let line = ["pool", "run", "pool", "--", "sh", "-c", &program];
            Call::start(&mut bench.command(&line))
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(client.finish().ok(), format!("{number}\n"));
    }
    let line = ["pool", "load", "-n", "100", "-p", "64", "--json", "pool", "--", "true"];
    let load: Value = serde_json::from_str(&bench.run(&line).ok()).unwrap();
    assert_eq!((&load["containers"], &load["failed"]), (&json!(100), &json!(0)), "{load}");
    assert!(load["started"]["p50"].as_u64().unwrap() <= load["ended"]["max"].as_u64().unwrap());
    let text = bench.run(&["pool", "load", "-n", "3", "pool", "--", "true"]).ok();
    assert!(text.starts_with("3 containers in ") && text.contains("started  p50 "), "{text}");
    let wrong = bench.run(&["pool", "load", "-n", "2", "pool", "--", "/no/such"]);
    assert!(wrong.stdout.starts_with("0 containers") && wrong.stdout.contains("2 failed"));
    assert_eq!(wrong.code(), 1);
    service.end();
}
