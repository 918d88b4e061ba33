//! Pairs of devices between the host and a container, and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use netlink_sys::protocols::NETLINK_ROUTE;
use pidone_config::config::{Network, Route};
use pidone_host::net::{self, InterfaceStats, Plan};
use pidone_tests::{DEADLINE, eventually};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Case, Namespace, bridge, eth0, ip, lab, links, plan, refusal};

pub(crate) const TESTS: &[Case] = cases![
    has_both_ends_as_configured,
    leaves_the_hairpin_mode_off,
    carries_packets_and_counts_them_from_inside,
    has_ipv6_at_once,
    takes_a_pidfd,
    takes_a_namespace_of_another_user_namespace,
    makes_several_networks_and_their_routes,
    serves_many_containers_at_once,
    refuses_a_name_that_the_host_has,
    refuses_a_name_that_the_namespace_has,
    refuses_a_bridge_that_is_none,
    deletes_what_it_made_before_an_error,
    refuses_what_is_no_namespace,
    removes_its_own_links_only,
    no_descriptor_of_the_namespace_is_kept,
    netlink_messages_of_processes_are_ignored,
];

fn connect(container: &Namespace, address: &str) -> (TcpStream, TcpStream) {
    let listener = container.within(|| TcpListener::bind((address, 0)).unwrap());
    let address: SocketAddr = listener.local_addr().unwrap();
    let host = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    let (inside, _) = listener.accept().unwrap();
    (host, inside)
}

fn has_both_ends_as_configured() {
    let container = lab();
    let network = Network {
        mac_address: "02:42:0a:4d:00:02".into(),
        mtu: 1400,
        txqueuelen: 123,
        hairpin_mode: true,
        ..eth0()
    };
    plan(&[network], &[]).apply(container.file.as_fd()).unwrap();

    let host = &ip("link show vethx")[0];
    assert_eq!(
        (&host["mtu"], &host["txqlen"], &host["master"]),
        (&1400.into(), &123.into(), &"br0".into())
    );
    assert_eq!(host["operstate"], "UP");
    assert_eq!(host["linkinfo"]["info_slave_data"]["hairpin"], true);
    assert!(host["address"].as_str().unwrap().starts_with("fe:"));

    let inside = &container.ip("address show eth0")[0];
    assert_eq!((&inside["mtu"], &inside["txqlen"]), (&1400.into(), &123.into()));
    assert_eq!(
        (&inside["operstate"], &inside["address"]),
        (&"UP".into(), &"02:42:0a:4d:00:02".into())
    );
    let address = &inside["addr_info"][0];
    assert_eq!((&address["local"], &address["prefixlen"]), (&"10.77.0.2".into(), &24.into()));

    let route = &container.ip("route show default")[0];
    assert_eq!((&route["gateway"], &route["dev"]), (&"10.77.0.1".into(), &"eth0".into()));
    // Nothing but the loopback was there before, and it is the init's.
    assert_eq!(container.within(links), ["lo", "eth0"]);
    assert_eq!(container.ip("link show lo")[0]["operstate"], "DOWN");
}

fn leaves_the_hairpin_mode_off() {
    let container = lab();
    plan(&[eth0()], &[]).apply(container.file.as_fd()).unwrap();
    let host = &ip("link show vethx")[0];
    assert_eq!(host["linkinfo"]["info_slave_data"]["hairpin"], false);
    assert_eq!((&host["mtu"], &host["txqlen"]), (&1500.into(), &1000.into()));
}

