//! `linux.cgroupsPath`, which is `slice:prefix:name`.

use pidone_tests::systemd::{Tenant, User};

use crate::{ALL, Case, RUNC, RUNC_PERSON, case};

pub(crate) const CASES: &[Case] = &[
    case("a_dash_in_a_slice_nests_it", ALL, a_dash_in_a_slice_nests_it),
    case("the_root_slice", RUNC, the_root_slice),
    case("empty_parts_of_the_path", RUNC, empty_parts_of_the_path),
    case("an_empty_slice_of_a_user", RUNC_PERSON, an_empty_slice_of_a_user),
    case("wrong_paths_are_refused", RUNC, wrong_paths_are_refused),
    case("wrong_slices_are_refused", RUNC, wrong_slices_are_refused),
    case("wrong_units_are_refused", RUNC, wrong_units_are_refused),
];

/// Where the cgroup of a container with this path is, below the cgroup of the manager.
fn place_of(tenant: &Tenant, path: &str) -> String {
    let id = tenant.name();
    tenant.create(id, &tenant.config(path));
    let cgroup = tenant.cgroup_of(id);
    tenant.delete(id);
    let manager = match tenant.user() {
        User::Root => "",
        User::Person => "/user.slice/user-2000.slice/user@2000.service",
    };
    // crun makes a cgroup below the unit's.
    let cgroup = cgroup.strip_suffix("/container").unwrap_or(&cgroup);
    cgroup.strip_prefix(manager).expect(cgroup).to_owned()
}

fn a_dash_in_a_slice_nests_it(tenant: &Tenant) {
    let name = tenant.name();
    let place = place_of(tenant, &format!("{name}-b-c.slice:p:{name}"));
    let slices = format!("/{name}.slice/{name}-b.slice/{name}-b-c.slice");
    assert_eq!(place, format!("{slices}/p-{name}.scope"));
    let place = place_of(tenant, &format!("{name}.slice:p:{name}"));
    assert_eq!(place, format!("/{name}.slice/p-{name}.scope"));
}

fn the_root_slice(tenant: &Tenant) {
    let name = tenant.name();
    assert_eq!(place_of(tenant, &format!("-.slice:p:{name}")), format!("/p-{name}.scope"));
    // runc documents this form, and refuses it.
    if tenant.runtime().name() == "pidone" {
        assert_eq!(place_of(tenant, &format!("-:p:{name}")), format!("/p-{name}.scope"));
    }
}

fn empty_parts_of_the_path(tenant: &Tenant) {
    let (name, runtime) = (tenant.name(), tenant.runtime().name());
    for (path, unit) in [
        (String::new(), format!("{runtime}-{name}.scope")),
        (format!(":p:{name}"), format!("p-{name}.scope")),
        (format!("system.slice:p:{name}"), format!("p-{name}.scope")),
        (format!("system.slice::{name}"), format!("-{name}.scope")),
        (format!("::{name}"), format!("-{name}.scope")),
        // A name is not the name of the unit.
        (format!("system.slice:p:{name}.scope"), format!("p-{name}.scope.scope")),
    ] {
        assert_eq!(place_of(tenant, &path), format!("/system.slice/{unit}"), "{path:?}");
    }
}

fn an_empty_slice_of_a_user(tenant: &Tenant) {
    let (name, runtime) = (tenant.name(), tenant.runtime().name());
    for (path, unit) in [
        (String::new(), format!("{runtime}-{name}.scope")),
        (format!(":p:{name}"), format!("p-{name}.scope")),
    ] {
        assert_eq!(place_of(tenant, &path), format!("/user.slice/{unit}"), "{path:?}");
    }
}

/// Expects that a path is refused, with these in the message, and that nothing is left.
#[track_caller]
fn is_refused(tenant: &Tenant, path: &str, messages: &[&str]) {
    let id = tenant.name();
    let finished = tenant.try_create(id, &tenant.config(path));
    assert_ne!(finished.code(), 0, "{path:?}");
    let holds = messages.iter().all(|part| finished.stderr.contains(part));
    assert!(holds, "{path:?}: {}", finished.stderr);
    assert_ne!(tenant.run(&["state", id]).code(), 0, "{path:?}");
}

fn wrong_paths_are_refused(tenant: &Tenant) {
    for path in ["/ab", "ab", "a/b", "a:b", "a:b:c:d", ":", ":::", "/a:b", "system.slice"] {
        is_refused(tenant, path, &["expected cgroupsPath to be of format", "slice:prefix:name"]);
    }
}

fn wrong_slices_are_refused(tenant: &Tenant) {
    let name = tenant.name();
    for slice in ["ab", "ab-.slice", "-ab.slice", "a--b.slice"] {
        is_refused(tenant, &format!("{slice}:p:{name}"), &["invalid slice name"]);
    }
    for slice in
        ["a/b.slice", "/ab.slice", ".slice", "ab.service", "..", "../ab.slice", "ab.slice/.."]
    {
        is_refused(tenant, &format!("{slice}:p:{name}"), &["slice"]);
    }
}

/// These are systemd's refusals, or the runtime's before it asks.
fn wrong_units_are_refused(tenant: &Tenant) {
    let name = tenant.name();
    for unit in ["a/b", "../b", "a b", "n@1", "a\nb", "\u{e4}"] {
        is_refused(tenant, &format!("system.slice:p:{name}{unit}"), &[]);
        is_refused(tenant, &format!("system.slice:{name}{unit}:n"), &[]);
    }
    // The name of a unit has at most 255 bytes.
    is_refused(tenant, &format!("system.slice:p:{}", "n".repeat(300)), &[]);
}
