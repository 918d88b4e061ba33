//! Annotations that are properties of the unit: `org.systemd.property.NAME`.

use pidone_tests::Finished;
use pidone_tests::systemd::Tenant;

use crate::{ALL, Case, RUNC, case};

pub(crate) const CASES: &[Case] = &[
    case("annotations_are_properties", ALL, annotations_are_properties),
    case("annotations_go_over_the_defaults", RUNC, annotations_go_over_the_defaults),
    case("wrong_annotations_are_refused", RUNC, wrong_annotations_are_refused),
];

/// Makes a container with one annotation.
fn create(tenant: &Tenant, name: &str, value: &str) -> Finished {
    let (place, _) = tenant.place("c");
    let mut config = tenant.config(&place);
    config["annotations"][format!("org.systemd.property.{name}")] = value.into();
    tenant.try_create(tenant.name(), &config)
}

/// Expects that an annotation gives the unit a property with this value.
#[track_caller]
fn sets(tenant: &Tenant, name: &str, value: &str, property: &str, wanted: &str) {
    create(tenant, name, value).ok();
    let (_, unit) = tenant.place("c");
    let found = tenant.host().property(tenant.user(), &unit, property);
    // The order of a list is not always the same.
    let [found, wanted] = [found.as_str(), wanted].map(|text| {
        let mut words: Vec<&str> = text.split(' ').collect();
        words.sort_unstable();
        words.join(" ")
    });
    assert_eq!(found, wanted, "{name}={value}");
    tenant.delete(tenant.name());
}

/// What podman sends with every container, and other texts of GVariant.
fn annotations_are_properties(tenant: &Tenant) {
    for (name, value, property, wanted) in [
        ("TimeoutStopUSec", "uint64 7000000", "TimeoutStopUSec", "7s"),
        ("CollectMode", "'inactive-or-failed'", "CollectMode", "inactive-or-failed"),
        ("KillMode", "'none'", "KillMode", "none"),
        ("SendSIGHUP", "true", "SendSIGHUP", "yes"),
        ("KillSignal", "int32 2", "KillSignal", "2"),
        ("KillSignal", "2", "KillSignal", "2"),
    ] {
        sets(tenant, name, value, property, wanted);
    }
}

fn annotations_go_over_the_defaults(tenant: &Tenant) {
    for (name, value, property, wanted) in [
        // Seconds become microseconds, whatever number they are.
        ("TimeoutStopSec", "uint64 7", "TimeoutStopUSec", "7s"),
        ("TimeoutStopSec", "7", "TimeoutStopUSec", "7s"),
        ("TimeoutStopSec", "1.5", "TimeoutStopUSec", "1.500000s"),
        ("RuntimeMaxUSec", "@t 5000000", "RuntimeMaxUSec", "5s"),
        ("RuntimeMaxUSec", "uint64 0x1000000", "RuntimeMaxUSec", "16.777216s"),
        ("CPUWeight", "uint64 123", "CPUWeight", "123"),
        ("After", "['basic.target']", "After", "system.slice basic.target"),
        ("Description", "\"mine\"", "Description", "mine"),
        ("Delegate", "false", "Delegate", "no"),
    ] {
        sets(tenant, name, value, property, wanted);
    }
}

/// Each message names the annotation, and nothing is made.
fn wrong_annotations_are_refused(tenant: &Tenant) {
    for (name, value) in [
        ("TimeoutStopSec", "'5'"),
        ("TimeoutStopUSec", "gibberish ("),
        ("TimeoutStopUSec", ""),
        ("Ab", "true"),
        ("", "true"),
        ("Bad-Name", "true"),
        ("Bad1", "true"),
        ("NoSuchThing", "true"),
        ("TimeoutStopUSec", "'text'"),
    ] {
        let finished = create(tenant, name, value);
        assert_ne!(finished.code(), 0, "{name}={value}");
        assert!(finished.stderr.contains(name), "{name}={value}: {}", finished.stderr);
        assert_ne!(tenant.run(&["state", tenant.name()]).code(), 0, "{name}={value}");
    }
}
