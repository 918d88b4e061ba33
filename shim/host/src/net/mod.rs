//! The network of a container, configured from the host through netlink.
//!
//! A [`Plan`] is a checked configuration. It has the names of the links that it will create on the
//! host, so that a journal can record them before the first one exists.
//!
//! Nothing here runs in the container. A socket belongs to the network namespace in which it was
//! opened. A short-lived thread opens one in the container's namespace, and the caller uses it from
//! outside. The host does not set up the loopback interface: the container's init brings it up with
//! one `ioctl(2)`.

mod address;
mod device;
mod link;
mod naming;
mod parse;
mod route;
mod socket;
mod stats;
mod veth;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use device::{Device, Found};
use parse::Field;
use pidone_config::{Error, Result, config};
use route::Route;
use rustix::io::Errno;
use socket::{Failure, Socket};
pub use stats::InterfaceStats;
use veth::Veth;

/// The interface that every new network namespace has.
const LOOPBACK: &str = "lo";

/// The checked networks, host interfaces and routes of a container.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use pidone_config::config::Network;
/// use pidone_host::net::Plan;
///
/// # fn main() -> pidone_config::Result<()> {
/// let network = Network {
///     kind: "veth".into(),
///     name: "eth0".into(),
///     bridge: "br0".into(),
///     address: "10.0.0.2/24".into(),
///     host_interface_name: "vethbox".into(),
///     ..Network::default()
/// };
/// let plan = Plan::new(&[network], &BTreeMap::new(), &[], "box")?;
/// // Names to record before `Plan::apply`, for `net::remove`.
/// assert_eq!(plan.host_links().collect::<Vec<_>>(), ["vethbox"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    devices: Vec<Device>,
    veths: Vec<Veth>,
    routes: Vec<Route>,
}

impl Plan {
    /// Checks the networks, the interfaces to move and the routes of a configuration. Does not
    /// access the host.
    ///
    /// `devices` maps names of host interfaces to their names in the container. An empty name keeps
    /// the name of the host. In a name that ends in `%d`, a number from 0 replaces the `%d`.
    ///
    /// `id` must be unique among the containers with an interface on this host. Names of links that
    /// are not configured, and the MAC addresses by which [`remove`] recognizes links, are derived
    /// from it, so the same id gives the same.
    ///
    /// For a `loopback` network, addresses and gateways are only checked: the interface has the
    /// addresses of the kernel.
    ///
    /// # Errors
    /// `Code::ConfigInvalid` with the field, as in `networks[1].address`.
    pub fn new(
        networks: &[config::Network],
        devices: &BTreeMap<String, String>,
        routes: &[config::Route],
        id: &str,
    ) -> Result<Self> {
        let mut veths: Vec<Veth> = Vec::new();
        let mut host_names = HashSet::new();
        let mut names = HashSet::from([LOOPBACK.to_owned()]);
        for (index, network) in networks.iter().enumerate() {
            let field = |name| Field { list: "networks", index, name };
            match network.kind.as_str() {
                "loopback" => {
                    field("address").optional(&network.address, parse::ipv4_cidr)?;
                    field("ipv6_address").optional(&network.ipv6_address, parse::ipv6_cidr)?;
                    field("gateway").optional(&network.gateway, parse::ipv4_gateway)?;
                    field("ipv6_gateway").optional(&network.ipv6_gateway, parse::ipv6_gateway)?;
                }
                "veth" => {
                    let veth = Veth::new(index, network, id)?;
                    if !names.insert(veth.name().to_owned()) {
                        return Err(field("name").error(veth.name(), "is in use already"));
                    }
                    if !host_names.insert(veth.host_name().to_owned()) {
                        let field = field("host_interface_name");
                        return Err(field.error(veth.host_name(), "is in use already"));
                    }
                    veths.push(veth);
                }
                kind => return Err(field("type").error(kind, "is neither loopback nor veth")),
            }
        }
        let devices = devices.iter().map(|(host_name, name)| Device::new(host_name, name));
        let devices = devices.collect::<Result<Vec<_>>>()?;
        for name in devices.iter().filter_map(Device::name) {
            if !names.insert(name.to_owned()) {
                return Err(Error::config("net_devices", name, "is in use already"));
            }
        }
        let routes = routes.iter().enumerate().map(|(index, route)| Route::new(index, route));
        Ok(Self { devices, veths, routes: routes.collect::<Result<_>>()? })
    }

