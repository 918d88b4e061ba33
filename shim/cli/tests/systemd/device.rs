//! Devices, which systemd and a BPF program refuse.

use pidone_tests::systemd::{Tenant, User};

use crate::{Case, RUNC, case};

pub(crate) const CASES: &[Case] =
    &[case("devices_are_refused_after_a_reload", RUNC, devices_are_refused_after_a_reload)];

/// The whole way to a device of the kernel's memory in the container: the node can be made, and not
/// opened; `/dev/zero` can be.
fn devices_are_refused_after_a_reload(tenant: &Tenant) {
    let id = tenant.name();
    let (place, unit) = tenant.place("c");
    tenant.start(id, &tenant.config(&place));
    let found = tenant.unit(&unit);
    assert_eq!(found["DevicePolicy"], "strict");
    assert!(found["DeviceAllow"].contains("/dev/char/1:5 rwm"), "{}", found["DeviceAllow"]);
    let opens = |name: &str, numbers: &str| {
        let script = format!(
            "[ -e /tmp/{name} ] || mknod /tmp/{name} c {numbers} || exit 9; \
             head -c 1 /tmp/{name} >/tmp/read 2>/tmp/error && exit 0; cat /tmp/error >&2; exit 1"
        );
        tenant.run(&["exec", id, "sh", "-c", &script])
    };
    let check = |when: &str| {
        let refused = opens("mem", "1 1");
        assert_eq!(refused.code(), 1, "{when}: {refused:?}");
        assert!(refused.stderr.contains("Operation not permitted"), "{when}: {refused:?}");
        assert_eq!(opens("zero", "1 5").code(), 0, "control, {when}");
    };
    check("at first");
    tenant.host().systemctl(User::Root, &["daemon-reload"]).ok();
    check("after a reload");
    assert_eq!(tenant.unit(&unit)["DevicePolicy"], "strict");
    tenant.delete(id);
}
