//! How the time of a start grows with the lists in its configuration.

use std::fs;
use std::time::{Duration, Instant};

use pidone_tests::{Bench, Case};
use serde_json::{Value, json};

use crate::bench_case as case;

pub(crate) const CASES: &[Case<Bench>] = &[case("large_lists_take_linear_time", &[], large_lists)];

/// The shortest of three runs, for the machine may be busy.
fn shortest(bench: &Bench, config: &Value, printed: &str) -> Duration {
    let bundle = bench.bundle(config);
    let run = || {
        let begin = Instant::now();
        assert_eq!(bench.run(&["run", "-b", &bundle, "x"]).ok(), printed);
        begin.elapsed()
    };
    (0..3).map(|_| run()).min().unwrap()
}

fn large_lists(bench: &Bench) {
    let environment = |count: usize| {
        let mut config = bench.config(&["sh", "-c", "echo $N9"]);
        let all: Vec<String> = (0..count).map(|n| format!("N{n}=v{n}")).collect();
        config["process"]["env"] = json!([all, vec!["PATH=/bin".to_owned()]].concat());
        config
    };
    let masks = |count: usize| {
        let mut config = bench.config(&["sh", "-c", "echo v9"]);
        fs::create_dir_all(bench.path("rootfs/m")).unwrap();
        let all: Vec<String> = (0..count).map(|n| format!("/m/f{n}")).collect();
        for path in &all {
            fs::write(bench.path("rootfs").join(&path[1..]), "").unwrap();
        }
        config["linux"]["maskedPaths"] = json!(all);
        config
    };
    let mounts = |count: usize| {
        let mut config = bench.config(&["sh", "-c", "echo v9"]);
        let file = bench.write("file", "");
        for n in 0..count {
            let mount = json!({
                "destination": format!("/tmp/m{n}"), "source": file, "options": ["bind", "ro"],
            });
            config["mounts"].as_array_mut().unwrap().push(mount);
        }
        config
    };
    let check = |name, count, config: &dyn Fn(usize) -> Value| {
        let few = shortest(bench, &config(count / 8), "v9\n");
        let many = shortest(bench, &config(count), "v9\n");
        // With quadratic time it would be 64 times.
        let bound = few * 24 + Duration::from_millis(200);
        assert!(many < bound, "{name}: {few:?} for {}, {many:?} for {count}", count / 8);
    };
    check("environment", 10_000, &environment);
    check("masks", 1000, &masks);
    check("mounts", 1000, &mounts);
}
