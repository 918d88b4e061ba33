//! The properties of the unit, without limits.

use std::collections::BTreeMap;

use pidone_tests::systemd::{Runtime, Tenant, User};
use pidone_tests::{Ground as _, Stop};

use crate::{ALL, Case, RUNC, RUNC_PERSON, case};

pub(crate) const CASES: &[Case] = &[
    case("the_scope_is_delegated_and_counted", ALL, the_scope_is_delegated_and_counted),
    case("all_properties_are_runcs", RUNC, all_properties_are_runcs),
    case("all_properties_are_runcs_for_a_user", RUNC_PERSON, all_properties_are_runcs),
];

fn the_scope_is_delegated_and_counted(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.create(id, &tenant.config(&place));
    let found = tenant.unit(&unit);
    for (name, wanted) in [
        ("LoadState", "loaded"),
        ("ActiveState", "active"),
        ("SubState", "running"),
        ("Transient", "yes"),
        ("Delegate", "yes"),
        ("CPUAccounting", "yes"),
        ("IOAccounting", "yes"),
        ("MemoryAccounting", "yes"),
        ("TasksAccounting", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive"),
        ("KillMode", "control-group"),
        ("MemoryMax", "infinity"),
    ] {
        // crun leaves this to the limits, and newer managers count everything.
        let skipped = name == "IOAccounting" && tenant.runtime().name() == "crun";
        if let Some(value) = found.get(name).filter(|_| !skipped) {
            assert_eq!(value, wanted, "{name}");
        }
    }
    let description = &found["Description"];
    let wanted = match tenant.runtime().name() {
        "runc" => "libcontainer container c".to_owned(),
        "crun" => "libcrun container".to_owned(),
        own => format!("{own} container c"),
    };
    assert_eq!(*description, wanted);
    let slice = if tenant.user() == User::Root { "system.slice" } else { "user.slice" };
    assert_eq!(found["Slice"], slice);
    tenant.delete(id);
}

/// Properties that differ between two containers of one runtime, or that say what it did to come
/// to the others.
const OTHERS: &[&str] = &[
    "CPUUsageNSec",
    "ControlGroupId",
    "Description",
    "InvocationID",
    "MemoryCurrent",
    "MemoryPeak",
    "EffectiveMemoryHigh",
    "EffectiveMemoryMax",
    "MemoryAvailable",
    "TasksCurrent",
    "IOReadBytes",
    "IOReadOperations",
    "IOWriteBytes",
    "IOWriteOperations",
    // Files of properties that a second message set, and that the manager has not read since.
    "DropInPaths",
    "NeedDaemonReload",
];

/// Those of a container of this runtime, without those that differ each time.
fn properties(tenant: &Tenant) -> BTreeMap<String, String> {
    let id = tenant.name();
    let mut config = tenant.config(&format!(":{id}:c"));
    config["annotations"]["org.systemd.property.TimeoutStopUSec"] = "uint64 7000000".into();
    tenant.create(id, &config);
    let mut found = tenant.unit(&format!("{id}-c.scope"));
    tenant.delete(id);
    found.retain(|name, value| {
        *value = value.replace(id, "tenant");
        if name == "DeviceAllow" {
            *value = devices(value);
        }
        let time = name.contains("Timestamp");
        !time && !OTHERS.contains(&name.as_str())
    });
    found
}

/// The lines of allowed devices, in order. runc names terminals by their driver, and before 1.2 it
/// allowed `/dev/net/tun`.
fn devices(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with("/dev/char/10:200 "))
        .map(|line| line.replace("char-pts ", "char-136 "))
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Row for row as runc's, of the same configuration.
fn all_properties_are_runcs(tenant: &Tenant) {
    let reference = match tenant.user() {
        User::Root => Runtime::RUNC,
        User::Person => Runtime::RUNC.by_person(""),
    };
    let other = Tenant::open("", reference)
        .unwrap_or_else(|stop: Stop| panic!("no runc beside it: {stop:?}"));
    let (wanted, found) = (properties(&other), properties(tenant));
    let names = wanted.keys().chain(found.keys());
    let differs = |name: &&String| wanted.get(*name) != found.get(*name);
    let mut rows: Vec<String> = names
        .filter(differs)
        .map(|name| format!("{name}: runc {:?}, found {:?}", wanted.get(name), found.get(name)))
        .collect();
    rows.dedup();
    assert_eq!(rows, [] as [&str; 0]);
    assert_eq!(found["TimeoutStopUSec"], "7s");
    assert_eq!(other.close(), [] as [&str; 0]);
}