fn carries_packets_and_counts_them_from_inside() {
    let container = lab();
    plan(&[eth0()], &[]).apply(container.file.as_fd()).unwrap();
    let (mut host, mut inside) = connect(&container, "10.77.0.2");
    let sender = thread::spawn(move || host.write_all(&[7; 300_000]).map(|()| host));
    let mut received = vec![0; 300_000];
    inside.read_exact(&mut received).unwrap();
    assert!(received.iter().all(|byte| *byte == 7));
    sender.join().unwrap().unwrap();

    let counted = |stats: &InterfaceStats| {
        [stats.rx_bytes, stats.rx_packets, stats.tx_bytes, stats.tx_packets]
    };
    let read = || net::statistics(["vethx"]).unwrap().remove(0);
    // Neighbour discovery goes on, so that the three readings need not be equal.
    let before = read();
    let host = &ip("-s link show vethx")[0]["stats64"];
    let after = read();
    assert_eq!(before.name, "vethx");
    let host = [
        &host["tx"]["bytes"],
        &host["tx"]["packets"],
        &host["rx"]["bytes"],
        &host["rx"]["packets"],
    ];
    for (host, (before, after)) in
        host.into_iter().zip(counted(&before).into_iter().zip(counted(&after)))
    {
        assert!((before..=after).contains(&host.as_u64().unwrap()), "{before} {host} {after}");
    }
    assert!(after.rx_bytes > 300_000 && after.tx_bytes < 200_000, "{after:?}");
    assert!(net::statistics([]).unwrap().is_empty());
}

fn has_ipv6_at_once() {
    let container = lab();
    let network = Network {
        address: String::new(),
        gateway: String::new(),
        ipv6_address: "2001:db8:77::2/64".into(),
        ipv6_gateway: "2001:db8:77::1".into(),
        ..eth0()
    };
    plan(&[network], &[]).apply(container.file.as_fd()).unwrap();
    // A tentative address cannot be bound, and there is no time to wait.
    connect(&container, "2001:db8:77::2");
    let route = &container.ip("-6 route show default")[0];
    assert_eq!((&route["gateway"], &route["dev"]), (&"2001:db8:77::1".into(), &"eth0".into()));
}

fn takes_a_pidfd() {
    let container = lab();
    let plan = plan(&[eth0()], &[]);
    plan.apply(container.pidfd().as_fd()).unwrap();
    connect(&container, "10.77.0.2");
}

fn takes_a_namespace_of_another_user_namespace() {
    bridge("br0", &["10.77.0.1/24"]);
    let container = Namespace::with(&["-U", "-r", "-n"]).unwrap();
    plan(&[eth0()], &[]).apply(container.pidfd().as_fd()).unwrap();
    connect(&container, "10.77.0.2");
}

fn makes_several_networks_and_their_routes() {
    let container = lab();
    bridge("br1", &["10.78.0.1/24"]);
    let eth1 = Network {
        name: "eth1".into(),
        bridge: "br1".into(),
        address: "10.78.0.2/24".into(),
        gateway: "localhost".into(),
        ipv6_address: "2001:db8:78::2/64".into(),
        host_interface_name: String::new(),
        ..eth0()
    };
    let loopback = Network { kind: "loopback".into(), ..Network::default() };
    let route = |destination: &str, source: &str, gateway: &str, interface: &str| Route {
        destination: destination.into(),
        source: source.into(),
        gateway: gateway.into(),
        interface_name: interface.into(),
    };
    let routes = [
        route("10.80.0.0/16", "10.78.0.2/24", "10.78.0.1", "eth1"),
        route("10.81.0.0/16", "", "", "eth1"),
        route("10.82.0.0/16", "", "10.77.0.1", ""),
        // The loopback is not up yet when this is called.
        route("10.83.0.0/16", "", "", "lo"),
        route("2001:db8:80::/48", "", "2001:db8:78::1", "eth1"),
    ];
    let plan = plan(&[loopback, eth0(), eth1], &routes);
    plan.apply(container.file.as_fd()).unwrap();

    let names: Vec<_> = plan.host_links().map(str::to_owned).collect();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| links().contains(name)), "{names:?} {:?}", links());
    assert_eq!(ip(&format!("link show {}", names[1]))[0]["master"], "br1");

    let shown = |destination: &str| {
        let routes = container.ip(&format!("route show {destination}"));
        assert_eq!(routes.as_array().unwrap().len(), 1, "{destination}");
        routes[0].clone()
    };
    assert_eq!(shown("default")["dev"], "eth0");
    let by_gateway = shown("10.80.0.0/16");
    assert_eq!(
        (&by_gateway["gateway"], &by_gateway["prefsrc"]),
        (&"10.78.0.1".into(), &"10.78.0.2".into())
    );
    let direct = shown("10.81.0.0/16");
    assert_eq!((&direct["dev"], &direct["scope"]), (&"eth1".into(), &"link".into()));
    assert_eq!(shown("10.82.0.0/16")["dev"], "eth0");
    assert_eq!(shown("10.83.0.0/16")["dev"], "lo");
    let ipv6 = &container.ip("-6 route show 2001:db8:80::/48")[0];
    assert_eq!((&ipv6["gateway"], &ipv6["dev"]), (&"2001:db8:78::1".into(), &"eth1".into()));
    assert_eq!(net::statistics(plan.host_links()).unwrap().len(), 2);
}

