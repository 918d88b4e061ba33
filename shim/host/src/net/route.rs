//! Routes, as in `ip route`.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use pidone_config::{Error, Result, config};

use super::link;
use super::parse::{self, Cidr, Field, family};
use super::socket::Socket;

/// The source addresses of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The source address of the container's own packets: `src` of `ip route`.
    Preferred(IpAddr),
    /// The sources of packets that take the route: `from` of `ip route`.
    Prefix(Cidr),
}

/// A checked route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// The destination, `None` for the default route.
    destination: Option<Cidr>,
    source: Option<Source>,
    gateway: Option<IpAddr>,
    /// The interface. If it is empty, the kernel finds it by the gateway.
    interface: String,
    /// One of the addresses, for the family of the route.
    sample: IpAddr,
}

impl Route {
    /// Returns the default route through a gateway.
    pub(super) fn default_via(gateway: IpAddr, interface: &str) -> Self {
        Self {
            destination: None,
            source: None,
            gateway: Some(gateway),
            interface: interface.to_owned(),
            sample: gateway,
        }
    }

    /// Checks a route of the configuration.
    pub(super) fn new(index: usize, route: &config::Route) -> Result<Self> {
        let field = |name| Field { list: "routes", index, name };
        let destination = field("destination").optional(&route.destination, parse::cidr)?;
        if destination.is_some_and(|destination| !destination.is_network()) {
            let reason = "has bits set behind the prefix";
            return Err(field("destination").error(&route.destination, reason));
        }
        let source = field("source").optional(&route.source, source)?;
        let gateway = field("gateway").optional(&route.gateway, parse::gateway)?;
        let interface =
            field("interface_name").optional(&route.interface_name, parse::interface)?;

        let mut addresses = destination
            .map(|destination| destination.address)
            .into_iter()
            .chain(source.map(Source::address))
            .chain(gateway);
        let Some(sample) = addresses.next() else {
            let reason = "needs a destination, a source or a gateway";
            return Err(Error::config(format!("routes[{index}]"), "", reason));
        };
        if addresses.any(|address| address.is_ipv4() != sample.is_ipv4()) {
            let reason = "mixes IPv4 and IPv6";
            return Err(Error::config(format!("routes[{index}]"), "", reason));
        }
        if gateway.is_none() && interface.is_none() {
            return Err(field("interface_name").error("", "is missing, as is a gateway"));
        }
        let interface = interface.unwrap_or_default();
        Ok(Self { destination, source, gateway, interface, sample })
    }

    /// Returns the interface, `None` if it is not configured.
    pub(super) fn interface(&self) -> Option<&str> {
        Some(self.interface.as_str()).filter(|name| !name.is_empty())
    }

    fn message(&self, index: Option<u32>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.sample),
            destination_prefix_length: self.destination.map_or(0, |cidr| cidr.length),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            // Without a gateway the destination is on the link itself. IPv6 has no scopes.
            scope: if self.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        let attributes = &mut message.attributes;
        if let Some(destination) = self.destination {
            attributes.push(RouteAttribute::Destination(destination.address.into()));
        }
        match self.source {
            Some(Source::Preferred(address)) => {
                attributes.push(RouteAttribute::PrefSource(address.into()));
            }
            Some(Source::Prefix(prefix)) => {
                message.header.source_prefix_length = prefix.length;
                attributes.push(RouteAttribute::Source(prefix.address.into()));
            }
            None => {}
        }
        if let Some(gateway) = self.gateway {
            attributes.push(RouteAttribute::Gateway(gateway.into()));
        }
        attributes.extend(index.map(RouteAttribute::Oif));
        message
    }
}

impl Source {
    fn address(self) -> IpAddr {
        match self {
            Self::Preferred(address) => address,
            Self::Prefix(prefix) => prefix.address,
        }
    }
}

/// Parses a source: an address, perhaps with a prefix length, or for IPv6 a network.
fn source(value: &str) -> std::result::Result<Source, &'static str> {
    if let Ok(address) = value.parse() {
        return Ok(Source::Preferred(address));
    }
    let cidr = parse::cidr(value)?;
    if cidr.is_host() || !cidr.is_network() {
        return Ok(Source::Preferred(cidr.address));
    }
    // For IPv4 the kernel accepts the attribute and ignores it.
    if cidr.address.is_ipv4() {
        return Err("is a network, and IPv4 has no routes by source");
    }
    Ok(Source::Prefix(cidr))
}

/// Formats the route as the arguments of `ip route`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination {
            Some(destination) => write!(f, "{destination}")?,
            None => f.write_str("default")?,
        }
        match self.source {
            Some(Source::Preferred(address)) => write!(f, " src {address}")?,
            Some(Source::Prefix(prefix)) => write!(f, " from {prefix}")?,
            None => {}
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(interface) = self.interface() {
            write!(f, " dev {interface}")?;
        }
        Ok(())
    }
}

