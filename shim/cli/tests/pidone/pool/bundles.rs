//! A service with several bundles.

use std::fs;

use serde_json::{Value, json};

use super::{Client, Service, status};
use crate::{Case, case};
use pidone_tests::{Bench, eventually};

pub(crate) const CASES: &[Case] = &[
    case("a_pool_has_several_bundles", &[], has_several_bundles),
    case("a_pool_may_have_a_bundle_without_a_name", &[], may_have_one_without_a_name),
    case("unknown_bundles_of_a_pool_are_refused", &[], refuses_unknown_ones),
    case("wrong_bundles_of_a_pool_are_refused", &[], refuses_wrong_lines),
];

/// Writes a bundle with this host name, and returns its directory. `parent` is that of its cgroups.
fn bundle(bench: &Bench, name: &str, parent: &str) -> String {
    let script = "echo $(hostname) $FROM; cat /proc/self/cgroup";
    let mut config = bench.config(&["sh", "-c", script]);
    config["hostname"] = json!(name);
    config["process"]["env"][1] = json!(format!("FROM={name}"));
    config["linux"]["cgroupsPath"] = json!(format!("{parent}/one"));
    bench.mkdir(&format!("bundles/{name}"));
    bench.write(&format!("bundles/{name}/config.json"), config.to_string());
    bench.text(&format!("bundles/{name}"))
}

/// Runs a program, and returns the first line of its output.
#[track_caller]
fn first_line(bench: &Bench, options: &[&str], program: &[&str]) -> String {
    let output = bench.run(&[&["pool", "run"], options, &["pool", "--"], program].concat()).ok();
    output.lines().next().unwrap_or_default().to_owned()
}

fn has_several_bundles(bench: &Bench) {
    // One has its cgroups below those of the other, in directories that the service makes.
    let top = format!("/{}", bench.cgroup());
    let web = format!("web={}", bundle(bench, "web", &top));
    let db = format!("db={}", bundle(bench, "db", &format!("{top}/below")));
    let options =
        ["--bundle", &web, "--bundle", &db, "--size", "1", "--size", "db=3", "--low", "db=2"];
    let service = Service::serve(bench, &options);
    let now = status(bench).unwrap();
    assert_eq!((&now["size"], &now["ready"], &now["low"]), (&json!(4), &json!(4), &json!(3)));
    for (name, size, low) in [("web", 1, 1), ("db", 3, 2)] {
        let one = &now["bundles"][name];
        assert_eq!((&one["size"], &one["low"]), (&json!(size), &json!(low)), "{now}");
        assert_eq!(one["ready"], size, "{now}");
    }
    // A run has the namespaces, the process and the root of its bundle.
    for name in ["web", "db", "web"] {
        let ready = || status(bench).is_some_and(|now| now["bundles"][name]["ready"] != 0);
        assert!(eventually(ready));
        assert_eq!(first_line(bench, &["--bundle", name], &[]), format!("{name} {name}"));
    }
    let now = status(bench).unwrap();
    assert_eq!(
        (&now["bundles"]["web"]["warm"], &now["bundles"]["db"]["warm"]),
        (&json!(2), &json!(1))
    );
    assert_eq!((&now["warm"], &now["cold"]), (&json!(3), &json!(0)));
    // The further programs of a container have the settings of its bundle.
    for name in ["web", "db"] {
        let mut client = Client::new(bench);
        let request = json!({ "run": { "bundle": name, "args": ["sleep", "60"] } });
        client.say(&format!("{request}\n"));
        let id = client.answer().unwrap()["started"]["id"].as_str().unwrap().to_owned();
        let now = status(bench).unwrap();
        assert_eq!(
            (&now["running"], &now["bundles"][name]["running"]),
            (&json!([id]), &json!([id]))
        );
        let line = ["pool", "exec", "pool", &id, "sh", "-c", "echo $(hostname) $FROM"];
        assert_eq!(bench.run(&line).ok(), format!("{name} {name}\n"));
        let text = bench.run(&["pool", "metrics", "pool"]).ok();
        for line in [
            format!("pidone_pool_running{{bundle=\"{name}\"}} 1"),
            "pidone_pool_size{bundle=\"web\"} 1".to_owned(),
            "pidone_pool_size{bundle=\"db\"} 3".to_owned(),
        ] {
            assert!(text.lines().any(|each| each == line), "no `{line}` in:\n{text}");
        }
        assert_eq!(text.matches("# TYPE pidone_pool_size ").count(), 1);
        client.say("{\"signal\":9}\n");
        assert!(client.answer().unwrap()["exited"].is_object());
        assert!(eventually(|| status(bench).unwrap()["running"] == json!([])));
    }
    let starts = |name: &str| {
        let bundle = status(bench).unwrap()["bundles"][name].take();
        bundle["warm"].as_u64().unwrap() + bundle["cold"].as_u64().unwrap()
    };
    let before = ["web", "db"].map(starts);
    let line = ["pool", "load", "-n", "4", "--json", "--bundle", "db", "pool", "--", "true"];
    let load: Value = serde_json::from_str(&bench.run(&line).ok()).unwrap();
    assert_eq!((&load["containers"], &load["failed"]), (&json!(4), &json!(0)), "{load}");
    assert_eq!(["web", "db"].map(starts), [before[0], before[1] + 4]);
    bench.run(&["pool", "drain", "pool"]).ok();
    assert_eq!(service.0.finish().ok(), "");
}

