//! Limits, which are properties of the unit and values of its cgroup.
//!
//! These need controllers of cgroup v2: machines whose controllers are in hierarchies of cgroup v1
//! lack them.

use pidone_tests::Stop;
use pidone_tests::systemd::Tenant;
use serde_json::{Value, json};

use crate::{Case, ROOT, RUNC};

pub(crate) const CASES: &[Case] = &[
    Case::new("limits_are_properties", limits_are_properties).ways(ROOT),
    Case::new("an_update_changes_the_properties", an_update_changes_the_properties).ways(ROOT),
    Case::new("the_values_of_a_limit", the_values_of_a_limit).ways(RUNC),
    Case::new("an_update_keeps_the_devices", an_update_keeps_the_devices).ways(RUNC),
];

/// Stops where cgroup v2 lacks the controllers.
fn controllers(tenant: &Tenant) -> Result<(), Stop> {
    let present = tenant.host().controllers();
    for wanted in ["cpu", "memory", "pids"] {
        if !present.iter().any(|name| name == wanted) {
            return Err(Stop::Unable(format!("cgroup v2 lacks the controller {wanted}")));
        }
    }
    Ok(())
}

/// `--memory 64m --memory-swap 128m --memory-reservation 32m --cpus 0.555 --cpu-shares 512
/// --pids-limit 50`.
fn resources() -> Value {
    json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": { "limit": 67_108_864, "swap": 134_217_728, "reservation": 33_554_432 },
        "cpu": { "shares": 512, "quota": 55_500, "period": 100_000 },
        "pids": { "limit": 50 },
    })
}

/// Expects properties of the unit.
#[track_caller]
fn expect(tenant: &Tenant, unit: &str, rows: &[(&str, &str)]) {
    let found = tenant.unit(unit);
    let got: Vec<(&str, &str)> = rows
        .iter()
        .map(|&(name, _)| (name, found.get(name).map_or("(none)", String::as_str)))
        .collect();
    assert_eq!(got, rows);
}

/// Expects values of the files of the container's cgroup, or of one above it that is the unit's.
#[track_caller]
fn expect_values(tenant: &Tenant, rows: &[(&str, &str)]) {
    let cgroup = tenant.cgroup_of(tenant.name());
    let cgroup = cgroup.strip_suffix("/container").unwrap_or(&cgroup);
    let directory = tenant.host().cgroup(cgroup);
    for (file, wanted) in rows {
        let found = std::fs::read_to_string(directory.join(file));
        assert_eq!(found.as_deref().map(str::trim).ok(), Some(*wanted), "{file}");
    }
}

fn limits_are_properties(tenant: &Tenant) -> Result<(), Stop> {
    controllers(tenant)?;
    let (place, unit) = tenant.place("c");
    let mut config = tenant.config(&place);
    config["linux"]["resources"] = resources();
    tenant.start(tenant.name(), &config);
    expect(
        tenant,
        &unit,
        &[
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("CPUQuotaPerSecUSec", "560ms"),
            ("CPUQuotaPeriodUSec", "100ms"),
            ("TasksMax", "50"),
            ("Delegate", "yes"),
        ],
    );
    expect_values(
        tenant,
        &[("memory.max", "67108864"), ("memory.low", "33554432"), ("pids.max", "50")],
    );
    if tenant.runtime().name() != "crun" {
        expect(tenant, &unit, &[("MemorySwapMax", "67108864"), ("CPUWeight", "59")]);
        expect_values(tenant, &[("memory.swap.max", "67108864"), ("cpu.weight", "59")]);
        expect_values(tenant, &[("cpu.max", "56000 100000")]);
    }
    // A manager that reads its files again gives the cgroup the same limits.
    tenant.host().systemctl(tenant.user(), &["daemon-reload"]).ok();
    expect_values(tenant, &[("memory.max", "67108864"), ("pids.max", "50")]);
    tenant.delete(tenant.name());
    Ok(())
}