fn serves_many_containers_at_once() {
    bridge("br0", &["10.77.0.1/24"]);
    let host = File::open("/proc/thread-self/ns/net").unwrap();
    thread::scope(|scope| {
        for number in 2..10 {
            let host = host.as_fd();
            scope.spawn(move || {
                move_into_link_name_space(host, Some(LinkNameSpaceType::Network)).unwrap();
                let address = format!("10.77.0.{number}");
                let network = Network {
                    address: format!("{address}/24"),
                    host_interface_name: String::new(),
                    ..eth0()
                };
                let container = Namespace::new();
                let plan =
                    Plan::new(&[network], &BTreeMap::new(), &[], &format!("lab{number}")).unwrap();
                plan.apply(container.file.as_fd()).unwrap();
                connect(&container, &address);
                net::remove(&format!("lab{number}"), plan.host_links()).unwrap();
            });
        }
    });
    assert_eq!(links(), ["lo", "br0"]);
}

fn refuses_a_name_that_the_host_has() {
    let container = lab();
    ip("link add vethx type veth peer name other");
    let before = ip("link show vethx")[0]["ifindex"].clone();
    assert_eq!(refusal(&plan(&[eth0()], &[]), &container), "link add `vethx`: File exists");
    assert_eq!(ip("link show vethx")[0]["ifindex"], before);

    // Even one that the same plan made for another container.
    ip("link delete vethx");
    let other = Namespace::new();
    plan(&[eth0()], &[]).apply(other.file.as_fd()).unwrap();
    assert_eq!(refusal(&plan(&[eth0()], &[]), &container), "link add `vethx`: File exists");
    connect(&other, "10.77.0.2");
}

fn refuses_a_name_that_the_namespace_has() {
    let container = lab();
    container.ip("link add eth0 type veth peer name other");
    assert_eq!(
        refusal(&plan(&[eth0()], &[]), &container),
        "link add `eth0`: File exists (in the container's namespace)"
    );
    assert_eq!(container.within(links), ["lo", "other", "eth0"]);
}

fn refuses_a_bridge_that_is_none() {
    let container = lab();
    ip("link add other type veth peer name another");
    let on = |bridge: &str| plan(&[Network { bridge: bridge.into(), ..eth0() }], &[]);
    assert_eq!(
        refusal(&on("br9"), &container),
        "link get `br9`: No such device (the bridge of `vethx` must exist before the container)"
    );
    assert_eq!(
        refusal(&on("other"), &container),
        "link get `other`: is not a bridge but of type veth"
    );
    assert_eq!(refusal(&on("lo"), &container), "link get `lo`: is not a bridge");
}

fn deletes_what_it_made_before_an_error() {
    let container = lab();
    let bad = Network { gateway: "192.0.2.1".into(), ..eth0() };
    let error = refusal(&plan(&[bad], &[]), &container);
    let expected = "route add `default via 192.0.2.1 dev eth0`: Network is unreachable";
    assert!(error.starts_with(expected), "{error}");

    // The second network fails, in its own namespace and on the host.
    let second = Network { name: "eth1".into(), host_interface_name: "vethy".into(), ..eth0() };
    let error = refusal(&plan(&[eth0(), second.clone()], &[]), &container);
    assert_eq!(error, "route add `default via 10.77.0.1 dev eth1`: File exists");
    let second = Network { bridge: "br9".into(), ..second };
    let error = refusal(&plan(&[eth0(), second], &[]), &container);
    assert!(error.starts_with("link get `br9`: No such device"), "{error}");

    let route =
        Route { gateway: "10.77.0.1".into(), interface_name: "eth7".into(), ..Route::default() };
    let error = refusal(&plan(&[eth0()], &[route]), &container);
    assert_eq!(error, "route add `default via 10.77.0.1 dev eth7`: No such device");
    assert_eq!(container.within(links), ["lo"]);

    // And nothing that is left is in the way.
    plan(&[eth0()], &[]).apply(container.file.as_fd()).unwrap();
}