fn may_have_one_without_a_name(bench: &Bench) {
    let top = format!("/{}", bench.cgroup());
    let web = format!("web={}", bundle(bench, "web", &top));
    let plain = bundle(bench, "plain", &top);
    let service = Service::serve(bench, &["--size", "1", "--bundle", &web, "--bundle", &plain]);
    assert_eq!(first_line(bench, &[], &[]), "plain plain");
    assert_eq!(first_line(bench, &["-b", "web"], &[]), "web web");
    let text = bench.run(&["pool", "metrics", "pool"]).ok();
    for line in ["pidone_pool_size 1", "pidone_pool_size{bundle=\"web\"} 1"] {
        assert!(text.lines().any(|each| each == line), "no `{line}` in:\n{text}");
    }
    service.end();
}

fn refuses_unknown_ones(bench: &Bench) {
    let top = format!("/{}", bench.cgroup());
    let web = format!("web={}", bundle(bench, "web", &top));
    let service = Service::serve(bench, &["--size", "1", "--bundle", &web]);
    for name in ["db", "", "we", "../web", "web "] {
        let error = bench.run(&["pool", "run", "--bundle", name, "pool", "--", "true"]).error(125);
        assert!(error.contains("the service has none of this name"), "{name}: {error}");
        assert!(!error.replace(&format!("= {name}`"), "").contains("web"), "{name}: {error}");
    }
    let error = bench.run(&["pool", "run", "pool", "--", "true"]).error(125);
    assert!(error.contains("bundle") && error.contains("none without a name"), "{error}");
    assert!(!error.contains("web"), "{error}");
    // A further program is in the bundle of its container.
    let mut client = Client::new(bench);
    client.say("{\"exec\":{\"id\":\"x\",\"bundle\":\"web\",\"args\":[\"true\"]}}\n");
    let answer = client.answer().unwrap();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("of a request to run"), "{message}");
    // The control.
    assert_eq!(first_line(bench, &["--bundle", "web"], &[]), "web web");
    service.end();
}

fn refuses_wrong_lines(bench: &Bench) {
    let top = format!("/{}", bench.cgroup());
    let web = bundle(bench, "web", &top);
    let named = format!("web={web}");
    for (options, said) in [
        (&["--bundle", &named, "--bundle", &named][..], "two bundles have this name"),
        (&["--bundle", &web, "--bundle", &web], "two bundles have no name"),
        (&["--bundle", &named, "--size", "db=3"], "no bundle has this name"),
        (&["--bundle", &named, "--low", "db=3"], "no bundle has this name"),
        (&["--bundle", &named, "--size", "web=x"], "must be a number"),
        (&["--bundle", &named, "--size", "web=2000"], "must be from 1 to 1024"),
        (&["--bundle", &named, "--low", "9", "--size", "8"], "must be from 1 to the size"),
        (&["--bundle", "web="], "names no directory"),
        (&["--bundle", &named, "--bundle", "db=/no/such"], "/no/such"),
    ] {
        let line = [&["pool", "serve"], options, &["pool"]].concat();
        let error = bench.run(&line).error(1);
        assert!(error.contains(said), "{options:?}: {error}");
    }
    // A directory whose name has a `=`, which is no name of a bundle.
    fs::rename(&web, bench.path("a=b")).unwrap();
    let service = Service::serve(bench, &["--size", "1", "--bundle", &bench.text("a=b")]);
    assert_eq!(first_line(bench, &[], &[]), "web web");
    service.end();
}