/// Adds a route. A route that exists already is an error.
pub(super) fn add(socket: &mut Socket, route: &Route) -> Result<()> {
    let index = route.interface().map(|name| link::index(socket, name)).transpose();
    index
        .and_then(|index| {
            let request = RouteNetlinkMessage::NewRoute(route.message(index));
            socket.request(request, NLM_F_CREATE | NLM_F_EXCL, |_| {})
        })
        .map_err(|failure| failure.at("route add", route.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, source: &str, gateway: &str, interface: &str) -> Result<Route> {
        let route = config::Route {
            destination: destination.into(),
            source: source.into(),
            gateway: gateway.into(),
            interface_name: interface.into(),
        };
        Route::new(2, &route)
    }

    fn text(destination: &str, source: &str, gateway: &str, interface: &str) -> String {
        match route(destination, source, gateway, interface) {
            Ok(route) => route.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_route_needs_a_destination_source_or_gateway() {
        assert_eq!(text("10.1.0.0/16", "", "", "eth0"), "10.1.0.0/16 dev eth0");
        assert_eq!(text("", "10.0.0.2", "", "eth0"), "default src 10.0.0.2 dev eth0");
        assert_eq!(text("", "", "10.0.0.1", ""), "default via 10.0.0.1");
        assert_eq!(
            text("2001:db8:1::/48", "2001:db8::2", "fe80::1", "eth0"),
            "2001:db8:1::/48 src 2001:db8::2 via fe80::1 dev eth0"
        );
        assert_eq!(
            text("", "", "", "eth0"),
            "configuration `routes[2]`: needs a destination, a source or a gateway"
        );
        assert_eq!(
            text("10.1.0.0/16", "", "", ""),
            "configuration `routes[2].interface_name`: is missing, as is a gateway"
        );
    }

    #[test]
    fn invalid_values_are_refused_with_their_field() {
        for (error, field) in [
            (text("10.1.0.0", "", "", "eth0"), "destination = 10.1.0.0"),
            (text("10.1.0.1/16", "", "", "eth0"), "destination = 10.1.0.1/16"),
            (text("", "x", "", "eth0"), "source = x"),
            (text("", "", "10.0.0.1/24", "eth0"), "gateway = 10.0.0.1/24"),
            (text("", "", "localhost", "eth0"), "gateway = localhost"),
            (text("", "", "10.0.0.1", "a/b"), "interface_name = a/b"),
        ] {
            let start = format!("configuration `routes[2].{field}`: ");
            assert!(error.starts_with(&start), "{error}");
        }
        let mixed = "configuration `routes[2]`: mixes IPv4 and IPv6";
        assert_eq!(text("10.1.0.0/16", "", "fe80::1", "eth0"), mixed);
        assert_eq!(text("", "2001:db8::2", "10.0.0.1", "eth0"), mixed);
    }

    #[test]
    fn an_address_is_a_preferred_source_and_an_ipv6_network_a_prefix() {
        assert_eq!(source("10.0.0.2"), Ok(Source::Preferred([10, 0, 0, 2].into())));
        assert_eq!(source("10.0.0.2/24"), source("10.0.0.2"));
        assert_eq!(source("10.0.0.0/32"), source("10.0.0.0"));
        assert_eq!(source("2001:db8::2/64"), source("2001:db8::2"));
        assert_eq!(
            source("2001:db8::/64"),
            Ok(Source::Prefix(parse::cidr("2001:db8::/64").unwrap()))
        );
        assert!(source("10.0.0.0/24").is_err());
    }

    #[test]
    fn routes_are_encoded_for_the_main_table() {
        let direct = route("10.1.0.0/16", "10.0.0.2", "", "eth0").unwrap().message(Some(3));
        assert_eq!(direct.header.scope, RouteScope::Link);
        assert_eq!(direct.header.destination_prefix_length, 16);
        assert_eq!(direct.header.address_family, family([10, 1, 0, 0].into()));
        assert_eq!(
            direct.attributes,
            [
                RouteAttribute::Destination(IpAddr::from([10, 1, 0, 0]).into()),
                RouteAttribute::PrefSource(IpAddr::from([10, 0, 0, 2]).into()),
                RouteAttribute::Oif(3),
            ]
        );
        let by_source = route("", "2001:db8::/64", "fe80::1", "eth0").unwrap().message(None);
        assert_eq!(by_source.header.scope, RouteScope::Universe);
        assert_eq!(by_source.header.destination_prefix_length, 0);
        assert_eq!(by_source.header.source_prefix_length, 64);
        assert_eq!(by_source.header.table, 254);
        assert_eq!(by_source.attributes.len(), 2);
    }
}
