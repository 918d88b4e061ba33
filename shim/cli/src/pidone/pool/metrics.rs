//! The counters of the pools in Prometheus' text format, version 0.0.4.

use pidone::pool::Status;

/// A counter: its name, its type, its description, and its value by the status of a pool and the
/// number of its programs that run.
type Metric = (&'static str, &'static str, &'static str, fn(&Status, usize) -> u64);

const METRICS: [Metric; 10] = [
    ("ready", "gauge", "Containers that are ready.", |status, _| count(status.ready)),
    ("making", "gauge", "Containers that are being created.", |status, _| count(status.making)),
    ("size", "gauge", "Containers that are ready after a refill.", |status, _| count(status.size)),
    ("low", "gauge", "A refill begins when fewer are ready.", |status, _| count(status.low)),
    ("running", "gauge", "Containers whose programs run.", |_, running| count(running)),
    ("ended", "gauge", "Used containers that are not removed yet.", |status, _| {
        count(status.ended)
    }),
    ("warm_starts_total", "counter", "Programs started in ready containers.", |status, _| {
        status.warm
    }),
    ("cold_starts_total", "counter", "Programs started in new containers.", |status, _| {
        status.cold
    }),
    ("discarded_total", "counter", "Ready containers that were discarded.", |status, _| {
        status.discarded
    }),
    (
        "failing",
        "gauge",
        "1 if the last container could not be created or removed.",
        |status, _| status.error.is_some().into(),
    ),
];

/// Returns the counters, each with its description. `pools` has the name of each bundle, which is
/// the label `bundle` unless it is empty, the status of its pool, and the containers whose programs
/// run.
pub(super) fn metrics(pools: &[(&str, Status, Vec<String>)]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in METRICS {
        let name = format!("pidone_pool_{name}");
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (bundle, status, running) in pools {
            // The characters of a name need no escapes.
            let label = match bundle.is_empty() {
                true => String::new(),
                false => format!("{{bundle=\"{bundle}\"}}"),
            };
            text.push_str(&format!("{name}{label} {}\n", value(status, running.len())));
        }
    }
    text
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
