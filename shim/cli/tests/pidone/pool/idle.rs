//! Clients that are silent, slow, or have closed one direction of their connection.

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{Client, Service, run, started, status};
use crate::{Case, case};
use pidone_tests::{Bench, eventually};

pub(crate) const CASES: &[Case] = &[
    case("clients_of_a_pool_have_ten_seconds", &[], clients_have_ten_seconds),
    case("pool_serves_half_closed_clients", &[], serves_half_closed_clients),
    case("a_request_may_lack_the_end_of_its_line", &[], request_may_lack_the_end_of_its_line),
    case(
        "silent_clients_do_not_hold_up_the_end_of_a_pool",
        &[],
        silent_clients_do_not_hold_up_the_end,
    ),
];

/// How long a request may take to arrive, and a response to be read.
const TIMEOUT: Duration = Duration::from_secs(10);

/// All at once, since each of them takes that long.
fn clients_have_ten_seconds(bench: &Bench) {
    let service = Service::start(bench, "4");
    let begun = Instant::now();
    // While its program runs, a client may be silent as long as it likes.
    let (mut running, _) = started(bench, &["sleep", "600"]);
    let mut silent = Client::new(bench);
    // One that sends something all the time, but not the end of its line.
    let mut slow = Client::new(bench);
    // One that does not read what its program writes: more than a socket and pipes hold.
    let mut deaf = Client::new(bench);
    let script = "head -c 9000000 /dev/zero";
    let request = json!({ "run": { "args": ["sh", "-c", script], "output": true } });
    deaf.say(&format!("{request}\n"));
    let answer = deaf.answer().unwrap();
    let pid = answer["started"]["pid"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    let program = format!("/proc/{pid}");
    std::thread::scope(|scope| {
        let mut sender = slow.0.get_ref().try_clone().unwrap();
        scope.spawn(move || {
            sender.write_all(b"{\"run\":{").unwrap();
            // A pace, and no wait for anything, until the service hangs up.
            while sender.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // Meanwhile others are served.
        assert_eq!(run(bench, &["sh", "-c", "echo meanwhile"]).ok(), "meanwhile\n");
        assert!(Path::new(&program).exists());
        for client in [&mut silent, &mut slow] {
            let answer = client.answer().unwrap();
            let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
            assert!(message.contains("timed out"), "{message}");
            assert!(begun.elapsed() >= TIMEOUT, "{:?}", begun.elapsed());
            assert_eq!(client.answer(), None);
        }
    });
    assert!(eventually(|| !Path::new(&program).exists()));
    assert!(begun.elapsed() >= TIMEOUT, "{:?}", begun.elapsed());
    assert!(eventually(|| status(bench).unwrap()["running"].as_array().unwrap().len() == 1));
    running.say("{\"signal\":0}\n");
    assert_eq!(running.answer().unwrap(), json!({ "running": {} }));
    running.say("{\"signal\":9}\n");
    assert_eq!(running.answer().unwrap()["exited"]["signal"], 9);
    service.end();
}

/// A client that has closed its sending side gives no more orders, and gets the output and the
/// exit. One that has gone altogether loses its program.
fn serves_half_closed_clients(bench: &Bench) {
    let service = Service::start(bench, "1");
    let (mut first, id) = started(bench, &["sleep", "600"]);
    let script = "while ! test -e /tmp/go; do sleep 0.05; done; echo hello; exit 3";
    let requests = [
        json!({ "run": { "args": ["sh", "-c", script], "output": true } }),
        json!({ "exec": { "id": id, "args": ["sh", "-c", script], "output": true } }),
    ];
    for request in requests {
        let mut client = Client::new(bench);
        client.say(&format!("{request}\n{{\"signal\":0}}\n"));
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let pid = client.answer().unwrap()["started"]["pid"].as_i64().unwrap();
        // What it had said before still counts.
        assert_eq!(client.answer().unwrap(), json!({ "running": {} }));
        fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
        let output = client.answer().unwrap()["output"].take();
        assert_eq!(output, json!({ "fd": 1, "base64": "aGVsbG8K" }), "{request}");
        assert_eq!(client.answer().unwrap()["exited"]["code"], 3);
        assert_eq!(client.answer(), None);
    }
    let requests = [
        json!({ "run": { "args": ["sleep", "60"] } }),
        json!({ "exec": { "id": id, "args": ["sleep", "60"] } }),
    ];
    for request in requests {
        let mut client = Client::new(bench);
        client.say(&format!("{request}\n"));
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let pid = client.answer().unwrap()["started"]["pid"].as_i64().unwrap();
        drop(client);
        assert!(eventually(|| !Path::new(&format!("/proc/{pid}")).exists()));
    }
    // One that reads no more, but still gives orders, is as gone: its program has nobody to tell.
    first.0.get_ref().shutdown(Shutdown::Read).unwrap();
    first.say("{\"signal\":9}\n");
    assert!(eventually(|| status(bench).unwrap()["running"] == json!([])));
    service.end();
}

/// As `printf '{"status":{}}' | socat - UNIX:socket` sends it.
fn request_may_lack_the_end_of_its_line(bench: &Bench) {
    let service = Service::start(bench, "1");
    let ask = |text: &str| {
        let mut client = Client::new(bench);
        client.say(text);
        client.0.get_ref().shutdown(Shutdown::Write).unwrap();
        client
    };
    assert_eq!(ask("{\"status\":{}}").answer().unwrap()["status"]["size"], 1);
    let mut client = ask("{\"run\":{\"args\":[\"sh\",\"-c\",\"exit 4\"]}}");
    assert!(client.answer().unwrap()["started"].is_object());
    assert_eq!(client.answer().unwrap()["exited"]["code"], 4);
    // And the last order.
    let mut client = ask("{\"run\":{\"args\":[\"sleep\",\"60\"]}}\n{\"signal\":9}");
    assert!(client.answer().unwrap()["started"].is_object());
    assert_eq!(client.answer().unwrap()["exited"]["signal"], 9);
    // One that is not complete is wrong, and one without a request is none.
    let answer = ask("{\"run\":{\"args\":[\"sh\"").answer().unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("EOF"), "{answer}");
    assert_eq!(ask("").answer(), None);
    assert_eq!(status(bench).unwrap()["running"], json!([]));
    service.end();
}

fn silent_clients_do_not_hold_up_the_end(bench: &Bench) {
    let service = Service::with(bench, "1", &["--grace", "600"]);
    let (mut silent, mut half) = (Client::new(bench), Client::new(bench));
    half.say("{\"run\":{");
    // Both are served now: the service accepts clients in their order.
    assert!(status(bench).is_some());
    service.0.signal(Signal::TERM);
    for client in [&mut silent, &mut half] {
        let answer = client.answer().unwrap();
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(message.contains("the service ends"), "{message}");
        assert_eq!(client.answer(), None);
    }
    assert_eq!(service.0.finish().ok(), "");
}
