//! The unit of a container from its creation to its end.

use pidone_tests::eventually;
use pidone_tests::systemd::Tenant;

use crate::{ALL, Case, PERSON, case};

pub(crate) const CASES: &[Case] = &[
    case("delete_leaves_no_unit", ALL, delete_leaves_no_unit),
    case("the_unit_ends_with_the_program", ALL, the_unit_ends_with_the_program),
    case("the_unit_ends_when_the_container_is_killed", ALL, ends_when_killed),
    case("a_further_process_is_in_the_unit", ALL, a_further_process_is_in_the_unit),
    case("the_state_knows_the_driver", ALL, the_state_knows_the_driver),
    case("run_leaves_no_unit", ALL, run_leaves_no_unit),
    case("stopping_the_unit_ends_the_container", ALL, stopping_the_unit_ends_the_container),
    case("the_container_sees_its_own_cgroup", ALL, the_container_sees_its_own_cgroup),
    case("called_in_a_user_namespace", PERSON, called_in_a_user_namespace),
];

/// The scope exists as long as the container, with its process in it.
fn delete_leaves_no_unit(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    let properties = tenant.unit(&unit);
    assert_eq!(properties["LoadState"], "loaded");
    assert_eq!(properties["ActiveState"], "active");
    let cgroup = tenant.cgroup_of(id);
    assert!(cgroup.contains(&unit), "{cgroup}");
    tenant.delete(id);
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
    assert!(!tenant.host().cgroup(&cgroup).exists());
}

fn the_unit_ends_with_the_program(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config_of(&place, &["true"]));
    tenant.waits_for_end_of(&unit);
    assert!(eventually(|| tenant.state(id)["status"] == "stopped"));
    tenant.run(&["delete", id]).ok();
}

fn ends_when_killed(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    tenant.run(&["kill", id, "KILL"]).ok();
    tenant.waits_for_end_of(&unit);
    assert!(eventually(|| tenant.state(id)["status"] == "stopped"));
    tenant.run(&["delete", id]).ok();
}

fn a_further_process_is_in_the_unit(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    let pid_file = tenant.text("bundle/exec.pid");
    let mut exec =
        tenant.command(&["exec", "--detach", "--pid-file", &pid_file, id, "sleep", "infinity"]);
    tenant.detached(&mut exec).ok();
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let cgroup = tenant.cgroup_of_process(pid.trim());
    assert_eq!(cgroup, tenant.cgroup_of(id));
    assert!(cgroup.contains(&unit), "{cgroup}");
    tenant.delete(id);
}

/// Clients pass the option when they create a container, and not afterwards.
fn the_state_knows_the_driver(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    tenant.run(&["exec", id, "true"]).ok();
    let frozen = || {
        let events = tenant.host().cgroup(&tenant.cgroup_of(id)).join("cgroup.events");
        std::fs::read_to_string(events).unwrap().contains("frozen 1")
    };
    // runc warns about the permissions of an ordinary user.
    assert_eq!(tenant.run(&["pause", id]).code(), 0);
    assert!(frozen());
    assert_eq!(tenant.state(id)["status"], "paused");
    assert_eq!(tenant.run(&["resume", id]).code(), 0);
    assert!(!frozen());
    assert_eq!(tenant.state(id)["status"], "running");
    let processes = tenant.run(&["ps", "--format", "json", id]).stdout;
    assert!(processes.contains(&tenant.state(id)["pid"].to_string()), "{processes}");
    tenant.run(&["kill", id, "KILL"]).ok();
    assert!(eventually(|| tenant.state(id)["status"] == "stopped"));
    tenant.run(&["delete", id]).ok();
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
}

fn run_leaves_no_unit(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let config = tenant.config_of(&place, &["sh", "-c", "cat /proc/self/cgroup; exit 7"]);
    let bundle = tenant.bundle(&config);
    let finished = tenant.run(&["--systemd-cgroup", "run", "--bundle", &bundle, id]);
    assert_eq!(finished.code(), 7, "{finished:?}");
    assert!(finished.stdout.contains("0::/\n"), "{finished:?}");
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
}

/// As when the machine shuts down.
fn stopping_the_unit_ends_the_container(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let trap = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    tenant.start(id, &tenant.config_of(&place, &["sh", "-c", trap]));
    // systemctl warns about files that runc's second message wrote.
    assert_eq!(tenant.host().systemctl(tenant.user(), &["stop", &unit]).code(), 0);
    assert!(eventually(|| tenant.state(id)["status"] == "stopped"));
    tenant.run(&["delete", id]).ok();
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
}

/// The root of its cgroup namespace is the scope, and not where the runtime was.
fn the_container_sees_its_own_cgroup(tenant: &Tenant) {
    let id = tenant.name();
    let (place, _) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    let seen = tenant.run(&["exec", id, "cat", "/proc/self/cgroup"]).ok();
    assert!(seen.contains("0::/\n"), "{seen}");
    let processes = tenant.run(&["exec", id, "cat", "/sys/fs/cgroup/cgroup.procs"]).ok();
    assert!(processes.lines().any(|pid| pid == "1"), "{processes}");
    tenant.delete(id);
}

/// As podman calls it for an ordinary user: it is root there, the bus is the user's, and the user
/// id that the bus must hear is the one outside.
fn called_in_a_user_namespace(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    let mut config = tenant.config(&place);
    let linux = config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    linux["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "user");
    let bundle = tenant.bundle(&config);
    let state = tenant.text("state");
    let within = |arguments: &[&str]| {
        let unshare = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount"];
        let all = [&unshare[..], &[tenant.runtime().program(), "--root", &state], arguments];
        tenant.detached(&mut tenant.host().command(tenant.user(), &all.concat()))
    };
    within(&["--systemd-cgroup", "create", "--bundle", &bundle, id]).ok();
    assert_eq!(tenant.unit(&unit)["ActiveState"], "active");
    let found = within(&["state", id]).ok();
    let state: serde_json::Value = serde_json::from_str(&found).unwrap();
    let cgroup = tenant.cgroup_of_process(&state["pid"].to_string());
    assert!(cgroup.contains(&format!("/user@2000.service/user.slice/{unit}")), "{cgroup}");
    within(&["delete", "--force", id]).ok();
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
}
