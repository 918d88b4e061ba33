//! `pidone pool`: the service and its clients, good and bad.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{Case, case};
use pidone_tests::leftover::viewers;
use pidone_tests::need::NOBODY;
use pidone_tests::{Bench, Call, DEADLINE, eventually};

pub(crate) const CASES: &[Case] = &[
    case("pool_run_uses_a_ready_container", &[], lends_containers),
    case("pool_passes_signals_on", &[], passes_signals_on),
    case("pool_ends_with_its_clients", &[], ends_with_its_clients),
    case("pool_ends_what_runs", &[], ends_what_runs),
    case("pool_drains", &[], drains),
    case("pool_kills_a_program_whose_time_is_over", &[], kills_when_time_is_over),
    case("pool_run_has_limits_of_its_own", &[], limits_one_run),
    case("pool_sends_output_over_the_socket", &[], sends_output),
    case("pool_has_metrics", &[], has_metrics),
    case("pool_runs_further_programs", &[], execs),
    case("pool_sends_the_master_of_a_terminal", &[], has_terminals),
    case("pool_has_a_period_of_grace", &[], has_a_period_of_grace),
    case("pool_serves_half_closed_clients", &[], serves_half_closed_clients),
    case("pool_keeps_writes_apart", &[], keeps_writes_apart),
    case("pool_refuses_bad_clients", &[], refuses_bad_clients),
    case("pool_speaks_json", &[], speaks_json),
    case("a_pool_refuses_other_users", &[], is_its_owners_alone),
    case("pool_has_many_clients", &[], has_many_clients),
    case("pool_leaves_no_descriptors", &[], leaves_no_descriptors),
    case("a_killed_pools_containers_are_removed", &[], killed_is_swept),
];

/// A service, at the directory `pool`.
struct Service(Call);

impl Service {
    #[track_caller]
    fn start(bench: &Bench, size: &str) -> Self {
        Self::with(bench, size, &[])
    }

    /// Starts it with further options.
    #[track_caller]
    fn with(bench: &Bench, size: &str, options: &[&str]) -> Self {
        Self::of(bench, size, options, bench.config(&["sh", "-c", "echo from the bundle"]))
    }

    /// Starts it with a bundle of this configuration.
    #[track_caller]
    fn of(bench: &Bench, size: &str, options: &[&str], mut config: Value) -> Self {
        config["linux"]["cgroupsPath"] = json!(format!("/{}/one", bench.cgroup()));
        let bundle = bench.bundle(&config);
        let line = ["pool", "serve", "--size", size, "--bundle", &bundle];
        let line = [&line[..], options, &["pool"]].concat();
        let service = Self(Call::start(&mut bench.command(&line)));
        let ready = || status(bench).is_some_and(|status| status["ready"] == status["size"]);
        assert!(eventually(ready), "{:?}", status(bench));
        service
    }

    /// Ends it, by a signal.
    #[track_caller]
    fn end(self) {
        self.0.signal(Signal::TERM);
        assert_eq!(self.0.finish().ok(), "");
    }
}

/// What the pool has; `None` as long as there is no service.
fn status(bench: &Bench) -> Option<Value> {
    let outcome = bench.run(&["pool", "status", "pool"]);
    serde_json::from_str(&outcome.stdout).ok()
}

#[track_caller]
fn run(bench: &Bench, program: &[&str]) -> pidone_tests::Finished {
    bench.run(&[&["pool", "run", "pool", "--"], program].concat())
}

/// A client of another make.
struct Client(BufReader<UnixStream>);

impl Client {
    fn new(bench: &Bench) -> Self {
        let stream = UnixStream::connect(bench.path("pool/socket")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; `None` at the end.
    fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            // Input that the service did not read is lost when another line follows.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) => panic!("{error}"),
        }
    }
}

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

