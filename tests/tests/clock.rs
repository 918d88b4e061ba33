//! The clocks of a time namespace.

use std::collections::BTreeMap;
use std::fs;

use pidone::Config;
use pidone::config::{IdMap, NamespaceType, TimeOffset};
use pidone_tests::{Case, Outcome, Read, Sandbox, Stop, case, need, output, process};

pub(crate) const CASES: &[Case] = &[
    case!(clocks_are_set_off),
    case!(clocks_are_set_off_in_a_user_namespace),
    case!(a_namespace_without_offsets),
    case!(the_namespace_of_the_host_without_a_request),
    case!(a_prepared_container_has_its_clocks),
];

const DAY: i64 = 86400;

fn config(sandbox: &Sandbox) -> Result<Config, Stop> {
    need::file("/proc/self/timens_offsets")?;
    let mut config = sandbox.config();
    config.set_namespace(NamespaceType::Time, "");
    Ok(config)
}

fn offsets() -> BTreeMap<String, TimeOffset> {
    BTreeMap::from([
        ("monotonic".to_owned(), TimeOffset { secs: 5 * DAY, nanosecs: 1 }),
        ("boottime".to_owned(), TimeOffset { secs: 7 * DAY, nanosecs: 500_000_000 }),
    ])
}

fn seconds(uptime: &str) -> Option<f64> {
    uptime.split_whitespace().next()?.parse().ok()
}

/// The numbers of the clocks.
fn numbers(offsets: &str) -> Vec<(String, i64, i64)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        Some((name, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    offsets.lines().filter_map(line).collect()
}

fn uptime() -> Result<f64, Stop> {
    Ok(seconds(&fs::read_to_string("/proc/uptime")?).ok_or("no uptime")?)
}

const LOOK: [&str; 7] =
    ["/guest", "read", "/proc/self/timens_offsets", ",", "read", "/proc/uptime", ","];

/// Checks what the first process and a further one see. Returns the inode of the namespace.
fn check(
    sandbox: &Sandbox,
    config: &Config,
    expected: &[(&str, i64, i64)],
    ahead: i64,
) -> Result<u64, Stop> {
    let first = [LOOK.as_slice(), &["report", ",", "sleep"]].concat();
    let mut live = sandbox.start(config, process(&first))?;
    let (offsets, inside): (Read, Read) = (live.say()?, live.say()?);
    let report: pidone_tests::Report = live.say()?;
    let mut running =
        sandbox.join(&mut live.container, process(&[LOOK.as_slice(), &["report"]].concat()))?;
    let said = output(&mut running)?.stdout;
    let mut lines = said.lines();
    let mut next = || lines.next().ok_or("said nothing");
    let (further_offsets, further_inside): (Read, Read) =
        (serde_json::from_str(next()?)?, serde_json::from_str(next()?)?);
    let further: pidone_tests::Report = serde_json::from_str(next()?)?;
    live.kill()?;
    assert_eq!(report.namespaces, further.namespaces);
    let expected: Vec<_> =
        expected.iter().map(|&(name, secs, nanos)| (name.to_owned(), secs, nanos)).collect();
    let host = uptime()?;
    for (offsets, inside) in [(offsets, inside), (further_offsets, further_inside)] {
        assert_eq!(numbers(&offsets.text), expected);
        let inside = seconds(&inside.text).ok_or("no uptime")?;
        #[expect(clippy::cast_precision_loss, reason = "days in seconds")]
        let difference = inside - host - ahead as f64;
        assert!(difference.abs() < 30.0, "{inside} inside, {host} outside");
    }
    Ok(*report.namespaces.get("time").ok_or("no time namespace")?)
}

fn host_namespace() -> Result<u64, Stop> {
    Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata("/proc/self/ns/time")?))
}

const SET_OFF: [(&str, i64, i64); 2] =
    [("monotonic", 5 * DAY, 1), ("boottime", 7 * DAY, 500_000_000)];

fn clocks_are_set_off(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox)?;
    config.time_offsets = offsets();
    assert_ne!(check(sandbox, &config, &SET_OFF, 7 * DAY)?, host_namespace()?);
    Ok(())
}

fn clocks_are_set_off_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox)?;
    config.time_offsets = offsets();
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
    assert_ne!(check(sandbox, &config, &SET_OFF, 7 * DAY)?, host_namespace()?);
    Ok(())
}

fn a_namespace_without_offsets(sandbox: &Sandbox) -> Outcome {
    let config = config(sandbox)?;
    let none = [("monotonic", 0, 0), ("boottime", 0, 0)];
    assert_ne!(check(sandbox, &config, &none, 0)?, host_namespace()?);
    Ok(())
}

fn the_namespace_of_the_host_without_a_request(sandbox: &Sandbox) -> Outcome {
    config(sandbox)?;
    let report = sandbox.report(&sandbox.config())?;
    assert_eq!(report.namespaces.get("time"), Some(&host_namespace()?));
    Ok(())
}

/// Its first process enters the namespace only at exec; a process that joins before must be in it
/// too.
fn a_prepared_container_has_its_clocks(sandbox: &Sandbox) -> Outcome {
    let mut config = config(sandbox)?;
    config.time_offsets = offsets();
    let look = [LOOK.as_slice(), &["sleep"]].concat();
    let mut live = sandbox.prepare(&config, process(&look))?;
    let mut running = sandbox.join(&mut live.container, process(&LOOK[..6]))?;
    let said: Vec<Read> = output(&mut running)?.lines()?;
    let mut live = live.release()?;
    let first: [Read; 2] = [live.say()?, live.say()?];
    live.kill()?;
    let host = uptime()?;
    for read in [&first[1], &said[1]] {
        let inside = seconds(&read.text).ok_or("no uptime")?;
        assert!(inside - host > 6.0 * 86400.0, "{inside} inside, {host} outside");
    }
    Ok(())
}
