//! A runtime that is killed, a unit that exists already, and a host without a bus.

use pidone_tests::systemd::{Tenant, User};
use pidone_tests::{Call, Outcome, Stop, eventually};
use serde_json::json;

use crate::{ALL, Case, OWN, RUNC, case};

pub(crate) const CASES: &[Case] = &[
    case("a_killed_runtime_leaves_no_unit", ALL, a_killed_runtime_leaves_no_unit),
    case("a_runtime_killed_at_any_moment_leaves_no_unit", OWN, killed_at_any_moment),
    Case::new("a_unit_that_runs_is_left_alone", a_unit_that_runs_is_left_alone).ways(ALL),
    Case::new("a_unit_that_failed_is_replaced", a_unit_that_failed_is_replaced).ways(ALL),
    case("without_a_bus", RUNC, without_a_bus),
    case("a_failed_start_leaves_no_unit", ALL, a_failed_start_leaves_no_unit),
];

/// It is killed while a hook runs, when the unit exists.
fn a_killed_runtime_leaves_no_unit(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let mut config = tenant.config(&place);
    let runs = tenant.text("bundle/hook-runs");
    let script = format!("echo $$ >{runs}; exec sleep 600");
    config["hooks"]["createRuntime"] =
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"] }]);
    let bundle = tenant.bundle(&config);
    let mut command = tenant.command(&["--systemd-cgroup", "create", "--bundle", &bundle, id]);
    let create = Call::start(&mut command);
    let hook = || std::fs::read_to_string(&runs).unwrap_or_default().trim().to_owned();
    assert!(eventually(|| !hook().is_empty()), "{create:?}");
    assert_eq!(tenant.unit(&unit)["ActiveState"], "active");
    // The parent of the hook is the runtime, whose id outside of the host is another one.
    // The hook may have ended with it.
    let script = format!(
        "kill -9 $(cut -d' ' -f4 /proc/{hook}/stat) && {{ kill -9 {hook} 2>/dev/null || true; }}",
        hook = hook()
    );
    tenant.host().run(User::Root, &["sh", "-c", &script]).ok();
    create.finish();
    tenant.run(&["delete", "--force", id]);
    tenant.waits_for_end_of(&unit);
}

/// Stops where the reference does not look: runc before 1.2 goes on without a unit.
fn looks_at_units(tenant: &Tenant) -> Outcome {
    let version = tenant.run(&["--version"]).ok();
    if version.starts_with("runc version 1.1.") {
        return Err(Stop::Unable("this runc goes on without a unit".to_owned()));
    }
    Ok(())
}

/// systemd does not see the end of a scope whose process died on the way into it, so `delete` has
/// to end it. That of runc does not.
fn killed_at_any_moment(tenant: &Tenant) {
    let (name, state) = (tenant.name(), tenant.text("state"));
    let program = tenant.runtime().program();
    let bundle = tenant.bundle(&tenant.config(""));
    // A creation takes some 15 ms: the sleeps are the moments at which it ends.
    let script = format!(
        "for n in $(seq 10 80); do \
         {program} --root {state} --systemd-cgroup create --bundle {bundle} {name}-$n \
         </dev/null >/dev/null 2>&1 & sleep $(printf 0.%05d $((n * 25))); \
         kill -9 $! 2>/dev/null; wait $! 2>/dev/null; \
         {program} --root {state} delete --force {name}-$n || echo $n; done"
    );
    let failed = tenant.host().run(tenant.user(), &["sh", "-c", &script]).ok();
    assert_eq!(failed, "");
    let units = || tenant.host().units(tenant.user(), name);
    assert!(eventually(|| units().is_empty()), "{:?}", units());
}

/// Somebody else's: the runtime says so, and neither takes nor stops it.
fn a_unit_that_runs_is_left_alone(tenant: &Tenant) -> Outcome {
    looks_at_units(tenant)?;
    if tenant.runtime().name() == "runc" && tenant.user() == User::Person {
        return Err(Stop::Unable("runc stops the unit of an ordinary user".to_owned()));
    }
    let (place, unit) = tenant.place("c");
    let other = scope(tenant, &unit, &["sleep", "600"]);
    let id = tenant.name();
    let finished = tenant.try_create(id, &tenant.config(&place));
    assert_ne!(finished.code(), 0, "{finished:?}");
    tenant.run(&["delete", "--force", id]);
    assert_eq!(tenant.unit(&unit)["ActiveState"], "active");
    tenant.host().systemctl(tenant.user(), &["stop", &unit]).ok();
    other.finish();
    Ok(())
}

/// A scope that ran out of time stays as failed.
fn a_unit_that_failed_is_replaced(tenant: &Tenant) -> Outcome {
    looks_at_units(tenant)?;
    let (place, unit) = tenant.place("c");
    let other = scope(tenant, &unit, &["--property=RuntimeMaxSec=50ms", "sleep", "600"]);
    other.finish();
    let state = || tenant.host().property(tenant.user(), &unit, "ActiveState");
    assert!(eventually(|| state() == "failed"), "{}", state());
    let id = tenant.name();
    tenant.start(id, &tenant.config(&place));
    assert_eq!(state(), "active");
    tenant.delete(id);
    Ok(())
}

/// Starts a scope that is no container.
fn scope(tenant: &Tenant, unit: &str, rest: &[&str]) -> Call {
    let manager: &[&str] = match tenant.user() {
        User::Root => &["systemd-run"],
        User::Person => &["systemd-run", "--user"],
    };
    let arguments = [manager, &["--quiet", "--scope", "--unit", unit], rest].concat();
    let call = Call::start(&mut tenant.host().command(tenant.user(), &arguments));
    let state = || tenant.host().property(tenant.user(), unit, "ActiveState");
    assert!(eventually(|| matches!(state().as_str(), "active" | "failed")), "{}", state());
    call
}

/// As on nodes in containers: systemd listens on its own socket, for root.
fn without_a_bus(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let bundle = tenant.bundle(&tenant.config(&place));
    let hide = "mount -t tmpfs tmpfs /run/dbus && exec \"$@\"";
    let without = |arguments: &[&str]| {
        let state = tenant.text("state");
        let program = tenant.runtime().program();
        let outer = ["unshare", "--mount", "sh", "-c", hide, "-", program, "--root", &state];
        let all = [&outer, arguments].concat();
        tenant.detached(&mut tenant.host().command(User::Root, &all))
    };
    without(&["--systemd-cgroup", "create", "--bundle", &bundle, id]).ok();
    assert!(tenant.cgroup_of(id).contains(&unit));
    without(&["start", id]).ok();
    without(&["exec", id, "true"]).ok();
    without(&["delete", "--force", id]).ok();
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
}

/// The program does not exist: the failure comes after the unit.
fn a_failed_start_leaves_no_unit(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let bundle = tenant.bundle(&tenant.config_of(&place, &["/no/such/program"]));
    let finished = tenant.run(&["--systemd-cgroup", "run", "--bundle", &bundle, id]);
    assert_ne!(finished.code(), 0, "{finished:?}");
    tenant.waits_for_end_of(&unit);
    assert_ne!(tenant.run(&["state", id]).code(), 0);
}