/// A client that has closed its sending side gives no more orders, and gets the exit. One that has
/// gone altogether loses its program.
fn serves_half_closed_clients(bench: &Bench) {
    let service = Service::start(bench, "1");
    let mut client = Client::new(bench);
    client.say("{\"run\":{\"args\":[\"sh\",\"-c\",\"while ! test -e /tmp/go; do sleep 0.05; done; exit 3\"]}}\n");
    client.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    let pid = client.answer().unwrap()["started"]["pid"].as_i64().unwrap();
    fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
    assert_eq!(client.answer().unwrap()["exited"]["code"], 3);
    assert_eq!(client.answer(), None);
    let mut client = Client::new(bench);
    client.say("{\"run\":{\"args\":[\"sleep\",\"60\"]}}\n");
    client.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    let pid = client.answer().unwrap()["started"]["pid"].as_i64().unwrap();
    drop(client);
    assert!(eventually(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
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

fn sends_output(bench: &Bench) {
    let service = Service::start(bench, "1");
    let mut client = Client::new(bench);
    let script = "printf 'a\\377'; echo b >&2; exit 6";
    let request = json!({ "run": { "args": ["sh", "-c", script], "output": true } });
    client.say(&format!("{request}\n"));
    assert!(client.answer().unwrap()["started"].is_object());
    let mut outputs = [client.answer().unwrap(), client.answer().unwrap()];
    outputs.sort_by_key(|output| output["output"]["fd"].as_u64());
    assert_eq!(outputs[0]["output"], json!({ "fd": 1, "base64": "Yf8=" }));
    assert_eq!(outputs[1]["output"], json!({ "fd": 2, "base64": "Ygo=" }));
    assert_eq!(client.answer().unwrap()["exited"]["code"], 6);
    // More than pipes and sockets hold, with orders in between.
    let mut client = Client::new(bench);
    let script = "head -c 3000000 /dev/zero";
    let request = json!({ "run": { "args": ["sh", "-c", script], "output": true } });
    client.say(&format!("{request}\n{{\"signal\":0}}\n"));
    let (mut length, mut runs) = (0, 0);
    loop {
        let answer = client.answer().unwrap();
        length += answer["output"]["base64"].as_str().map_or(0, str::len);
        runs += usize::from(answer["running"].is_object());
        if answer["exited"].is_object() {
            break;
        }
    }
    assert!((4_000_000..4_200_000).contains(&length), "{length}");
    assert_eq!(runs, 1);
    service.end();
}

/// In a container of a running program only, and not in one that is ready for another client.
fn execs(bench: &Bench) {
    let service = Service::start(bench, "1");
    let mut first = Client::new(bench);
    let waits = "while ! test -e /tmp/go; do sleep 0.05; done; exit 3";
    first.say(&format!("{}\n", json!({ "run": { "args": ["sh", "-c", waits] } })));
    let id = first.answer().unwrap()["started"]["id"].as_str().unwrap().to_owned();
    let exec = |id: &str, args: &[&str]| {
        let mut client = Client::new(bench);
        let request = json!({ "exec": { "id": id, "args": args, "output": true, "timeout": 60 } });
        client.say(&format!("{request}\n"));
        client
    };
    let mut further = exec(&id, &["sh", "-c", "test $$ != 1 && echo in; exit 5"]);
    assert_eq!(further.answer().unwrap()["started"]["id"], id.as_str());
    assert_eq!(further.answer().unwrap()["output"], json!({ "fd": 1, "base64": "aW4K" }));
    assert_eq!(further.answer().unwrap()["exited"]["code"], 5);
    // It ends with its client.
    let mut leaves = exec(&id, &["sleep", "60"]);
    let pid = leaves.answer().unwrap()["started"]["pid"].as_i64().unwrap();
    drop(leaves);
    assert!(eventually(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    // And with the container.
    let mut stays = exec(&id, &["sleep", "60"]);
    stays.answer().unwrap();
    assert!(eventually(|| status(bench).is_some_and(|status| status["ready"] == 1)));
    let listed = bench.run(&["list", "--quiet"]).ok();
    let ready: Vec<&str> =
        listed.lines().filter(|other| other.starts_with("pool-") && *other != id).collect();
    assert!(!ready.is_empty(), "{listed}");
    for other in ready.into_iter().chain(["no-such", "../x"]) {
        let answer = exec(other, &["true"]).answer().unwrap();
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(message.contains("no client has a program"), "{message}");
    }
    let mut goes = exec(&id, &["sh", "-c", "echo > /tmp/go"]);
    assert!(goes.answer().unwrap()["started"].is_object());
    assert_eq!(first.answer().unwrap()["exited"]["code"], 3);
    assert_eq!(stays.answer().unwrap()["exited"]["signal"], 9);
    service.end();
}

fn has_terminals(bench: &Bench) {
    let service = Service::start(bench, "1");
    let mut client = Client::new(bench);
    let script = "test -t 0 && stty size; exit 4";
    let request = json!({ "run": { "args": ["sh", "-c", script], "terminal": [33, 99] } });
    client.say(&format!("{request}\n"));
    let mut bytes = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut parts = [rustix::io::IoSliceMut::new(&mut bytes)];
    let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(client.0.get_ref(), &mut parts, &mut ancillary, flags).unwrap();
    let master = ancillary.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let mut said = String::new();
    // The end of a terminal is an error.
    let _ = fs::File::from(master.unwrap()).read_to_string(&mut said);
    assert_eq!(said.trim_end(), "33 99");
    assert_eq!(client.answer().unwrap()["exited"]["code"], 4);
    service.end();
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

fn refuses_bad_clients(bench: &Bench) {
    let service = Service::start(bench, "1");
    let long = "x".repeat(2 << 20);
    let deep = "[".repeat(200_000);
    let many = format!("{{\"run\":{{\"args\":[\"{}\"]}}}}", "a".repeat(200_000));
    for (request, reason) in [
        ("nonsense", "request: expected"),
        ("", "request: EOF"),
        ("{\"run\":{\"arg\":[]}}", "unknown field `arg`"),
        ("{\"walk\":{}}", "unknown variant `walk`"),
        (&deep, "request: expected value"),
        (&many, "args"),
        ("{\"run\":{\"args\":[\"true\\u0000\"]}}", "NUL"),
        ("{\"run\":{\"user\":\"nobody-here\"}}", "no such user"),
    ] {
        let mut client = Client::new(bench);
        client.say(&format!("{request}\n"));
        let answer = client.answer().unwrap();
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(message.contains(reason), "{message}");
        assert_eq!(client.answer(), None);
    }
    // One that floods may not even come to read why.
    let mut flood = Client::new(bench);
    let _ = flood.0.get_mut().write_all(long.as_bytes());
    while flood.answer().is_some() {}
    // An order that is wrong while its program runs is answered, and kills nothing.
    let mut liar = Client::new(bench);
    liar.say("{\"run\":{\"args\":[\"sleep\",\"60\"]}}\n");
    assert!(liar.answer().unwrap()["started"]["pid"].as_i64().unwrap() > 1);
    for (order, reason) in [
        ("{\"signal\":\"NONE\"}", "no such signal"),
        ("{\"signal\":65}", "must be from 0 to 64"),
        ("{\"signal\":[15]}", "must be a name or a number"),
        ("{\"sginal\":\"KILL\"}", "unknown variant"),
        ("{\"signal\":\"KILL\"", "EOF"),
        ("", "EOF"),
    ] {
        liar.say(&format!("{order}\n"));
        let answer = liar.answer().unwrap();
        let error = &answer["error"];
        assert!(error["message"].as_str().unwrap().contains(reason), "{order}: {answer}");
        assert_eq!((&error["status"], &error["running"]), (&json!(125), &json!(true)));
        liar.say("{\"signal\":0}\n");
        assert_eq!(liar.answer().unwrap(), json!({ "running": {} }), "{order}");
    }
    for zero in ["0", "\"0\""] {
        liar.say(&format!("{{\"signal\":{zero}}}\n"));
        assert_eq!(liar.answer().unwrap(), json!({ "running": {} }));
    }
    liar.say("{\"signal\":9}\n");
    let exited = liar.answer().unwrap()["exited"].take();
    assert_eq!((&exited["status"], &exited["signal"]), (&json!(137), &json!(9)));
    // One that says nothing holds nobody up, nor do many.
    let silent: Vec<Client> = (0..40).map(|_| Client::new(bench)).collect();
    assert_eq!(bench.run(&["pool", "run", "pool"]).ok(), "from the bundle\n");
    drop(silent);
    service.end();
}

fn speaks_json(bench: &Bench) {
    let service = Service::start(bench, "1");
    let mut client = Client::new(bench);
    let (mut output, theirs) = UnixStream::pair().unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    let request = b"{\"run\":{\"args\":[\"sh\",\"-c\",\"echo $FROM; exit 4\"]}}\n";
    let files = [null.as_fd(), theirs.as_fd(), theirs.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    let message = [rustix::io::IoSlice::new(request)];
    sendmsg(client.0.get_ref(), &message, &mut ancillary, SendFlags::empty()).unwrap();
    drop(theirs);
    let started = client.answer().unwrap();
    assert_eq!(started["started"]["warm"], true, "{started}");
    assert!(started["started"]["id"].as_str().unwrap().starts_with("pool-"), "{started}");
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "bundle\n");
    let mut exited = client.answer().unwrap();
    let usage = exited["exited"]["usage"].take();
    let names: Vec<&str> = usage.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["max_rss_kib", "system_us", "user_us"]);
    assert!(usage["max_rss_kib"].as_u64().unwrap() > 0, "{usage}");
    let rest = json!({ "status": 4, "code": 4, "signal": null, "timed_out": false, "oom_kills": 0,
        "usage": null });
    assert_eq!(exited["exited"], rest);
    assert_eq!(client.answer(), None);
    // Two descriptors are not stdio.
    let mut client = Client::new(bench);
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [null.as_fd(); 2];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(client.0.get_ref(), &message, &mut ancillary, SendFlags::empty()).unwrap();
    let answer = client.answer().unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("descriptors"), "{answer}");
    service.end();
}

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
