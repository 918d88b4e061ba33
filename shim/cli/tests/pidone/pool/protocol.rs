//! The lines of JSON between the service and clients of any make, good and bad.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;

use super::{Client, Service, status};
use crate::{Case, case};
use pidone_tests::{Bench, eventually};

pub(crate) const CASES: &[Case] = &[
    case("pool_speaks_json", &[], speaks_json),
    case("pool_sends_output_over_the_socket", &[], sends_output),
    case("pool_sends_the_master_of_a_terminal", &[], has_terminals),
    case("pool_runs_further_programs", &[], execs),
    case("pool_refuses_bad_clients", &[], refuses_bad_clients),
];

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