    /// Whether nothing must be done on the host, so that [`Plan::apply`] needs no namespace and no
    /// privilege.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.veths.is_empty() && self.devices.is_empty() && self.routes.is_empty()
    }

    /// Returns the names of the links that will exist on the host.
    pub fn host_links(&self) -> impl Iterator<Item = &str> {
        self.veths.iter().map(Veth::host_name)
    }

    /// Creates the links, addresses and routes of the container in the network namespace `netns`.
    ///
    /// `netns` is a pidfd of a process in the namespace, or a namespace file such as
    /// `/proc/PID/ns/net`. The result holds a descriptor of the namespace only if interfaces were
    /// moved. Links of the host are created, and interfaces to move are looked up, in the network
    /// namespace of the calling thread. The kernel deletes the links with the container's
    /// namespace, some time after its last process has ended; [`remove`] deletes them at once.
    ///
    /// Needs `CAP_NET_ADMIN` in both namespaces and `CAP_SYS_ADMIN` to enter the container's; for a
    /// pidfd also the right to `ptrace(2)` the process.
    ///
    /// # Errors
    /// The step and the object in the terms of `ip(8)`, as in
    /// ``address add `10.0.0.2/24 dev eth0` ``. Links that were created are deleted, and interfaces
    /// that were moved are moved back. Links that existed before are not touched.
    pub fn apply(&self, netns: BorrowedFd<'_>) -> Result<MovedDevices> {
        if self.is_empty() {
            return Ok(MovedDevices::default());
        }
        let (mut inside, netns) = Socket::open_in(netns)?;
        let mut host = Socket::open()?;
        let mut made = Made::default();
        match self.build(&mut host, &mut inside, netns.as_fd(), &mut made) {
            Ok(()) if made.devices.is_empty() => Ok(MovedDevices::default()),
            Ok(()) => Ok(MovedDevices { devices: made.devices, netns: Some(netns) }),
            Err(error) => Err(undo(made, netns, error)),
        }
    }

    fn build<'plan>(
        &'plan self,
        host: &mut Socket,
        inside: &mut Socket,
        netns: BorrowedFd<'_>,
        made: &mut Made<'plan>,
    ) -> Result<()> {
        // All are looked up before the first is moved.
        let found = self.devices.iter().map(|device| device.find(host));
        let found: Vec<Found<'_>> = found.collect::<Result<_>>()?;
        for device in found {
            device.take(host, inside, netns, &mut made.devices)?;
        }
        for veth in &self.veths {
            let bridge = veth.bridge(host)?;
            let added = veth.add(host, bridge, netns);
            // After a request without a reply the link may exist.
            if !matches!(added, Err(Failure::Refused(..))) {
                made.veths.push(veth);
            }
            added.map_err(|failure| veth.add_error(failure, host, inside))?;
            veth.configure(host, inside)?;
        }
        // A route needs an interface that is up, and the init has not brought it up yet.
        if self.routes.iter().any(|route| route.interface() == Some(LOOPBACK)) {
            link::index(inside, LOOPBACK)
                .and_then(|index| link::up(inside, index))
                .map_err(|failure| failure.at("link set", format!("{LOOPBACK} up")))?;
        }
        self.routes.iter().try_for_each(|route| route::add(inside, route))
    }
}

/// What was created and moved, to be undone after an error.
#[derive(Default)]
struct Made<'plan> {
    veths: Vec<&'plan Veth>,
    devices: Vec<device::Moved>,
}

/// The interfaces of the host that [`Plan::apply`] has moved into a container.
///
/// They stay there until their namespace ends. The kernel then moves hardware to the initial
/// network namespace, and deletes virtual interfaces. Drop the value once the container runs,
/// because it keeps the namespace alive.
#[derive(Debug, Default)]
pub struct MovedDevices {
    devices: Vec<device::Moved>,
    netns: Option<OwnedFd>,
}

