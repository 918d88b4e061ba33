//! The counters of a pool in Prometheus' text format, version 0.0.4.

use pidone::pool::Status;

/// Returns the counters, each with its description. `running` is the number of programs that run.
pub(super) fn metrics(status: &Status, running: usize) -> String {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("ready", "gauge", "Containers that are ready.", count(status.ready)),
        ("making", "gauge", "Containers that are being created.", count(status.making)),
        ("size", "gauge", "Containers that are ready after a refill.", count(status.size)),
        ("low", "gauge", "A refill begins when fewer are ready.", count(status.low)),
        ("running", "gauge", "Containers whose programs run.", count(running)),
        ("ended", "gauge", "Used containers that are not removed yet.", count(status.ended)),
        ("warm_starts_total", "counter", "Programs started in ready containers.", status.warm),
        ("cold_starts_total", "counter", "Programs started in new containers.", status.cold),
        ("discarded_total", "counter", "Ready containers that were discarded.", status.discarded),
        (
            "failing",
            "gauge",
            "1 if the last container could not be created or removed.",
            status.error.is_some().into(),
        ),
    ] {
        let name = format!("pidone_pool_{name}");
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    text
}
