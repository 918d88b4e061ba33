//! A network of type `veth`: a pair of devices with one end on a bridge of the host and the other
//! in the container.

use std::os::fd::BorrowedFd;

use pidone_config::{Code, Error, Result, config};
use rustix::io::Errno;

use super::link::{self, End, Pair};
use super::parse::{self, Cidr, Field};
use super::route::{self, Route};
use super::socket::{Failure, Socket};
use super::{address, naming};

/// The smallest MTU of an Ethernet device and of IPv4: `ETH_MIN_MTU`.
const MTU_MIN: u32 = 68;
/// The smallest MTU of IPv6: RFC 8200, section 5. Below it the kernel disables IPv6.
const MTU_MIN_IPV6: u32 = 1280;
/// The largest MTU of a device: `ETH_MAX_MTU`.
const MTU_MAX: u32 = 65535;

/// A checked pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Veth {
    host_name: String,
    host_mac: [u8; 6],
    name: String,
    bridge: String,
    mac: Option<[u8; 6]>,
    addresses: Vec<Cidr>,
    gateways: Vec<Route>,
    mtu: u32,
    txqueuelen: u32,
    hairpin: bool,
}

impl Veth {
    /// Checks a network of the configuration.
    pub(super) fn new(index: usize, network: &config::Network, id: &str) -> Result<Self> {
        let field = |name| Field { list: "networks", index, name };
        let name = field("name").required(&network.name, parse::interface)?;
        let bridge = field("bridge").required(&network.bridge, parse::interface)?;
        let mac = field("mac_address").optional(&network.mac_address, parse::mac)?;
        let host_name = field("host_interface_name")
            .optional(&network.host_interface_name, parse::interface)?
            .unwrap_or_else(|| naming::host_name(id, index));

        let ipv4 = field("address").optional(&network.address, parse::ipv4_cidr)?;
        let ipv6 = field("ipv6_address").optional(&network.ipv6_address, parse::ipv6_cidr)?;
        if ipv4.is_none() && ipv6.is_none() {
            let reason = "is missing, as is ipv6_address: a veth needs one of them";
            return Err(field("address").error("", reason));
        }
        let gateway = field("gateway").optional(&network.gateway, parse::ipv4_gateway)?;
        let ipv6_gateway =
            field("ipv6_gateway").optional(&network.ipv6_gateway, parse::ipv6_gateway)?;
        let gateways = [gateway, ipv6_gateway].into_iter().flatten().flatten();
        let gateways = gateways.map(|gateway| Route::default_via(gateway, &name)).collect();

        let mtu_min = if ipv6.is_some() { MTU_MIN_IPV6 } else { MTU_MIN };
        if network.mtu != 0 && !(mtu_min..=MTU_MAX).contains(&network.mtu) {
            let reason = format!("is not 0 or from {mtu_min} to {MTU_MAX}");
            return Err(field("mtu").error(&network.mtu.to_string(), reason));
        }
        Ok(Self {
            host_mac: naming::host_mac(id, &host_name),
            host_name,
            name,
            bridge,
            mac,
            addresses: [ipv4, ipv6].into_iter().flatten().collect(),
            gateways,
            mtu: network.mtu,
            txqueuelen: network.txqueuelen,
            hairpin: network.hairpin_mode,
        })
    }

    /// Returns the name of the end on the host.
    pub(super) fn host_name(&self) -> &str {
        &self.host_name
    }

    /// Returns the MAC address of the end on the host.
    pub(super) fn host_mac(&self) -> [u8; 6] {
        self.host_mac
    }

    /// Returns the name of the end in the container.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the index of the bridge.
    ///
    /// # Errors
    /// The link does not exist, or is not a bridge.
    pub(super) fn bridge(&self, host: &mut Socket) -> Result<u32> {
        let hint = || format!("the bridge of `{}` must exist before the container", self.host_name);
        let bridge = link::get(host, &self.bridge)
            .map_err(|failure| failure.at("link get", &self.bridge))?
            .ok_or_else(|| {
                Error::system("link get", &self.bridge, Errno::NODEV).with_hint(hint())
            })?;
        // The kernel would also add the link to another controller, such as a bond.
        if bridge.kind != "bridge" {
            let reason = match bridge.kind.as_str() {
                "" => "is not a bridge".to_owned(),
                kind => format!("is not a bridge but of type {kind}"),
            };
            return Err(Error::reason(Code::SystemError, "link get", &self.bridge, reason));
        }
        Ok(bridge.index)
    }

    /// Creates the pair, with the host's end on the bridge and up.
    pub(super) fn add(
        &self,
        host: &mut Socket,
        bridge: u32,
        netns: BorrowedFd<'_>,
    ) -> std::result::Result<(), Failure> {
        let pair = Pair {
            host: End { name: &self.host_name, mac: Some(self.host_mac) },
            inside: End { name: &self.name, mac: self.mac },
            netns,
            bridge,
            mtu: self.mtu,
            txqueuelen: self.txqueuelen,
        };
        link::add(host, &pair)
    }

    /// Returns the error of [`Veth::add`] with the name of the end that exists already, which the
    /// kernel does not report.
    pub(super) fn add_error(&self, failure: Failure, host: &Socket, inside: &Socket) -> Error {
        let inside_only = matches!(failure, Failure::Refused(Errno::EXIST, _))
            && link::index(host, &self.host_name).is_err()
            && link::index(inside, &self.name).is_ok();
        if inside_only {
            return failure.at("link add", &self.name).with_hint("in the container's namespace");
        }
        failure.at("link add", &self.host_name)
    }

    /// Configures what cannot be set at the creation: the hairpin mode on the host, and addresses
    /// and routes in the container.
    pub(super) fn configure(&self, host: &mut Socket, inside: &mut Socket) -> Result<()> {
        if self.hairpin {
            link::hairpin(host, &self.host_name).map_err(|failure| {
                failure.at("link set", format!("{} hairpin on", self.host_name))
            })?;
        }
        let index = link::index(inside, &self.name)
            .map_err(|failure| failure.at("link get", &self.name))?;
        link::up(inside, index)
            .map_err(|failure| failure.at("link set", format!("{} up", self.name)))?;
        for &cidr in &self.addresses {
            address::add(inside, index, cidr).map_err(|failure| {
                failure.at("address add", format!("{cidr} dev {}", self.name))
            })?;
        }
        self.gateways.iter().try_for_each(|gateway| route::add(inside, gateway))
    }
}
