//! Network interfaces and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fault::{Check, Fault, each};
use super::{Config, NamespaceType};

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// `loopback` or `veth`. The other fields of a loopback interface are ignored.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name in the container, at most 15 bytes.
    pub name: String,
    /// The bridge on the host.
    pub bridge: String,
    /// The MAC address; if empty, the kernel chooses one.
    pub mac_address: String,
    /// The IPv4 address with its prefix length.
    pub address: String,
    /// The IPv4 default gateway.
    pub gateway: String,
    /// The IPv6 address with its prefix length.
    pub ipv6_address: String,
    /// The IPv6 default gateway.
    pub ipv6_gateway: String,
    /// The MTU of both ends; 0 leaves the kernel's default.
    pub mtu: u32,
    /// The length of the transmit queue; 0 leaves the kernel's default.
    pub txqueuelen: u32,
    /// The name of the end on the host.
    pub host_interface_name: String,
    /// Whether the bridge may send frames back out of the port that they came in on.
    pub hairpin_mode: bool,
}

impl Network {
    /// Returns the loopback interface as libcontainer writes it.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            kind: "loopback".to_owned(),
            address: "127.0.0.1/0".to_owned(),
            gateway: "localhost".to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Check {
        match self.kind.as_str() {
            // libcontainer's files have an address and a gateway here, which it never used.
            "loopback" => return Ok(()),
            "veth" => {}
            kind => return Err(Fault::text("type", kind, "unknown strategy type")),
        }
        check_interface("name", &self.name)?;
        check_interface("bridge", &self.bridge)?;
        if !self.host_interface_name.is_empty() {
            check_interface("host_interface_name", &self.host_interface_name)?;
        }
        if !self.mac_address.is_empty() && !is_mac(&self.mac_address) {
            let reason = "must be six pairs of hexadecimal digits with colons between";
            return Err(Fault::text("mac_address", &self.mac_address, reason));
        }
        check_subnet::<Ipv4Addr>("address", &self.address, 32)?;
        check_address::<Ipv4Addr>("gateway", &self.gateway)?;
        if !self.ipv6_address.is_empty() {
            check_subnet::<Ipv6Addr>("ipv6_address", &self.ipv6_address, 128)?;
        }
        check_address::<Ipv6Addr>("ipv6_gateway", &self.ipv6_gateway)?;
        // The limits of IPv4 (RFC 791) and of the driver (`ETH_MAX_MTU`).
        if self.mtu != 0 && !(68..=65535).contains(&self.mtu) {
            return Err(Fault::new("mtu", self.mtu, "must be from 68 to 65535, or 0"));
        }
        Ok(())
    }
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// The destination: an address with its prefix length.
    pub destination: String,
    /// The preferred source address, with its prefix length.
    pub source: String,
    /// The address of the gateway.
    pub gateway: String,
    /// The name of the interface.
    pub interface_name: String,
}

impl Route {
    pub(super) fn check(&self) -> Check {
        if self.destination.is_empty() && self.source.is_empty() && self.gateway.is_empty() {
            let reason = "needs a destination, a source or a gateway";
            return Err(Fault::new("", "", reason));
        }
        for (field, subnet) in [("destination", &self.destination), ("source", &self.source)] {
            if !subnet.is_empty() && parse_subnet::<IpAddr>(subnet).is_none() {
                return Err(Fault::text(field, subnet, "must be an address and a prefix length"));
            }
        }
        check_address::<IpAddr>("gateway", &self.gateway)?;
        if !self.interface_name.is_empty() {
            check_interface("interface_name", &self.interface_name)?;
        }
        Ok(())
    }
}

impl Config {
    pub(super) fn check_networks(&self) -> Check {
        if self.namespace(NamespaceType::Network).is_none() {
            for (field, given) in [
                ("networks", !self.networks.is_empty()),
                ("routes", !self.routes.is_empty()),
                ("net_devices", !self.net_devices.is_empty()),
            ] {
                if given {
                    return Err(Fault::new(field, "", "needs a network namespace (NEWNET)"));
                }
            }
        }
        each("networks", &self.networks, Network::check)?;
        each("routes", &self.routes, Route::check)?;
        for (name, inside) in &self.net_devices {
            check_interface("net_devices", name)?;
            check_interface("", inside)
                .map_err(|fault| fault.under(&format!("net_devices.{name}")))?;
            if self.net_devices.iter().any(|(other, taken)| other < name && taken == inside) {
                let reason = "is the name of two interfaces";
                return Err(Fault::text(&format!("net_devices.{name}"), inside, reason));
            }
        }
        Ok(())
    }
}