impl MovedDevices {
    /// Moves the interfaces of a container that failed to start back to the network namespace of
    /// the calling thread, and restores their names, their addresses, and whether they are up.
    ///
    /// The processes of the container may have ended. An interface that no longer exists is no
    /// error.
    ///
    /// # Errors
    /// The first error, as in ``link set `eth9 netns host name eth0` ``. The other interfaces are
    /// still moved.
    pub fn give_back(self) -> Result<()> {
        let Some(netns) = self.netns else { return Ok(()) };
        let (mut inside, _) = Socket::open_in(netns.as_fd())?;
        let mut host = Socket::open()?;
        let host_netns = socket::own_namespace()?;
        let mut result = Ok(());
        // In reverse order, since one may have been given a name that another had.
        for device in self.devices.iter().rev() {
            let returned = device.give_back(&mut inside, &mut host, host_netns.as_fd());
            result = result.and(returned);
        }
        result
    }
}

/// Undoes what was done before an error, and returns that error. A further error becomes its hint.
fn undo(made: Made<'_>, netns: OwnedFd, error: Error) -> Error {
    let links = made.veths.iter().map(|veth| (veth.host_name(), veth.host_mac()));
    let removed = remove_links(links);
    let given_back = MovedDevices { devices: made.devices, netns: Some(netns) }.give_back();
    match removed.and(given_back) {
        Ok(()) => error,
        Err(left) => error.with_hint(format!("not cleaned up: {left}")),
    }
}

/// Deletes the links that a [`Plan`] with the same id created on the host.
///
/// Call this at the end of a container, since the kernel deletes the links only later, and after a
/// crash. A link that no longer exists is no error. A link of the same name that is of another type
/// than veth, or has another MAC address, was not created by such a plan, and is not touched.
///
/// # Errors
/// The first error, as in ``link delete `veth0` ``. The other links are still deleted.
pub fn remove<'a>(id: &str, host_links: impl IntoIterator<Item = &'a str>) -> Result<()> {
    remove_links(host_links.into_iter().map(|name| (name, naming::host_mac(id, name))))
}

fn remove_links<'a>(links: impl Iterator<Item = (&'a str, [u8; 6])>) -> Result<()> {
    let mut links = links.peekable();
    if links.peek().is_none() {
        return Ok(());
    }
    let mut host = Socket::open()?;
    let mut result = Ok(());
    for (name, mac) in links {
        let removed = remove_link(&mut host, name, mac);
        result = result.and(removed.map_err(|failure| failure.at("link delete", name)));
    }
    result
}

fn remove_link(host: &mut Socket, name: &str, mac: [u8; 6]) -> std::result::Result<(), Failure> {
    match link::get(host, name)? {
        Some(link) if link.kind == "veth" && link.address == mac => link::delete(host, link.index),
        _ => Ok(()),
    }
}

