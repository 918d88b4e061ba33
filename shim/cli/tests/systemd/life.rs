//! The unit of a container from its creation to its end.

use pidone_tests::systemd::Tenant;

use crate::{BOTH, Case, case};

pub(crate) const CASES: &[Case] = &[case("delete_leaves_no_unit", BOTH, delete_leaves_no_unit)];

/// The scope exists as long as the container, with its process in it.
fn delete_leaves_no_unit(tenant: &Tenant) {
    let name = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(name, &tenant.config(&place));
    let properties = tenant.unit(&unit);
    assert_eq!(properties["LoadState"], "loaded");
    assert_eq!(properties["ActiveState"], "active");
    let cgroup = tenant.cgroup_of(name);
    assert!(cgroup.contains(&unit), "{cgroup}");
    tenant.delete(name);
    assert_eq!(tenant.unit(&unit)["LoadState"], "not-found");
    assert!(!tenant.host().cgroup(&cgroup).exists());
}
