//! Interfaces of the host that are moved into a container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::fd::AsFd;

use pidone_config::config::Network;
use pidone_host::net::Plan;
use serde_json::Value;

use super::{Case, Namespace, eth0, ip, lab, links, refusal};

pub(crate) const TESTS: &[Case] = cases![
    moves_an_interface_with_what_it_has,
    keeps_the_name_unless_another_is_given,
    numbers_the_interface_where_the_name_asks_for_it,
    refuses_an_interface_that_cannot_be_moved,
    returns_an_interface_as_it_was,
    a_later_failure_moves_an_interface_back,
];

/// A plan that moves interfaces: names on the host and in the container.
fn moving(devices: &[(&str, &str)]) -> Plan {
    let devices =
        devices.iter().map(|(host, name)| ((*host).to_owned(), (*name).to_owned())).collect();
    Plan::new(&[], &devices, &[], "lab").unwrap()
}

/// The addresses of a link, without those of the kernel's own making.
fn addresses(link: &Value) -> BTreeSet<String> {
    let addresses = link["addr_info"].as_array().unwrap().iter();
    let global = addresses.filter(|address| address["scope"] == "global");
    global
        .map(|address| {
            let text = |key: &str| address[key].as_str().unwrap_or_default().to_owned();
            let length = &address["prefixlen"];
            let lives = &address["valid_life_time"];
            format!("{}/{length} {} {} {lives}", text("local"), text("address"), text("broadcast"))
        })
        .collect()
}

/// A link of the host with addresses of all kinds, and its other end, which is up.
fn movable() -> Value {
    ip("link add near type veth peer name far");
    ip("link set far up");
    ip("link set near mtu 1420 address 02:42:ac:11:00:09 txqueuelen 77 up");
    for address in [
        "192.0.2.5/24 broadcast 192.0.2.255 label near:1",
        "192.0.2.6/24",
        "198.51.100.1 peer 198.51.100.2/32",
        "2001:db8:5::5/64 nodad",
        "2001:db8:6::6/128 nodad noprefixroute",
    ] {
        ip(&format!("address add {address} dev near"));
    }
    // Addresses that expire are not moved, nor are those of the scope of the link.
    ip("address add 192.0.2.7/24 dev near valid_lft 1000 preferred_lft 1000");
    ip("address add 169.254.1.1/16 scope link dev near");
    ip("address show near")[0].clone()
}

fn moves_an_interface_with_what_it_has() {
    let container = Namespace::new();
    let before = movable();
    let moved = moving(&[("near", "wan")]).apply(container.pidfd().as_fd()).unwrap();
    assert_eq!(links(), ["lo", "far"]);
    assert_eq!(container.within(links), ["lo", "wan"]);
    let after = &container.ip("address show wan")[0];
    for key in ["mtu", "address", "txqlen"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(after["operstate"], "UP");
    let mut expected = addresses(&before);
    assert!(expected.iter().any(|address| address.starts_with("192.0.2.7/24")));
    expected.retain(|address| !address.starts_with("192.0.2.7/24"));
    assert_eq!(expected.len(), 5);
    assert_eq!(addresses(after), expected);
    assert!(!after.to_string().contains("169.254.1.1"));
    let mut infos = after["addr_info"].as_array().unwrap().iter();
    let without_route = infos.find(|info| info["local"] == "2001:db8:6::6").unwrap();
    assert_eq!(without_route["noprefixroute"], true, "{without_route}");
    // It can be bound at once.
    container.within(|| TcpListener::bind(("2001:db8:5::5", 0)).unwrap());
    drop(moved);
}

fn keeps_the_name_unless_another_is_given() {
    let container = Namespace::new();
    ip("link add near type veth peer name far");
    moving(&[("near", "")]).apply(container.file.as_fd()).unwrap();
    let link = &container.ip("link show near")[0];
    // As the specification wants it, also of a link that was down.
    assert!(link["flags"].to_string().contains("\"UP\""), "{link}");
}

fn numbers_the_interface_where_the_name_asks_for_it() {
    let container = Namespace::new();
    container.ip("link add eth0 type veth peer name eth2");
    ip("link add near type veth peer name far");
    moving(&[("far", "eth%d"), ("near", "eth%d")]).apply(container.file.as_fd()).unwrap();
    let names: BTreeSet<String> = container.within(links).into_iter().collect();
    let expected = ["lo", "eth0", "eth1", "eth2", "eth3"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
}

fn refuses_an_interface_that_cannot_be_moved() {
    let container = Namespace::new();
    let before = movable();
    assert_eq!(
        refusal(&moving(&[("near", ""), ("other", "")]), &container),
        "link get `other`: No such device"
    );
    ip("link set lo name loop");
    assert_eq!(
        refusal(&moving(&[("loop", "eth0")]), &container),
        "link get `loop`: is a loopback interface, which cannot be moved"
    );
    container.ip("link add wan type veth peer name lan");
    let index = container.ip("link show wan")[0]["ifindex"].clone();
    // The first is moved by then, and back.
    assert_eq!(
        refusal(&moving(&[("far", "first"), ("near", "wan")]), &container),
        "link set `near name wan`: File exists (in the container's namespace)"
    );
    assert_eq!(container.ip("link show wan")[0]["ifindex"], index);
    assert_eq!(addresses(&ip("address show near")[0]), addresses(&before));
    assert_eq!(ip("link show far")[0]["operstate"], "UP");
}

fn returns_an_interface_as_it_was() {
    let container = Namespace::new();
    let before = movable();
    let plan = moving(&[("near", "wan")]);
    let moved = plan.apply(container.pidfd().as_fd()).unwrap();
    // Also when no process is in there any more.
    drop(container);
    moved.give_back().unwrap();
    let after = ip("address show near")[0].clone();
    for key in ["mtu", "address", "txqlen", "operstate"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    let mut expected = addresses(&before);
    expected.retain(|address| !address.starts_with("192.0.2.7/24"));
    assert_eq!(addresses(&after), expected);

    // One that was down is down again; one that is gone is nothing to return.
    ip("link add up type veth peer name down");
    let container = Namespace::new();
    let moved = moving(&[("down", ""), ("near", "")]).apply(container.file.as_fd()).unwrap();
    container.ip("link delete near");
    moved.give_back().unwrap();
    assert!(!ip("link show down")[0]["flags"].to_string().contains("\"UP\""));
    assert_eq!(container.within(links), ["lo"]);
}

fn a_later_failure_moves_an_interface_back() {
    let container = lab();
    let before = movable();
    let devices = BTreeMap::from([("near".to_owned(), "wan".to_owned())]);
    let broken = Network { bridge: "br9".into(), ..eth0() };
    let plan = Plan::new(&[broken], &devices, &[], "lab").unwrap();
    let error = refusal(&plan, &container);
    assert!(error.starts_with("link get `br9`: No such device"), "{error}");
    assert_eq!(addresses(&ip("address show near")[0]).len(), addresses(&before).len() - 1);
    let twice =
        Plan::new(&[eth0()], &BTreeMap::from([("near".to_owned(), "eth0".to_owned())]), &[], "lab");
    let error = twice.unwrap_err().to_string();
    assert_eq!(error, "configuration `net_devices = eth0`: is in use already");
}