/// Reads the counters of a container's interfaces, from their ends on the host.
///
/// # Errors
/// ``link get `veth0`: No such device`` if a link does not exist, as after the container's end.
pub fn statistics<'a>(
    host_links: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<InterfaceStats>> {
    let mut links = host_links.into_iter().peekable();
    if links.peek().is_none() {
        return Ok(Vec::new());
    }
    let mut host = Socket::open()?;
    links
        .map(|name| {
            let link = link::get_with_stats(&mut host, name)
                .map_err(|failure| failure.at("link get", name))?;
            let stats = link.and_then(|link| link.stats);
            let stats = stats.ok_or_else(|| Error::system("link get", name, Errno::NODEV))?;
            Ok(InterfaceStats::swapped(name, &stats))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth() -> config::Network {
        config::Network {
            kind: "veth".into(),
            name: "eth0".into(),
            bridge: "br0".into(),
            address: "10.0.0.2/24".into(),
            gateway: "10.0.0.1".into(),
            host_interface_name: "vethx".into(),
            ..config::Network::default()
        }
    }

    fn error(change: impl FnOnce(&mut config::Network)) -> String {
        let mut network = veth();
        change(&mut network);
        let loopback = config::Network { kind: "loopback".into(), ..config::Network::default() };
        let error = Plan::new(&[loopback, network], &BTreeMap::new(), &[], "id").unwrap_err();
        assert_eq!(error.code(), pidone_config::Code::ConfigInvalid);
        error.to_string()
    }

    #[test]
    fn the_loopback_of_the_nsinit_readme_needs_nothing_on_the_host() {
        let network = config::Network {
            kind: "loopback".into(),
            address: "127.0.0.1/0".into(),
            gateway: "localhost".into(),
            mtu: 1500,
            ..config::Network::default()
        };
        let plan = Plan::new(&[network], &BTreeMap::new(), &[], "nsinit").unwrap();
        assert!(plan.is_empty());
        assert_eq!(plan.host_links().count(), 0);
        // An empty plan does not use the descriptor.
        plan.apply(std::io::stdin().as_fd()).unwrap();
    }

    #[test]
    fn a_veth_with_every_field_is_accepted() {
        let network = config::Network {
            mac_address: "02:42:ac:11:00:02".into(),
            ipv6_address: "2001:db8::2/64".into(),
            ipv6_gateway: "2001:db8::1".into(),
            mtu: 1280,
            txqueuelen: 100,
            hairpin_mode: true,
            ..veth()
        };
        let plan = Plan::new(&[network], &BTreeMap::new(), &[], "id").unwrap();
        assert!(!plan.is_empty());
        assert_eq!(plan.host_links().collect::<Vec<_>>(), ["vethx"]);
    }

    #[test]
    fn missing_host_names_are_derived_from_the_id() {
        let open = |name: &str| config::Network {
            name: name.into(),
            host_interface_name: String::new(),
            ..veth()
        };
        let plan = Plan::new(&[open("eth0"), open("eth1")], &BTreeMap::new(), &[], "id").unwrap();
        let links: Vec<_> = plan.host_links().collect();
        assert_eq!(links, [naming::host_name("id", 0), naming::host_name("id", 1)]);
        assert_eq!(
            plan,
            Plan::new(&[open("eth0"), open("eth1")], &BTreeMap::new(), &[], "id").unwrap()
        );
    }

    #[test]
    fn invalid_values_are_refused_with_their_field() {
        let long = "a".repeat(16);
        for (error, field) in [
            (error(|n| n.kind = "macvlan".into()), "type = macvlan"),
            (error(|n| n.kind = String::new()), "type"),
            (error(|n| n.name = String::new()), "name"),
            (error(|n| n.name = "lo".into()), "name = lo"),
            (error(|n| n.name = "../lo".into()), "name = ../lo"),
            (error(|n| n.bridge = String::new()), "bridge"),
            (error(|n| n.bridge.clone_from(&long)), "bridge = aaaaaaaaaaaaaaaa"),
            (error(|n| n.host_interface_name = "a b".into()), "host_interface_name = a b"),
            (error(|n| n.mac_address = "x".into()), "mac_address = x"),
            (error(|n| n.address = String::new()), "address"),
            (error(|n| n.address = "10.0.0.2".into()), "address = 10.0.0.2"),
            (error(|n| n.gateway = "gw".into()), "gateway = gw"),
            (error(|n| n.ipv6_address = "::1".into()), "ipv6_address = ::1"),
            (error(|n| n.ipv6_gateway = "10.0.0.1".into()), "ipv6_gateway = 10.0.0.1"),
            (error(|n| n.mtu = 67), "mtu = 67"),
            (error(|n| n.mtu = 65536), "mtu = 65536"),
        ] {
            let start = format!("configuration `networks[1].{field}`: ");
            assert!(error.starts_with(&start), "{error}");
        }
        let ipv6 = error(|n| (n.mtu, n.ipv6_address) = (1279, "2001:db8::2/64".into()));
        let expected = "configuration `networks[1].mtu = 1279`: is not 0 or from 1280 to 65535";
        assert_eq!(ipv6, expected);
    }

    #[test]
    fn a_name_in_use_is_refused() {
        let other = |name: &str, host: &str| config::Network {
            name: name.into(),
            host_interface_name: host.into(),
            ..veth()
        };
        let twice = |network| {
            Plan::new(&[veth(), network], &BTreeMap::new(), &[], "id").unwrap_err().to_string()
        };
        assert_eq!(
            twice(other("eth0", "vethy")),
            "configuration `networks[1].name = eth0`: is in use already"
        );
        assert_eq!(
            twice(other("eth1", "vethx")),
            "configuration `networks[1].host_interface_name = vethx`: is in use already"
        );
    }

    #[test]
    fn the_address_of_a_loopback_is_checked() {
        let bad = config::Network {
            kind: "loopback".into(),
            address: "127.0.0.1".into(),
            ..config::Network::default()
        };
        let error = Plan::new(&[bad], &BTreeMap::new(), &[], "id").unwrap_err().to_string();
        assert!(error.starts_with("configuration `networks[0].address = 127.0.0.1`: "), "{error}");
    }
}