fn an_update_changes_the_properties(tenant: &Tenant) -> Result<(), Stop> {
    controllers(tenant)?;
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let mut config = tenant.config(&place);
    config["linux"]["resources"] = resources();
    tenant.start(id, &config);
    let file = tenant.write(
        "bundle/resources.json",
        json!({
            "memory": { "limit": 100_663_296, "swap": 201_326_592 },
            "cpu": { "quota": 20_000, "period": 50_000 },
            "pids": { "limit": 60 },
        })
        .to_string(),
    );
    tenant.run(&["update", "--resources", &file, id]).ok();
    expect(
        tenant,
        &unit,
        &[
            ("MemoryMax", "100663296"),
            ("CPUQuotaPerSecUSec", "400ms"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("TasksMax", "60"),
            ("MemoryLow", "33554432"),
        ],
    );
    let values = &[("memory.max", "100663296"), ("cpu.max", "20000 50000"), ("pids.max", "60")];
    expect_values(tenant, values);
    tenant.host().systemctl(tenant.user(), &["daemon-reload"]).ok();
    expect_values(tenant, values);
    tenant.delete(id);
    Ok(())
}

/// What is special about a value.
fn the_values_of_a_limit(tenant: &Tenant) -> Result<(), Stop> {
    controllers(tenant)?;
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    for (resources, properties, values) in [
        (json!({ "pids": { "limit": -1 } }), ("TasksMax", "infinity"), ("pids.max", "max")),
        (json!({ "memory": { "limit": -1 } }), ("MemoryMax", "infinity"), ("memory.max", "max")),
        (
            json!({ "unified": { "memory.high": "50331648" } }),
            ("MemoryHigh", "50331648"),
            ("memory.high", "50331648"),
        ),
        (
            json!({ "unified": { "memory.min": "16777216" } }),
            ("MemoryMin", "16777216"),
            ("memory.min", "16777216"),
        ),
        (json!({ "unified": { "cpu.weight": "77" } }), ("CPUWeight", "77"), ("cpu.weight", "77")),
        (
            json!({ "unified": { "memory.swap.max": "33554432" } }),
            ("MemorySwapMax", "33554432"),
            ("memory.swap.max", "33554432"),
        ),
        (json!({ "unified": { "pids.max": "44" } }), ("TasksMax", "44"), ("pids.max", "44")),
        (
            json!({ "cpu": { "quota": 50_000, "period": 100_000 } }),
            ("CPUQuotaPerSecUSec", "500ms"),
            ("cpu.max", "50000 100000"),
        ),
        (
            json!({ "cpu": { "quota": -1, "period": 100_000 } }),
            ("CPUQuotaPerSecUSec", "infinity"),
            ("cpu.max", "max 100000"),
        ),
    ] {
        let mut config = tenant.config(&place);
        config["linux"]["resources"] = resources;
        tenant.create(id, &config);
        expect(tenant, &unit, &[properties]);
        expect_values(tenant, &[values]);
        tenant.delete(id);
    }
    Ok(())
}

/// An update without rules leaves those of the unit.
fn an_update_keeps_the_devices(tenant: &Tenant) -> Result<(), Stop> {
    controllers(tenant)?;
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    let before = tenant.unit(&unit)["DeviceAllow"].clone();
    tenant.run(&["update", "--pids-limit", "40", id]).ok();
    expect(
        tenant,
        &unit,
        &[("DevicePolicy", "strict"), ("DeviceAllow", &before), ("TasksMax", "40")],
    );
    let script = "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem";
    assert_ne!(tenant.run(&["exec", id, "sh", "-c", script]).code(), 0);
    let script = "mknod /tmp/zero c 1 5 && head -c 1 /tmp/zero";
    tenant.run(&["exec", id, "sh", "-c", script]).ok();
    tenant.delete(id);
    Ok(())
}