fn refuses_what_is_no_namespace() {
    bridge("br0", &[]);
    let null = File::open("/dev/null").unwrap();
    let error = plan(&[eth0()], &[]).apply(null.as_fd()).unwrap_err().to_string();
    assert_eq!(error, "setns `network namespace`: Invalid argument");
    assert_eq!(links(), ["lo", "br0"]);
}

fn removes_its_own_links_only() {
    let container = lab();
    let plan = plan(&[eth0()], &[]);
    plan.apply(container.file.as_fd()).unwrap();
    let mark = ip("link show vethx")[0]["address"].as_str().unwrap().to_owned();
    // What another container made has another mark.
    net::remove("another", ["vethx"]).unwrap();
    assert!(links().contains(&"vethx".to_owned()));
    net::remove("lab", plan.host_links()).unwrap();
    assert_eq!(links(), ["lo", "br0"]);
    assert_eq!(container.within(links), ["lo"]);
    net::remove("lab", plan.host_links()).unwrap();

    ip("link add vethx type veth peer name other");
    net::remove("lab", ["vethx", "br0", "lo", "gone"]).unwrap();
    assert_eq!(links().len(), 4);
    ip("link delete vethx");
    ip(&format!("link add vethx address {mark} type bridge"));
    net::remove("lab", ["vethx"]).unwrap();
    assert_eq!(links().len(), 3);
}

fn no_descriptor_of_the_namespace_is_kept() {
    let container = lab();
    plan(&[eth0()], &[]).apply(container.pidfd().as_fd()).unwrap();
    drop(container);
    // A descriptor of the namespace that was kept would keep its links too.
    let lives = || links().contains(&"vethx".to_owned());
    assert!(eventually(|| !lives()), "the link outlives its container");
    let error = net::statistics(["vethx"]).unwrap_err().to_string();
    assert_eq!(error, "link get `vethx`: No such device");
}

/// A process in the container sends refusals to the socket of the host in there: a netlink port is
/// easy to guess, the first of a process is its id.
fn netlink_messages_of_processes_are_ignored() {
    let container = Namespace::new();
    let route = Route {
        destination: "10.83.0.0/16".into(),
        interface_name: "lo".into(),
        ..Route::default()
    };
    let plan = plan(&[], &[route]);
    plan.apply(container.file.as_fd()).unwrap();
    let over = AtomicBool::new(false);
    let errors: BTreeSet<_> = thread::scope(|scope| {
        scope.spawn(|| {
            container.enter();
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE).unwrap();
            socket.bind(&netlink_sys::SocketAddr::new(u32::MAX - 7, 0)).unwrap();
            let victim = netlink_sys::SocketAddr::new(std::process::id(), 0);
            while !over.load(Ordering::Relaxed) {
                for sequence in 1..4_u32 {
                    let words = [36, 2, sequence, 0, (-1_i32).cast_unsigned(), 0, 0, 0, 0];
                    let message: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
                    // There is no such port most of the time.
                    let _ = socket.send_to(&message, &victim, libc::MSG_DONTWAIT);
                }
            }
        });
        let apply = |_| plan.apply(container.file.as_fd()).map_err(|error| error.to_string()).err();
        let errors = (0..2000).map(apply).collect();
        over.store(true, Ordering::Relaxed);
        errors
    });
    // The kernel refuses: the route exists.
    let exists = "route add `10.83.0.0/16 dev lo`: File exists".to_owned();
    assert_eq!(errors, BTreeSet::from([Some(exists)]));
}