/// Refuses a name that the kernel does not accept for an interface (`dev_valid_name`).
///
/// The name also becomes part of paths below `/sys/class/net`.
pub(super) fn check_interface(field: &str, name: &str) -> Check {
    let reason = match name {
        "" => "missing",
        "." | ".." => "is no name of an interface",
        _ if name.len() > 15 => "longer than 15 bytes",
        _ if name.contains(|c: char| matches!(c, '/' | ':' | '\0' | '%') || c.is_whitespace()) => {
            "has a slash, a colon, a percent sign or a space"
        }
        _ if name.contains(char::is_control) => "has a control character",
        _ => return Ok(()),
    };
    Err(Fault::text(field, name, reason))
}

fn is_mac(text: &str) -> bool {
    let hex = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(hex)
}

/// Parses an address with its prefix length: `172.17.0.101/16`.
fn parse_subnet<A: FromStr + Into<IpAddr>>(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse::<A>().ok()?.into();
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= longest)?;
    Some((address, prefix))
}

fn check_subnet<A: FromStr + Into<IpAddr>>(field: &str, text: &str, longest: u8) -> Check {
    if parse_subnet::<A>(text).is_some() {
        return Ok(());
    }
    let version = if longest == 32 { "IPv4" } else { "IPv6" };
    let reason = format!("must be an {version} address and a prefix length of at most {longest}");
    Err(Fault::text(field, text, reason))
}

fn check_address<A: FromStr>(field: &str, text: &str) -> Check {
    if text.is_empty() || text.parse::<A>().is_ok() {
        return Ok(());
    }
    Err(Fault::text(field, text, "must be an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth() -> Network {
        Network {
            kind: "veth".into(),
            name: "eth0".into(),
            bridge: "docker0".into(),
            address: "172.17.0.101/16".into(),
            gateway: "172.17.42.1".into(),
            mtu: 1500,
            host_interface_name: "vethnsinit".into(),
            ..Network::default()
        }
    }

    #[test]
    fn loopback_and_veth_are_valid() {
        Network::loopback().check().unwrap();
        veth().check().unwrap();
        Network {
            mac_address: "02:42:ac:11:00:65".into(),
            ipv6_address: "fd00::2/64".into(),
            ipv6_gateway: "fd00::1".into(),
            host_interface_name: String::new(),
            ..veth()
        }
        .check()
        .unwrap();
    }

    #[test]
    fn errors_name_the_field() {
        for (network, field) in [
            (Network { kind: "bridge".into(), ..veth() }, "type"),
            (Network { name: String::new(), ..veth() }, "name"),
            (Network { name: "sixteen-bytes-ab".into(), ..veth() }, "name"),
            (Network { bridge: "..".into(), ..veth() }, "bridge"),
            (Network { host_interface_name: "a/b".into(), ..veth() }, "host_interface_name"),
            (Network { mac_address: "02:42:ac:11:00".into(), ..veth() }, "mac_address"),
            (Network { address: "172.17.0.101".into(), ..veth() }, "address"),
            (Network { address: "172.17.0.101/33".into(), ..veth() }, "address"),
            (Network { address: "172.17.0.101/+8".into(), ..veth() }, "address"),
            (Network { address: "fd00::2/64".into(), ..veth() }, "address"),
            (Network { address: String::new(), ..veth() }, "address"),
            (Network { gateway: "localhost".into(), ..veth() }, "gateway"),
            (Network { ipv6_address: "1.2.3.4/8".into(), ..veth() }, "ipv6_address"),
            (Network { mtu: 67, ..veth() }, "mtu"),
            (Network { mtu: 65536, ..veth() }, "mtu"),
        ] {
            let text = crate::Error::from(network.check().unwrap_err()).to_string();
            assert!(text.contains(&format!("`{field} = ")), "{field}: {text}");
        }
    }

    #[test]
    fn routes_need_valid_addresses() {
        let route = |destination: &str, source: &str, gateway: &str| Route {
            destination: destination.into(),
            source: source.into(),
            gateway: gateway.into(),
            interface_name: "eth0".into(),
        };
        route("10.0.0.0/8", "", "").check().unwrap();
        route("", "", "fd00::1").check().unwrap();
        route("", "10.0.0.2/8", "10.0.0.1").check().unwrap();
        for wrong in [
            route("", "", ""),
            route("10.0.0.0", "", ""),
            route("", "x/8", ""),
            route("", "", "10.0.0.1/8"),
            Route { interface_name: "a b".into(), ..route("10.0.0.0/8", "", "") },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
